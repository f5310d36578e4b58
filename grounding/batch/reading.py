"""Read the rows of an archive one by one: tables, tar files as WebDataset writes them, Hugging Face's datasets."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from grounding.batch.rows import TEXTS
from grounding.messages import one_line
from grounding.shards import PHOTO_EXTENSIONS, find_shards, keyed_files

TABLES = (".jsonl", ".csv", ".parquet")
COLUMNS = ("id", "image", *TEXTS)  # all others are left out
Row = dict[str, Any]


def read_rows(path: str) -> Iterator[Row]:
    """Yield the rows of an archive in order, see `grounding.batch.ground_batch`.

    A row that cannot be read holds the reason as ``error``, and the rows after it go on. So does one row in place of
    the rest of a local tar file that breaks off. Relative paths of photos start at the folder of their table.

    Args:
        path: a table ``.jsonl``, ``.csv`` or ``.parquet``; tar files (see `grounding.shards.find_shards`), whose
            photos have captions in a file ``.json`` with the columns of a row, or in ``.txt``; or a folder that
            ``datasets.Dataset.save_to_disk`` wrote. Files may be URLs of fsspec.

    Raises:
        ValueError: there is no such file, it is of another kind, or it cannot be read to its end.
    """
    try:
        if is_dataset(path):
            yield from _load_dataset(path)
        elif (suffix := _suffix(path)) in TABLES:
            folder = path.rpartition("/")[0] if "://" in path else str(Path(path).expanduser().parent)
            for row in {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[suffix](path):
                yield row | {"image": resolve_image(row["image"], folder)} if "image" in row else row
        elif ".tar" in path:
            yield from _shard_rows(path)
        else:
            raise ValueError(f"{path}: an archive is a file {', '.join(TABLES)}, tar files, or a folder of datasets")
    except Exception as error:  # Arrow and the file systems of fsspec have errors of their own
        message = one_line(error)
        raise ValueError(message if path in message else f"{path}: cannot be read: {message}") from None


def count_rows(path: str) -> int | None:
    """The number of rows, where it can be told without reading photos; None elsewhere.

    Raises:
        ValueError: there is no such file, or it cannot be read.
    """
    if is_dataset(path):
        return len(_load_dataset(path))
    suffix = _suffix(path)
    if suffix == ".parquet":
        with _open_parquet(path) as table:
            return int(table.metadata.num_rows)
    if suffix == ".jsonl":
        with _open(path, "rb") as lines:
            return sum(1 for line in lines if line.strip())
    return sum(1 for _ in read_rows(path)) if suffix == ".csv" else None


def fingerprints(path: str) -> list[str]:
    """What tells whether the files of an archive have changed, one text for each file.

    It is a digest of the content of local tables of text; of other local files, which may hold photos, the size and the
    time of the last change; of a URL, what its file system knows, such as a size and an ETag.

    Raises:
        ValueError: there is no such file.
    """
    if is_dataset(path):
        files = [str(file) for file in sorted(Path(path).expanduser().glob("*")) if not file.name.startswith("cache-")]
    else:
        files = [path] if _suffix(path) in TABLES else list(find_shards(path))
    try:
        return [_fingerprint(file) for file in files]
    except Exception as error:  # of any type: each file system of fsspec has its own
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _fingerprint(file: str) -> str:
    if "://" in file:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(file)
        return str(filesystem.ukey(path))
    local = Path(file).expanduser()
    if _suffix(file) in (".jsonl", ".csv"):
        with local.open("rb") as content:
            return file_digest(content, blake2b).hexdigest()[:16]
    status = local.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def is_dataset(path: str) -> bool:
    """Whether a path is a folder that Hugging Face's ``datasets`` saved."""
    names = ("dataset_info.json", "dataset_dict.json")
    return "://" not in path and any((Path(path).expanduser() / name).is_file() for name in names)


def resolve_image(image: Any, folder: str) -> Any:
    """A relative path as one that starts at the folder of its table; anything else as it is."""
    if isinstance(image, Mapping) and image.get("bytes") is None:
        return {**image, "path": resolve_image(image.get("path"), folder)}
    if not isinstance(image, str) or not image or "://" in image:
        return image
    return f"{folder}/{image}" if "://" in folder else str(Path(folder) / Path(image).expanduser())


def _suffix(path: str) -> str:
    return Path(path.rpartition("/")[2]).suffix.lower()


def _open(path: str, mode: str) -> Any:
    import fsspec

    if "://" not in path and not Path(path).expanduser().is_file():
        raise ValueError(f"{path}: no such file")
    # Bytes that are no UTF-8 are kept, and the row that holds them has an error, or a path with such a name.
    options = {} if "b" in mode else {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    return fsspec.open(path if "://" in path else str(Path(path).expanduser()), mode, **options).open()


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
        return {name: values[name] for name in COLUMNS if name in values}
    except (ValueError, RecursionError) as error:
        return {"error": f"{where}: not JSON: {one_line(error)}"}


def _csv_rows(path: str) -> Iterator[Row]:
    """Rows of a table with a header; a column of several captions holds them as a JSON list."""
    with _open(path, "r") as lines:
        table = csv.DictReader(lines)
        names = table.fieldnames or ()
        if "image" not in names:
            raise ValueError(f"{path}: expected a column image, found {', '.join(names) or 'none'}")
        while True:
            try:
                values = next(table)
            except StopIteration:
                return
            except csv.Error as error:  # the next line may be well again
                yield {"error": f"after line {table.line_num}: cannot be read: {one_line(error)}"}
                continue
            row: Row = {name: values[name] for name in COLUMNS if values.get(name)}
            for column in ("captions", "phrases"):
                if str(row.get(column, "")).lstrip().startswith("["):
                    row[column] = _parsed_list(row[column])
            yield row | ({"id": _number(row["id"])} if "id" in row else {})


def _parsed_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> int | str:
    """An id of a CSV file: a whole number where it is written as one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 and str(int(text)) == text else text


@contextmanager
def _open_parquet(path: str) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f'{path}: needs pyarrow: pip install "phrase-grounding[archives]"') from None
    try:
        with _open(path, "rb") as file, parquet.ParquetFile(file) as table:
            yield table
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _parquet_rows(path: str) -> Iterator[Row]:
    with _open_parquet(path) as table:
        names = [name for name in COLUMNS if name in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=64, columns=names):  # rows may hold photos
            yield from batch.to_pylist()


def _shard_rows(path: str) -> Iterator[Row]:
    for url in find_shards(path):
        try:
            for key, files in keyed_files(url):
                yield _shard_row(key, files)
        except ValueError as error:
            if "://" in url:  # the network may be to blame, and the same command can try again
                raise
            yield {"error": one_line(error)}


def _shard_row(key: str, files: Mapping[str, bytes]) -> Row:
    row = {"id": key, **(_parsed(files["json"], f"{key}.json") if "json" in files else {})}
    if "txt" in files and not any(row.get(column) for column in TEXTS):
        row["caption"] = files["txt"].decode("utf-8", "replace").strip()
    extension = next((extension for extension in PHOTO_EXTENSIONS if extension in files), None)
    if extension is None:
        return {"error": f"{key}: no photo with this key", **row}
    return row | {"image": {"bytes": files[extension], "path": f"{key}.{extension}"}}


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
    return dataset.select_columns([name for name in COLUMNS if name in dataset.features])
