"""Ground an archive: rows are read by several processes ahead of the network, and answers are kept in parts."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grounding.batch.parts import Output
from grounding.batch.reading import count_rows, read_rows, sources
from grounding.batch.rows import Reader, ReadRow, answer_to, ground_row, load_row_image
from grounding.config import GrounderSettings, build_part
from grounding.digests import digest
from grounding.files import png_bytes, write_file
from grounding.models import Preparation
from grounding.pipeline import Grounder, ReadPhoto
from grounding.processes import cores, in_processes
from grounding.records import Grounding, Regions

FEW = 16  # rows for which starting processes takes longer than they save
Numbered = tuple[int, dict[str, Any]]  # the number of a row, from 0, and its values


@dataclass(frozen=True)
class Archive:
    """What to ground, and where the answers go.

    Args:
        path: the archive, see `grounding.batch.reading.read_rows`.
        output: the file of answers, ``.jsonl`` or ``.parquet``.
        part_rows: rows whose answers are kept together; a run that is killed loses at most so many.
        workers: processes that read photos and propose regions; None: one for each core; 0: this process does.
        pictures: number of the first photos that are drawn.

    Raises:
        ValueError: a number makes no sense.
    """

    path: str
    output: Path
    part_rows: int = 200
    workers: int | None = None
    pictures: int = 0

    def __post_init__(self) -> None:
        for name, least in (("part_rows", 1), ("workers", 0), ("pictures", 0)):
            value = getattr(self, name)
            if (name, value) != ("workers", None) and (isinstance(value, bool) or value < least):
                raise ValueError(f"{name} must be at least {least}, got {value!r}")


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    rows: int  # that are answered, those of earlier runs included
    errors: int  # among them
    answered: int  # by this run
    seconds: float  # of this run


def ground_archive(archive: Archive, settings: GrounderSettings, pictures: Path) -> Iterator[Progress]:
    """Ground the captions of an archive; what earlier runs have answered is kept.

    Args:
        archive: the rows and the file of answers.
        settings: of the grounder.
        pictures: the folder of pictures.

    Yields:
        The progress after every row, and at last that of the whole run, when the file of answers is complete.

    Raises:
        ValueError: there is no such archive, or the output has answers of another one, another model or other settings.
        OSError: answers cannot be written, or a process died. What is written is kept.
    """
    files = sources(archive.path)
    grounder = Grounder.from_settings(settings)
    output = Output(archive.output, describe(archive, files, settings, grounder))
    if output.open():
        told = output.told()
        yield Progress(rows=told["rows"], errors=told["errors"], answered=0, seconds=0.0)
        return
    finished = output.finished()
    errors = sum(answer["error"] is not None for part in finished for answer in output.answers(part))
    earlier = sum(1 for part in finished for _ in output.answers(part))
    started, answered = time.monotonic(), 0
    parts: dict[int, dict[int, dict[str, Any]]] = {}
    drawn: dict[int, Any] = {}  # the photos of the first rows

    def waiting() -> Iterator[Numbered]:
        for number, values in unanswered(read_rows(archive.path), finished, archive.part_rows):
            if number < archive.pictures:
                drawn[number] = values.get("image")
            yield number, values

    for number, row in read_each(waiting(), settings, grounder, processes=processes_for(archive)):
        grounding = ground_row(grounder, row)
        if number in drawn and isinstance(grounding, Grounding):
            draw(drawn[number], grounding, pictures / f"{number}.png")
        answer = answer_to(row, grounding)
        errors, answered = errors + (answer["error"] is not None), answered + 1
        index = number // archive.part_rows
        part = parts.setdefault(index, {})
        part[number] = answer
        if len(part) == archive.part_rows:
            output.write(index, [part[each] for each in sorted(parts.pop(index))])
        yield Progress(earlier + answered, errors, answered, time.monotonic() - started)
    for index, part in sorted(parts.items()):  # the last one
        output.write(index, [part[each] for each in sorted(part)])
    output.join({"rows": earlier + answered, "errors": errors})
    yield Progress(earlier + answered, errors, answered, time.monotonic() - started)


def describe(archive: Archive, files: list[str], settings: GrounderSettings, grounder: Grounder) -> dict[str, Any]:
    """What answers depend on: the archive, the model and its settings, with a fingerprint of them."""
    content = [[file, stamp(file)] for file in files]
    return {
        "fingerprint": fingerprint(settings, grounder, content, archive.part_rows),
        "archive": archive.path,
        "part_rows": archive.part_rows,
        "settings": used_settings(settings),
    }


def fingerprint(settings: GrounderSettings, grounder: Grounder, *others: Any) -> str:
    """A digest of a model, its settings and other plain values; the device does not count."""
    classifier = grounder.attention.classifier
    network = (str(classifier.network), classifier.vocabulary.units, dict(classifier.network.state_dict()))
    return digest(used_settings(settings), *network, *others)


def used_settings(settings: GrounderSettings) -> dict[str, Any]:
    """The settings that answers depend on: all but the device."""
    return {name: value for name, value in asdict(settings).items() if name != "device"}


def stamp(file: str) -> str:
    """What tells whether a local file has changed: its size and the time of its last change; nothing of a URL."""
    if "://" in file:
        return ""
    status = Path(file).expanduser().stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def unanswered(rows: Iterable[dict[str, Any]], finished: set[int], part_rows: int) -> Iterator[Numbered]:
    """Yield the rows of parts that are not finished, with their numbers.

    A row without an id gets its number; one whose id is that of a row before it has an error.
    """
    seen: dict[Any, int] = {}
    for number, row in enumerate(rows):
        row = {"id": number} | {name: value for name, value in row.items() if name != "id" or value is not None}
        identity = row["id"] if isinstance(row["id"], int | str) else repr(row["id"])
        if (first := seen.setdefault(identity, number)) != number:
            row["error"] = f"row {number} has the id of row {first}, {identity!r}"
        if number // part_rows not in finished:
            yield number, row


def processes_for(archive: Archive) -> int:
    """The number of processes that read rows; 0 for this one alone."""
    if archive.workers is not None:
        return archive.workers
    total = count_rows(archive.path)
    return 0 if total is not None and total < FEW else cores()


@dataclass(frozen=True)
class _Work:
    """The part of reading rows that is the same for all; it is sent to every process."""

    preparation: Preparation
    proposals: dict[str, Any]  # settings of the method


def read_each(
    rows: Iterable[Numbered], settings: GrounderSettings, grounder: Grounder, *, processes: int
) -> Iterator[tuple[int, ReadRow]]:
    """Read rows in several processes, ahead of what is done with them; in the order in which they are finished.

    Raises:
        ChildProcessError: a process died.
    """
    work = _Work(grounder.attention.classifier.prepare, settings.proposals)
    if processes == 0:
        reader = Reader(work.preparation, grounder.propose)
        yield from ((number, reader(row)) for number, row in rows)
        return
    try:
        for found in in_processes(_start, work, rows, processes=processes):
            if found is not None:
                number, row = found
                yield number, with_arrays(row, torch.from_numpy)
    except ChildProcessError as error:
        raise ChildProcessError(
            f"{error}; finished rows are kept, and the same command with fewer workers=… continues from there"
        ) from None


class _RowReader:
    """Reads rows in a process of its own."""

    def __init__(self, work: _Work) -> None:
        self._reader = Reader(work.preparation, build_part(work.proposals))

    def __call__(self, row: Numbered) -> tuple[int, ReadRow]:
        number, values = row
        return number, with_arrays(self._reader(values), Tensor.numpy)


def _start(work: _Work) -> _RowReader:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return _RowReader(work)


def with_arrays(value: Any, convert: Callable[[Any], Any]) -> Any:
    """A record whose tensors are arrays, or the other way round.

    Between processes, torch would hand on a tensor as an open file, of which a process can have few.
    """
    if isinstance(value, Tensor | np.ndarray):
        return convert(value)
    if isinstance(value, tuple):
        return tuple(with_arrays(part, convert) for part in value)
    if isinstance(value, ReadRow | ReadPhoto | Regions):
        changed = {one.name: with_arrays(getattr(value, one.name), convert) for one in fields(value)}
        return replace(value, **changed)
    return value


def draw(image: Any, grounding: Grounding, path: Path) -> None:
    """Draw the regions of a row's photo.

    Args:
        image: the photo as its row has it.
        grounding: its phrases with their regions.
        path: of the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    from grounding.draw import draw_grounding

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, png_bytes(draw_grounding(load_row_image(image), grounding)))
