"""Tagged photos: in a manifest, in a folder with a file of tags, or in tar files that are read as streams."""

import glob
import itertools
import json
import logging
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grounding.messages import one_line
from grounding.photos import photos_below, rows

log = logging.getLogger(__name__)

HELD_OUT = 50  # one photo in so many is held out where no photos for validation are given
SHARD_EXTENSIONS = ("jpg", "jpeg", "png", "webp")  # of photos in shards, as in WebDataset


@dataclass(frozen=True, slots=True)
class TaggedPhoto:
    """A photo and its tags, the most important first."""

    name: str  # its path in the folder of photos, or its key in a shard with the extension
    tags: tuple[str, ...]  # as written, without repetition; at most the ``first`` ones
    size: tuple[int, int] | None = None  # (height, width) of the original, where the file has another aspect ratio
    source: str = ""  # who tagged it; the absence of a tag that its source never gives is no evidence
    phrases: tuple[tuple[str, ...], ...] = ()  # the words of each phrase of its captions; words are written as tags are


@dataclass(frozen=True)
class TaggedPhotos:
    """Tagged photos in files; a name is a path from ``folder``, or an absolute one."""

    folder: Path
    photos: list[TaggedPhoto]
    missing: tuple[str, ...]  # names that are listed but have no file; they are not among the photos

    def __len__(self) -> int:
        return len(self.photos)

    def path(self, index: int) -> Path:
        """The path of a photo's file."""
        return self.folder / self.photos[index].name


@dataclass(frozen=True)
class TaggedShards:
    """Tagged photos in tar files, each ``key.jpg`` beside its ``key.json``; local files or URLs that fsspec opens."""

    urls: tuple[str, ...]
    first: int | None  # number of a photo's tags that are used; None: all

    def read(self, url: str) -> Iterator[tuple[TaggedPhoto, bytes | str]]:
        """Yield the photos of one shard in order, each with the content of its file, or the reason why there is none.

        Raises:
            ValueError: the shard cannot be read, or it is truncated.
        """
        for key, members in itertools.groupby(_members(url, with_photos=True), key=lambda member: member[0]):
            yield _shard_photo(key, {extension: content for _, extension, content in members}, self.first)

    def tags(self, url: str) -> Iterator[TaggedPhoto]:
        """Yield one shard's usable photos in order without reading their pixels.

        Raises:
            ValueError: the shard cannot be read, or it is truncated.
        """
        for key, members in itertools.groupby(_members(url, with_photos=False), key=lambda member: member[0]):
            photo, content = _shard_photo(key, {extension: content for _, extension, content in members}, self.first)
            if not isinstance(content, str):
                yield photo


def read_tag_manifest(path: str, *, first: int | None = 5, folder: str | None = None) -> TaggedPhotos:
    """Read a manifest of tagged photos; they keep its order.

    Args:
        path: a file ``.jsonl``, ``.csv`` or ``.parquet`` with ``image`` and ``tags`` (a list, or text with commas or
            semicolons between tags); ``width`` and ``height`` of the originals where the files have another aspect
            ratio; ``source`` where photos of several sources are listed together; and ``phrases``, lists of words,
            where captions have been read (not in ``.csv``).
        first: number of a photo's tags that are used; None: all.
        folder: relative to which paths are read; by default the manifest's own folder.

    Raises:
        ValueError: the manifest cannot be read, a row makes no sense, it has no tag, or none of its photos exists.
    """
    _check_first(first)
    manifest = Path(path).expanduser()
    photos = []
    for number, row in rows(manifest, "tags"):
        try:
            photos.append(_tagged_photo(row["image"], row, first))
        except ValueError as error:
            raise ValueError(f"{manifest}, line {number}: {error}") from None
    return existing_photos(manifest, manifest.parent if folder is None else Path(folder).expanduser(), photos)


def read_tag_folder(path: str, *, tags: str, first: int | None = 5) -> TaggedPhotos:
    """Find the photos in a folder and its subfolders that a file of tags names; they keep the file's order.

    Args:
        path: the folder; photos that the file does not name are left out, and their number is logged.
        tags: a text file with one photo a line: its path in the folder, with or without extension, a tab, and tags
            separated by commas.
        first: number of a photo's tags that are used; None: all.

    Raises:
        ValueError: the folder or the file cannot be read, a line makes no sense, there is no tag, or none of the
            photos exists.
    """
    _check_first(first)
    names = photos_below(path).names
    by_stem = {os.path.splitext(name)[0]: name for name in names}
    ambiguous = {stem for stem, count in Counter(os.path.splitext(name)[0] for name in names).items() if count > 1}
    known = set(names)
    table = Path(tags).expanduser()
    try:
        lines = table.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{tags}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    photos = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        name = name.strip()
        if not tab or not name:
            raise ValueError(f"{table}, line {number}: expected a photo, a tab and tags, got {line[:60]!r}")
        if name not in known and name in ambiguous:
            raise ValueError(f"{table}, line {number}: {name} may be several photos; write its extension, too")
        photos.append(_tagged_photo(name if name in known else by_stem.get(name, name), {"tags": text}, first))
    found = existing_photos(table, Path(path).expanduser(), photos)
    without = len(known.difference(photo.name for photo in photos))
    if without:
        log.warning("%s: %d of %d photos have no line in %s and are left out", path, without, len(names), tags)
    return found


