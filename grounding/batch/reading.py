"""Read the rows of an archive one by one: tables, tar files as WebDataset writes them, Hugging Face's datasets."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grounding.messages import one_line
from grounding.shards import PHOTO_EXTENSIONS, find_shards, keyed_files

TABLES = (".jsonl", ".csv", ".parquet")
Row = dict[str, Any]


def read_rows(path: str) -> Iterator[Row]:
    """Yield the rows of an archive in order, see `grounding.batch.ground_batch`.

    A row that cannot be read holds the reason as ``error``, and the rows after it go on. Relative paths of photos start
    at the folder of their table.

    Args:
        path: a table ``.jsonl``, ``.csv`` or ``.parquet``; tar files (see `grounding.shards.find_shards`), whose
            photos have captions in a file ``.json`` with the columns of a row, or in ``.txt``; or a folder that
            ``datasets.Dataset.save_to_disk`` wrote. Files may be URLs of fsspec.

    Raises:
        ValueError: there is no such file, or it is of another kind.
    """
    if is_dataset(path):
        yield from _dataset_rows(path)
    elif (suffix := _suffix(path)) in TABLES:
        folder = path.rpartition("/")[0] if "://" in path else str(Path(path).expanduser().parent)
        for row in {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[suffix](path):
            yield row | {"image": resolve_image(row["image"], folder)} if "image" in row else row
    elif ".tar" in path:
        yield from _shard_rows(path)
    else:
        raise ValueError(f"{path}: an archive is a file {', '.join(TABLES)}, tar files, or a folder of datasets")


def count_rows(path: str) -> int | None:
    """The number of rows, where it is told without reading photos; None elsewhere.

    Raises:
        ValueError: there is no such file.
    """
    if is_dataset(path):
        return len(_load_dataset(path))
    suffix = _suffix(path)
    if suffix == ".parquet":
        with _open(path, "rb") as file:
            return int(_parquet().ParquetFile(file).metadata.num_rows)
    return sum(1 for _ in read_rows(path)) if suffix in TABLES else None


def sources(path: str) -> list[str]:
    """The files that the rows come from.

    Raises:
        ValueError: there is none.
    """
    if is_dataset(path):
        return [str(file) for file in sorted(Path(path).expanduser().rglob("*")) if file.is_file()]
    return [path] if _suffix(path) in TABLES else list(find_shards(path))


def is_dataset(path: str) -> bool:
    """Whether a path is a folder that Hugging Face's ``datasets`` saved."""
    return "://" not in path and (Path(path).expanduser() / "dataset_info.json").is_file()


def _suffix(path: str) -> str:
    return Path(path.rpartition("/")[2]).suffix.lower()


def resolve_image(image: Any, folder: str) -> Any:
    """A relative path as one that starts at the folder of its table; anything else as it is."""
    if not isinstance(image, str) or not image or "://" in image:
        return image
    return f"{folder}/{image}" if "://" in folder else str(Path(folder) / Path(image).expanduser())


def _open(path: str, mode: str) -> Any:
    import fsspec

    try:
        if "://" not in path and not Path(path).expanduser().is_file():
            raise ValueError(f"{path}: no such file")
        options = {} if "b" in mode else {"encoding": "utf-8-sig", "newline": ""}
        return fsspec.open(str(Path(path).expanduser()) if "://" not in path else path, mode, **options).open()
    except (OSError, ImportError) as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _json_rows(path: str) -> Iterator[Row]:
    with _open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parsed(line, f"line {number}")


def _parsed(text: bytes, where: str) -> Row:
    try:
        values = json.loads(text.decode("utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        return values
    except (ValueError, RecursionError) as error:
        return {"error": f"{where}: not JSON: {one_line(error)}"}


def _csv_rows(path: str) -> Iterator[Row]:
    """Rows of a table with a header; a column of several captions holds them as a JSON list."""
    try:
        with _open(path, "r") as lines:
            table = csv.DictReader(lines)
            names = table.fieldnames or ()
            if "image" not in names:
                raise ValueError(f"{path}: expected a column image, found {', '.join(names) or 'none'}")
            for values in table:
                row: Row = {name: value for name, value in values.items() if isinstance(name, str) and value}
                for column in ("captions", "phrases"):
                    if str(row.get(column, "")).lstrip().startswith("["):
                        row[column] = _parsed_list(row[column])
                yield row | ({"id": _number(row["id"])} if "id" in row else {})
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _parsed_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> int | str:
    """An id of a CSV file: a whole number where it is written as one."""
    return int(text) if text.isascii() and text.isdecimal() and str(int(text)) == text else text


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError('Parquet needs pyarrow: pip install "phrase-grounding[train]"') from None
    return pyarrow.parquet


def _parquet_rows(path: str) -> Iterator[Row]:
    from pyarrow import ArrowException

    try:
        with _open(path, "rb") as file:
            for batch in _parquet().ParquetFile(file).iter_batches(batch_size=64):  # rows may hold photos
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _shard_rows(path: str) -> Iterator[Row]:
    for url in find_shards(path):
        for key, files in keyed_files(url):
            extension = next((extension for extension in PHOTO_EXTENSIONS if extension in files), None)
            row = _parsed(files["json"], f"{key}.json") if "json" in files else {}
            if "json" not in files and "txt" in files:
                row = {"caption": files["txt"].decode("utf-8", "replace").strip()}
            if extension is None:
                yield row | {"id": row.get("id", key), "error": f"{key}: no photo with this key"}
            else:
                photo = {"bytes": files[extension], "path": f"{key}.{extension}"}
                yield row | {"id": row.get("id", key), "image": photo}


def _load_dataset(path: str) -> Any:
    try:
        from datasets import Image, load_from_disk
    except ImportError:
        raise ValueError(f'{path}: needs datasets: pip install "phrase-grounding[archives]"') from None
    try:
        dataset = load_from_disk(str(Path(path).expanduser()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None
    if isinstance(dataset, Mapping):
        raise ValueError(f"{path}: holds the splits {', '.join(dataset)}: name the folder of one")
    for name, feature in dataset.features.items():
        if isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def _dataset_rows(path: str) -> Iterator[Row]:
    yield from _load_dataset(path)
