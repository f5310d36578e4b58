"""Tar files of photos with what belongs to each, as WebDataset writes them, read as streams."""

import glob
import itertools
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO

from grounding.messages import one_line

PHOTO_EXTENSIONS = ("jpg", "jpeg", "png", "webp")  # of photos in shards, as in WebDataset


def find_shards(path: str) -> tuple[str, ...]:
    """Find tar files, local ones or URLs that fsspec opens.

    Args:
        path: paths or URLs, separated by ``::`` or commas; ``{000..123}`` stands for a range of numbers, ``{a,b}`` for
            either text, and ``*`` or ``?`` in a local path for any text or character.

    Raises:
        ValueError: a local shard does not exist, or the path names none.
    """
    if os.path.isfile(path):
        return (path,)
    urls: list[str] = []
    # "simplecache::" belongs to the URL behind it, and a comma in braces to the braces.
    for pattern in re.split(r"(?<!cache)::|,(?![^{}]*\})", path):
        for url in _expand_braces(pattern.strip()):
            urls += [url] if "://" in url else _find_local(url)
    if not urls:
        raise ValueError(f"{path!r} names no shard")
    return tuple(urls)


def keyed_files(url: str, *, with_photos: bool = True) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield each key of a shard, in order, with its files by extension; without photos, only .json has content.

    Raises:
        ValueError: the shard cannot be read, or it is truncated.
    """
    import fsspec

    try:
        with (
            fsspec.open(url, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive,
        ):
            for key, members in itertools.groupby(_members(archive), key=lambda member: member[0]):
                yield (
                    key,
                    {
                        extension: file.read() if file and (with_photos or extension == "json") else b""
                        for _, extension, file in members
                    },
                )
    except FileNotFoundError:
        raise ValueError(f"{url}: no such shard") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, ImportError, ValueError) as error:
        raise ValueError(f"{url}: cannot be read to its end: {one_line(error)}") from None


def _expand_braces(pattern: str) -> list[str]:
    """All texts that a pattern with braces stands for, in order.

    >>> _expand_braces("{a,b}/{08..10}.tar")
    ['a/08.tar', 'a/09.tar', 'a/10.tar', 'b/08.tar', 'b/09.tar', 'b/10.tar']
    """
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern] if pattern else []
    inside = braces[1]
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        low, high = numbers.groups()
        width = len(low) if low.startswith("0") else 0
        texts = [f"{number:0{width}d}" for number in range(int(low), int(high) + 1)]
    elif "," in inside:
        texts = inside.split(",")
    else:
        texts = []
    if not texts:
        raise ValueError(f"{pattern}: {{{inside}}} is no range such as {{000..123}}")
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [before + text + rest for text in texts for rest in _expand_braces(after) or [""]]


def _find_local(pattern: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    if not found:
        raise ValueError(f"{pattern}: no such shard")
    return found


class _Member(tarfile.TarInfo):
    """A member of a tar file; unlike the standard one's, its truncated or broken header is an error, not an end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # a block of zeros is the regular end
            raise tarfile.ReadError("it breaks off" if len(buf) < tarfile.BLOCKSIZE else str(error)) from None


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    """Yield key, extension and content of a shard's files in order; a content must be read before the next one."""
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps them all in memory
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if member.isfile() and stem:  # unlike ._a.jpg, in which macOS keeps attributes of a.jpg
            yield folder + slash + stem, extension.lower(), archive.extractfile(member)
