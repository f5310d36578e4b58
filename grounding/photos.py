"""Lists of photos: all photos in a folder, or those that a file lists."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grounding.images import EXTENSIONS

TABLES = (".jsonl", ".csv", ".parquet")  # manifests with columns


@dataclass(frozen=True)
class Photos:
    """Photos by name, in order, each once.

    Args:
        folder: the folder that relative names start at.
        names: paths relative to ``folder``, or absolute ones.
        sizes: (height, width) in pixels to which photos are stretched before anything else (see
            `grounding.images.stretch`), for those names that need it.
    """

    folder: Path
    names: list[str]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def photos_below(path: str) -> Photos:
    """Find all photos in a folder and its subfolders, sorted by name.

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
    """Read a list of photos, whose relative paths start at the list's own folder.

    The file is ``.txt`` with one path a line, or a table that `rows` reads, with the paths in the column ``image``.

    Raises:
        ValueError: there is no such file, it is of another kind, a line is malformed, or no photo is listed.
    """
    manifest = Path(path).expanduser()
    if manifest.suffix.lower() not in (".txt", *TABLES):
        raise ValueError(f"{path}: a manifest is a file .txt, {', '.join(TABLES)}")
    if manifest.suffix.lower() == ".txt":
        names = dict.fromkeys(line for _, line in _lines(manifest))
    else:
        names = dict.fromkeys(row["image"] for _, row in rows(manifest))
    if not names:
        raise ValueError(f"{path}: lists no photo")
    return Photos(manifest.parent, list(names))


def rows(manifest: Path, *columns: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a table of photos row by row: the number of each line, from 1, and its values by column.

    Args:
        manifest: a file ``.jsonl`` with one object a line, ``.csv`` with a header, or ``.parquet``. Its column
            ``image`` holds the path of each photo.
        columns: names of the columns that must be there beside ``image``.

    Raises:
        ValueError: there is no such file, it is of another kind, it lacks a column, or a line is malformed.
    """
    readers = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    if not manifest.is_file():
        raise ValueError(f"{manifest}: no such file")
    if manifest.suffix.lower() not in readers:
        raise ValueError(f"{manifest}: a table of photos is a file {', '.join(readers)}")
    yield from readers[manifest.suffix.lower()](manifest, ("image", *columns))


def _lines(manifest: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1."""
    if not manifest.is_file():
        raise ValueError(f"{manifest}: no such file")
    try:
        with manifest.open(encoding="utf-8-sig") as lines:
            yield from ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{manifest}: cannot be read: {error}") from None


def _json_rows(manifest: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(manifest):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{manifest}, line {number}: not JSON: {error}") from None
        name = values.get("image") if isinstance(values, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f'{manifest}, line {number}: expected an object with "image", a path')
        _check_columns(f"{manifest}, line {number}", list(values), columns)
        yield number, values


def _csv_rows(manifest: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            _check_columns(str(manifest), table.fieldnames or (), columns)
            for row in table:
                if not row["image"]:
                    raise ValueError(f"{manifest}, line {table.line_num}: no image")
                yield table.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{manifest}: cannot be read: {error}") from None


def _parquet_rows(manifest: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f'{manifest}: needs pyarrow: pip install "phrase-grounding[train]"') from None
    try:
        with pyarrow.parquet.ParquetFile(manifest) as table:
            _check_columns(str(manifest), table.schema_arrow.names, columns)
            found = (row for batch in table.iter_batches() for row in batch.to_pylist())
            for number, row in enumerate(found, 1):
                if not isinstance(row["image"], str) or not row["image"]:
                    raise ValueError(f"{manifest}, line {number}: no image")
                yield number, row
    except pyarrow.ArrowException as error:
        raise ValueError(f"{manifest}: cannot be read: {' '.join(str(error).split())}") from None


def _check_columns(where: str, found: Sequence[str], expected: tuple[str, ...]) -> None:
    for column in expected:
        if column not in found:
            raise ValueError(f"{where}: expected a column {column}, found {', '.join(found) or 'none'}")