def hold_out(data: TaggedPhotos) -> tuple[TaggedPhotos, TaggedPhotos]:
    """Split photos into those for training and a fiftieth for validation, chosen by their names alone.

    Raises:
        ValueError: there are too few photos.
    """
    is_held = [zlib.crc32(photo.name.encode("utf-8", "replace")) % HELD_OUT == 0 for photo in data.photos]
    if not any(is_held) or all(is_held):
        raise ValueError(f"{len(data)} photos are too few to hold some out: name photos with data@validation=…")
    training, validation = (
        replace(data, photos=[photo for photo, held in zip(data.photos, is_held, strict=True) if held == wanted])
        for wanted in (False, True)
    )
    return training, validation


def find_shards(path: str, *, first: int | None = 5) -> TaggedShards:
    """Find tar files of tagged photos, such as WebDataset writes.

    Args:
        path: paths or URLs, separated by ``::`` or commas; ``{000..123}`` stands for a range of numbers, ``{a,b}`` for
            either text, and ``*`` or ``?`` in a local path for any text or character.
        first: number of a photo's tags that are used; None: all.

    Raises:
        ValueError: a local shard does not exist, or the path names none.
    """
    _check_first(first)
    if os.path.isfile(path):
        return TaggedShards((path,), first)
    urls: list[str] = []
    # "simplecache::" belongs to the URL behind it, and a comma in braces to the braces.
    for pattern in re.split(r"(?<!cache)::|,(?![^{}]*\})", path):
        for url in _expand_braces(pattern.strip()):
            urls += [url] if "://" in url else _find_local(url)
    if not urls:
        raise ValueError(f"{path!r} names no shard")
    return TaggedShards(tuple(urls), first)


def _check_first(first: int | None) -> None:
    if first is not None and first < 1:
        raise ValueError(f"first must be the number of tags of a photo to keep, from 1, or null for all, got {first}")


def _tagged_photo(name: str, values: Mapping[str, Any], first: int | None) -> TaggedPhoto:
    """The photo that a row's values describe."""
    written = values["tags"]
    if written is None:
        written = []
    if isinstance(written, str):
        written = re.split("[,;]", written)
    if not isinstance(written, list) or not all(isinstance(tag, str) for tag in written):
        raise ValueError(f"tags are a list of texts, or one text with commas between them, got {repr(written)[:60]}")
    tags = tuple(dict.fromkeys(tag.strip() for tag in written if tag.strip()))
    source = values.get("source") or ""
    if not isinstance(source, str):
        raise ValueError(f"source is a text, got {repr(source)[:60]}")
    size = _parse_size(values.get("height"), values.get("width"))
    return TaggedPhoto(name, tags[:first], size, source, _parse_phrases(values.get("phrases")))


def _parse_phrases(written: Any) -> tuple[tuple[str, ...], ...]:
    """Phrases that are lists of words, without repetition; none where nothing is written."""
    if written in (None, ""):
        return ()
    phrases = written if isinstance(written, list) else [written]
    if not all(isinstance(phrase, list) and all(isinstance(word, str) for word in phrase) for phrase in phrases):
        raise ValueError(f'phrases are lists of words, such as [["red", "shirt"]], got {repr(written)[:60]}')
    return tuple(dict.fromkeys(tuple(phrase) for phrase in phrases))


def _parse_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as whole numbers, or None where both are missing."""
    if height in (None, "") and width in (None, ""):
        return None
    try:
        size = int(height), int(width)
        if min(size) >= 1:
            return size
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"height and width are whole numbers from 1, both or neither, got {height!r} and {width!r}")


def existing_photos(source: Path, folder: Path, photos: list[TaggedPhoto]) -> TaggedPhotos:
    """The photos of a folder that exist, in their order, and the names of the others.

    Raises:
        ValueError: there is no tag, or none of the photos exists; the message names ``source``, which lists them.
    """
    if not any(photo.tags for photo in photos):
        raise ValueError(f"{source}: none of its {len(photos)} photos has a tag")
    found = [photo for photo in photos if os.path.isfile(folder / photo.name)]
    if not found:
        raise ValueError(f"{source}: none of its {len(photos)} photos is there, such as {folder / photos[0].name}")
    existing = {photo.name for photo in found}
    return TaggedPhotos(folder, found, tuple(photo.name for photo in photos if photo.name not in existing))


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


def _members(url: str, *, with_photos: bool) -> Iterator[tuple[str, str, bytes]]:
    """Yield key, extension and content of a shard's files in order; without photos, only .json files have content."""
    import fsspec

    try:
        with (
            fsspec.open(url, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive,
        ):
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps them all in memory
                folder, slash, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if not member.isfile() or not stem:  # such as ._a.jpg, in which macOS keeps attributes of a.jpg
                    continue
                extension = extension.lower()
                file = archive.extractfile(member) if with_photos or extension == "json" else None
                yield folder + slash + stem, extension, file.read() if file else b""
    except FileNotFoundError:
        raise ValueError(f"{url}: no such shard") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, ImportError, ValueError) as error:
        raise ValueError(f"{url}: cannot be read to its end: {one_line(error)}") from None


def _shard_photo(key: str, files: dict[str, bytes], first: int | None) -> tuple[TaggedPhoto, bytes | str]:
    """The photo of a key's files, and its content or why there is none."""
    extension = next((extension for extension in SHARD_EXTENSIONS if extension in files), None)
    if extension is None:
        return TaggedPhoto(key, ()), f"no photo with this key ({', '.join(SHARD_EXTENSIONS)})"
    name = f"{key}.{extension}"
    if "json" not in files:
        return TaggedPhoto(name, ()), f"no {key}.json beside it"
    try:
        values = json.loads(files["json"])
        if not isinstance(values, dict) or "tags" not in values:
            raise ValueError('expected an object with "tags"')
        return _tagged_photo(name, values, first), files[extension]
    except (ValueError, RecursionError) as error:
        return TaggedPhoto(name, ()), f"{key}.json: {error}"
