"""Which photos: all below a folder, or those that a file lists."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grounding.images import EXTENSIONS


@dataclass(frozen=True)
class Photos:
    """Photos by name, in order, each once; a name is a path from ``folder``, or a whole one."""

    folder: Path
    names: list[str]


def photos_below(path: str) -> Photos:
    """All photos in a folder and its subfolders, by name.

    Raises:
        ValueError: there is no such folder, or no photo in it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{path}: no such folder")
    names = [
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder)
        for name in files
        if Path(name).suffix.lower() in EXTENSIONS
    ]
    if not names:
        raise ValueError(f"{path}: no photo in the folder or below it ({', '.join(EXTENSIONS)})")
    return Photos(folder, sorted(names))


def photos_listed(path: str) -> Photos:
    """The photos that a file lists, with paths from the file's own folder.

    The file is ``.txt``, one path a line, ``.jsonl``, one object a line with the key ``image``, or ``.csv``, with a
    column ``image``.

    Raises:
        ValueError: there is no such file, it is of another kind, a line makes no sense, or it lists nothing.
    """
    manifest = Path(path).expanduser()
    readers = {".txt": _of_text, ".jsonl": _of_json, ".csv": _of_csv}
    if not manifest.is_file():
        raise ValueError(f"{path}: no such file")
    if manifest.suffix.lower() not in readers:
        raise ValueError(f"{path}: a manifest is a file {', '.join(readers)}")
    try:
        names = dict.fromkeys(readers[manifest.suffix.lower()](manifest))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    if not names:
        raise ValueError(f"{path}: lists no photo")
    return Photos(manifest.parent, list(names))


def _lines(manifest: Path) -> Iterator[tuple[int, str]]:
    with manifest.open(encoding="utf-8-sig") as lines:
        yield from ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _of_text(manifest: Path) -> Iterator[str]:
    return (line for _, line in _lines(manifest))


def _of_json(manifest: Path) -> Iterator[str]:
    for number, line in _lines(manifest):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{manifest}, line {number}: not JSON: {error}") from None
        name = values.get("image") if isinstance(values, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f'{manifest}, line {number}: expected an object with "image", a path')
        yield name


def _of_csv(manifest: Path) -> Iterator[str]:
    with manifest.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if "image" not in (rows.fieldnames or ()):
            raise ValueError(f"{manifest}: expected a column image, found {', '.join(rows.fieldnames or ()) or 'none'}")
        for row in rows:
            if not row["image"]:
                raise ValueError(f"{manifest}, line {rows.line_num}: no image")
            yield row["image"]
