"""Rows of an archive, each a photo with its captions, and the answer to each: no files of results and no settings here.

`ground_batch` does everything for some rows. A runner that keeps several processes busy calls its two halves itself:
`read_row`, which needs no network, and `ground_rows`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from grounding.images import decode, load_image
from grounding.inputs import CaptionedPhoto, Proposer, read_photo, read_texts
from grounding.messages import describe_failure, one_line, printable
from grounding.pipeline import Grounder
from grounding.records import Grounding

Id = int | str
TEXTS = ("phrases", "captions", "caption")  # columns of a row's texts, the first that a row has counts


@dataclass(frozen=True, eq=False)
class ReadRow:
    """A row whose photo is read, with proposals, and whose captions are parsed; or the error that prevented it."""

    id: Id
    image: str  # as the row names it; empty for a photo without a name
    captioned: CaptionedPhoto | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Reader:
    """The parts of a grounder that read rows: without a network, so that other processes can have them."""

    prepare: Callable[[Tensor], Tensor]
    propose: Proposer

    def __call__(self, values: Mapping[str, Any]) -> ReadRow:
        """Read a row, see `read_row`."""
        return read_row(self, values)


def ground_batch(grounder: Grounder, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ground the captions of some photos.

    Args:
        grounder: the model with its settings.
        rows: values by column. ``image`` is a path, a URL of fsspec, the bytes of an image file, or a mapping of
            ``bytes`` and ``path``, as Hugging Face has it. ``captions`` is a list of texts, or ``caption`` is one, or
            ``phrases`` is a list of phrases that no parser looks at. ``id`` is a whole number or a text; where there is
            none, it is the number of the row, from 0.

    Returns:
        An answer for each row, in their order: ``id``; ``image``, its name; ``size``, (height, width) of the photo in
        pixels; ``captions`` and ``phrases`` as in `grounding.records.Grounding.to_dict`; and ``error``, one line. A row
        that cannot be answered has no size, captions and phrases, and others have no error. Nothing is raised for a bad
        row.
    """
    reader = Reader(grounder.attention.classifier.prepare, grounder.propose)
    read = (read_row(reader, with_id(number, row)) for number, row in enumerate(rows))
    return [answer_to(row, grounding) for row, grounding in ground_rows(grounder, read)]


def with_id(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its id, which is the number of the row where it has none, or none that Parquet could hold.

    >>> with_id(3, {"image": "dog.jpg", "id": None})
    {'image': 'dog.jpg', 'id': 3}
    """
    identity = values.get("id")
    if identity is None:
        return {**values, "id": number}
    if isinstance(identity, int | np.integer) and not isinstance(identity, bool) and abs(int(identity)) < 2**63:
        return {**values, "id": int(identity)}
    if isinstance(identity, str) and printable(identity) == identity:
        return {**values}
    message = f"id is a whole number of 64 bits or a text, got {repr(identity)[:60]}"
    return {**values, "id": number, "error": values.get("error") or message}


def read_row(reader: Reader, values: Mapping[str, Any]) -> ReadRow:
    """Read a row's photo, propose regions in it, and parse its captions. Any error is that of the row alone.

    Args:
        reader: prepares photos, and proposes regions.
        values: as a row of `ground_batch` that has an ``id``; ``error`` is why the row could not be read, where that is
            known already.
    """
    identity, image = values["id"], values.get("image")
    row = ReadRow(identity, name_of(image))
    try:
        if values.get("error"):
            raise ValueError(values["error"])
        column, texts = _texts(values)
        captions, phrases = read_texts(texts, are_phrases=column == "phrases")
        photo = read_photo(load_row_image(image), reader.prepare, reader.propose)
        return replace(row, captioned=CaptionedPhoto(photo, captions, phrases))
    except Exception as error:  # of any type: libraries that decode photos raise many
        return replace(row, error=describe_failure(row.image or f"row {identity}", error))


def ground_rows(grounder: Grounder, rows: Iterable[ReadRow]) -> Iterator[tuple[ReadRow, Grounding | str]]:
    """Ground rows that are read: each with its grounding, or the error that prevented it, in their order."""
    waiting: deque[ReadRow] = deque()  # rows that are taken, and have no result yet

    def photos() -> Iterator[CaptionedPhoto | Exception]:
        for row in rows:
            waiting.append(row)
            yield row.captioned or ValueError(row.error)

    for result in grounder.ground_read(photos()):
        row = waiting.popleft()
        if isinstance(result, Grounding):
            yield row, result
        else:
            yield row, row.error or describe_failure(row.image or f"row {row.id}", result)


def answer_to(row: ReadRow, grounding: Grounding | str) -> dict[str, Any]:
    """The answer to a row, see `ground_batch`, from its grounding or the error that prevented it."""
    names = ("size", "captions", "phrases")
    if isinstance(grounding, str):
        return {"id": row.id, "image": row.image, **dict.fromkeys(names), "error": grounding}
    values = grounding.to_dict()
    return {"id": row.id, "image": row.image, **{name: values[name] for name in names}, "error": None}


def name_of(image: object) -> str:
    """The path or URL of a row's photo; empty where it has none."""
    if isinstance(image, Mapping):
        return name_of(image.get("path"))
    return printable(image) if isinstance(image, str | Path) else ""


def _texts(values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The column of a row's texts, and the texts; a row without any text has an error."""
    for column in TEXTS:
        texts = values.get(column)
        if texts is None or (texts == "" and column != "caption"):
            continue
        listed = [texts] if isinstance(texts, str) else texts
        if not isinstance(listed, list | tuple) or not all(isinstance(text, str) for text in listed):
            raise ValueError(f"{column}: expected text, or a list of texts, got {repr(texts)[:60]}")
        if not any(text.strip() for text in listed):
            raise ValueError(f"{column}: no text")
        return column, list(listed)
    raise ValueError(f"expected one of the columns {', '.join(TEXTS)}")


def load_row_image(image: object) -> Tensor:
    """Read the photo of a row: a path, a URL, the bytes of a file, or a mapping of ``bytes`` and ``path``.

    Raises:
        ValueError: it is of another kind, or `grounding.images.load_image` raises.
    """
    if isinstance(image, Mapping):
        image = image.get("path") if image.get("bytes") is None else image["bytes"]
    if isinstance(image, str) and "://" in image:
        image = _fetch(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return load_image(decode(bytes(image), name="the photo"))
    if not isinstance(image, str | Path):
        raise ValueError(f"image: expected a path, a URL or the bytes of a file, got {type(image).__name__}")
    return load_image(image)


def _fetch(url: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # each file system of fsspec has its own
        raise ValueError(f"{url}: cannot be read: {one_line(error) or type(error).__name__}") from None
