"""Photos with tags: listed in a file, in a folder with a file of tags, or in tar files that are read as streams."""

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

HELD_OUT = 50  # one in so many photos is held out, where there are none for validation
IN_SHARDS = ("jpg", "jpeg", "png", "webp")  # extensions of photos there, as WebDataset has them


@dataclass(frozen=True, slots=True)
class Tagged:
    """A photo and its tags, in order, most telling first."""

    name: str  # as the manifest, the folder or the shard says it
    tags: tuple[str, ...]  # as written, each once; only the first ones
    size: tuple[int, int] | None = None  # (height, width) of the original, where the file is a squeezed copy
    source: str = ""  # who tagged it; the lack of a tag that its source never gives tells nothing


@dataclass(frozen=True)
class TaggedPhotos:
    """Photos that lie in files; a name is a path from ``folder``, or a whole one."""

    folder: Path
    photos: list[Tagged]
    missing: tuple[str, ...]  # listed, but no file is there: not among the photos

    def __len__(self) -> int:
        return len(self.photos)

    def path(self, index: int) -> Path:
        return self.folder / self.photos[index].name


@dataclass(frozen=True)
class TaggedShards:
    """Photos in tar files, each ``key.jpg`` beside its ``key.json``, local or wherever fsspec reaches."""

    urls: tuple[str, ...]
    first: int | None  # tags of a photo; None for all

    def read(self, url: str) -> Iterator[tuple[Tagged, bytes | str]]:
        """The photos of one shard in order, undecoded; for one that cannot be used, text says why there is none.

        Raises:
            ValueError: the shard cannot be read, or it breaks off.
        """
        for key, members in itertools.groupby(_members(url, with_photos=True), key=lambda member: member[0]):
            yield _of_shard(key, {extension: content for _, extension, content in members}, self.first)

    def tags(self, url: str) -> Iterator[Tagged]:
        """The tags of one shard's photos in order, of those alone that can be used; photos are passed over.

        Raises:
            ValueError: the shard cannot be read, or it breaks off.
        """
        for key, members in itertools.groupby(_members(url, with_photos=False), key=lambda member: member[0]):
            photo, content = _of_shard(key, {extension: content for _, extension, content in members}, self.first)
            if not isinstance(content, str):
                yield photo


def tagged_listed(path: str, *, first: int | None, folder: str | None = None) -> TaggedPhotos:
    """The photos and tags that a file lists, in its order.

    Args:
        path: a file ``.jsonl``, ``.csv`` or ``.parquet`` with ``image``, ``tags`` (a list, or text with commas or
            semicolons between tags), where files are squeezed ``width`` and ``height`` of the originals, and where
            the photos of several sources are listed together, ``source``.
        first: how many tags of a photo are kept; None for all.
        folder: where paths start; by default the file's own folder.

    Raises:
        ValueError: the file cannot be read, a row makes no sense, there is no tag in it, or no photo is there.
    """
    _check_first(first)
    manifest = Path(path).expanduser()
    photos = []
    for number, row in rows(manifest, "tags"):
        try:
            photos.append(_tagged(row["image"], row, first))
        except ValueError as error:
            raise ValueError(f"{manifest}, line {number}: {error}") from None
    return _those_there(manifest, manifest.parent if folder is None else Path(folder).expanduser(), photos)


def tagged_folder(path: str, *, tags: str, first: int | None) -> TaggedPhotos:
    """The photos in a folder and its subfolders that a file of tags names, in its order.

    Args:
        path: the folder; its photos that the file does not name are left out, and counted in the log.
        tags: a text file, a photo a line: its path in the folder, with or without extension, a tab, and tags with
            commas between them.
        first: how many tags of a photo are kept; None for all.

    Raises:
        ValueError: the folder or the file cannot be read, a line makes no sense, there is no tag, or no photo is there.
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
        photos.append(_tagged(name if name in known else by_stem.get(name, name), {"tags": text}, first))
    found = _those_there(table, Path(path).expanduser(), photos)
    without = len(known.difference(photo.name for photo in photos))
    if without:
        log.warning("%s: %d of %d photos have no line in %s and are left out", path, without, len(names), tags)
    return found


def hold_out(data: TaggedPhotos) -> tuple[TaggedPhotos, TaggedPhotos]:
    """Photos for training, and a fiftieth for validation, chosen by their names."""
    is_held = [zlib.crc32(photo.name.encode("utf-8", "replace")) % HELD_OUT == 0 for photo in data.photos]
    if not any(is_held) or all(is_held):
        raise ValueError(f"{len(data)} photos are too few to hold some out: name photos with data@validation=…")
    training, validation = (
        replace(data, photos=[photo for photo, held in zip(data.photos, is_held, strict=True) if held == wanted])
        for wanted in (False, True)
    )
    return training, validation


def tagged_shards(path: str, *, first: int | None) -> TaggedShards:
    """Photos and tags in tar files, such as WebDataset writes.

    Args:
        path: paths or URLs, with ``::`` or commas between them; ``{000..123}`` stands for a range of numbers, ``{a,b}``
            for either, and ``*`` or ``?`` in a local path for any text.
        first: how many tags of a photo are kept; None for all.

    Raises:
        ValueError: a local shard is not there, or the path names none.
    """
    _check_first(first)
    if os.path.isfile(path):
        return TaggedShards((path,), first)
    urls: list[str] = []
    # Between "simplecache::" and its URL there is no list; commas in braces are of the braces.
    for pattern in re.split(r"(?<!cache)::|,(?![^{}]*\})", path):
        for url in _expanded(pattern.strip()):
            urls += [url] if _is_remote(url) else _local(url)
    if not urls:
        raise ValueError(f"{path!r} names no shard")
    return TaggedShards(tuple(urls), first)


def _check_first(first: int | None) -> None:
    if first is not None and first < 1:
        raise ValueError(f"first must be the number of tags of a photo to keep, from 1, or null for all, got {first}")


def _tagged(name: str, values: Mapping[str, Any], first: int | None) -> Tagged:
    """A photo from the values of its row."""
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
    return Tagged(name, tags[:first], _size(values.get("height"), values.get("width")), source)


def _size(*sides: Any) -> tuple[int, int] | None:
    """(height, width), where they are given."""
    if all(side is None or side == "" for side in sides):
        return None
    try:
        height, width = (int(side) for side in sides)
        if min(height, width) >= 1:
            return height, width
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"height and width are whole numbers from 1, both or neither, got {sides[0]!r} and {sides[1]!r}")


def _those_there(source: Path, folder: Path, photos: list[Tagged]) -> TaggedPhotos:
    if not any(photo.tags for photo in photos):
        raise ValueError(f"{source}: none of its {len(photos)} photos has a tag")
    found = [photo for photo in photos if os.path.isfile(folder / photo.name)]
    if not found:
        raise ValueError(f"{source}: none of its {len(photos)} photos is there, such as {folder / photos[0].name}")
    there = {photo.name for photo in found}
    return TaggedPhotos(folder, found, tuple(photo.name for photo in photos if photo.name not in there))


def _expanded(pattern: str) -> list[str]:
    """All texts that a pattern with braces stands for, in order."""
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
    return [before + text + rest for text in texts for rest in _expanded(after) or [""]]


def _is_remote(url: str) -> bool:
    return "://" in url


def _local(pattern: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    if not found:
        raise ValueError(f"{pattern}: no such shard")
    return found


class _Member(tarfile.TarInfo):
    """A member of a tar file; one that breaks off between members, or has junk there, is no file that just ends."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # zeros: the end, as tar writes it
            raise tarfile.ReadError("it breaks off" if len(buf) < tarfile.BLOCKSIZE else str(error)) from None


def _members(url: str, *, with_photos: bool) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension and content of a shard's files in order; of photos the content only where it is wanted."""
    import fsspec

    try:
        with (
            fsspec.open(url, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive,
        ):
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it remembers all of them
                folder, slash, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if not member.isfile() or not stem:  # ._a.jpg is what macOS knows of a.jpg
                    continue
                extension = extension.lower()
                file = archive.extractfile(member) if with_photos or extension == "json" else None
                yield folder + slash + stem, extension, file.read() if file else b""
    except FileNotFoundError:
        raise ValueError(f"{url}: no such shard") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, ImportError, ValueError) as error:
        raise ValueError(f"{url}: cannot be read to its end: {one_line(error)}") from None


def _of_shard(key: str, files: dict[str, bytes], first: int | None) -> tuple[Tagged, bytes | str]:
    """A photo from the files of its key."""
    extension = next((extension for extension in IN_SHARDS if extension in files), None)
    if extension is None:
        return Tagged(key, ()), f"no photo with this key ({', '.join(IN_SHARDS)})"
    name = f"{key}.{extension}"
    if "json" not in files:
        return Tagged(name, ()), f"no {key}.json beside it"
    try:
        values = json.loads(files["json"])
        if not isinstance(values, dict) or "tags" not in values:
            raise ValueError('expected an object with "tags"')
        return _tagged(name, values, first), files[extension]
    except (ValueError, RecursionError) as error:
        return Tagged(name, ()), f"{key}.json: {error}"
