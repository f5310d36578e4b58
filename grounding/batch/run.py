"""Ground an archive: rows are read by several processes ahead of the network, and answers are kept in parts."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grounding.batch.parts import Output
from grounding.batch.reading import fingerprints, read_rows
from grounding.batch.rows import Reader, ReadRow, answer_to, ground_rows, load_row_image, name_of, with_id
from grounding.config import GrounderSettings, build_part
from grounding.devices import take_one_core
from grounding.digests import digest
from grounding.files import png_bytes, write_file
from grounding.inputs import CaptionedPhoto, ReadPhoto
from grounding.models import Preparation
from grounding.pipeline import Grounder
from grounding.processes import cores, in_processes, in_threads
from grounding.records import Grounding, Regions

FEW = 16  # rows for which starting processes takes longer than they save
Answer = dict[str, Any]
Numbered = tuple[int, dict[str, Any]]  # the number of a row, from 0, and its values


@dataclass(frozen=True)
class Archive:
    """What to ground, and where the answers go.

    Args:
        path: the archive, see `grounding.batch.reading.read_rows`.
        output: the file of answers, ``.jsonl`` or ``.parquet``.
        part_rows: rows whose answers are kept together; a run that is killed loses at most so many.
        workers: processes that read photos and propose regions; None: one for each core; 0: threads of this process do.
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
        ValueError: there is no such archive, it cannot be read to its end, or it has changed meanwhile; or the output
            has answers of another archive, another model or other settings. What is written is kept.
        OSError: answers cannot be written, another run writes them, or processes die. What is written is kept.
    """
    files = fingerprints(archive.path)
    grounder = Grounder.from_settings(settings)
    made = {"archive": archive.path, "files": digest(files), "part_rows": archive.part_rows}
    output = Output(archive.output, made | describe(settings, grounder))
    with output.opened() as is_finished:
        if is_finished:
            told = output.told()
            yield Progress(told["rows"], told["errors"], answered=0, seconds=0.0)
            return
        done = output.finished()
        progress = Progress(sum(part.rows for part in done), sum(part.errors for part in done), answered=0, seconds=0.0)
        rows = unanswered(read_rows(archive.path), {part.index for part in done}, archive.part_rows)
        started = time.monotonic()
        parts: defaultdict[int, dict[int, Answer]] = defaultdict(dict)  # those that are not full, by the rows' numbers
        for number, answer in answer_each(archive, rows, settings, grounder, pictures):
            index = number // archive.part_rows
            parts[index][number] = answer
            if len(parts[index]) == archive.part_rows:
                output.write(index, _in_order(parts.pop(index)))
            progress = Progress(
                rows=progress.rows + 1,
                errors=progress.errors + (answer["error"] is not None),
                answered=progress.answered + 1,
                seconds=time.monotonic() - started,
            )
            yield progress
        if fingerprints(archive.path) != files:
            raise ValueError(f"{archive.path} was changed while it was read: remove {output.parts}, and start again")
        for index, part in parts.items():  # the last one
            output.write(index, _in_order(part))
        output.join()
        yield progress


def _in_order(part: dict[int, Answer]) -> list[Answer]:
    return [part[number] for number in sorted(part)]


def describe(settings: GrounderSettings, grounder: Grounder) -> dict[str, Any]:
    """What answers depend on beside the rows: the settings, the network with its words, and stored proposals."""
    classifier = grounder.attention.classifier
    network = (str(classifier.network), classifier.vocabulary.units, dict(classifier.network.state_dict()))
    path = Path(str(settings.proposals.get("path", "")))
    stored = f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else None
    return {**used_settings(settings), "network": digest(*network), "stored_proposals": stored}


def used_settings(settings: GrounderSettings) -> dict[str, Any]:
    """The settings that answers depend on: all but the device, since a run may be continued on another machine."""
    return {name: value for name, value in asdict(settings).items() if name != "device"}


def fingerprint(settings: GrounderSettings, grounder: Grounder) -> str:
    """A digest of what answers depend on beside the rows."""
    return digest(describe(settings, grounder))


def answer_each(
    archive: Archive, rows: Iterable[Numbered], settings: GrounderSettings, grounder: Grounder, pictures: Path
) -> Iterator[tuple[int, Answer]]:
    """Answer numbered rows, in the order in which they are finished, and draw the first ones."""
    to_draw: dict[int, Any] = {}  # the photos of the first rows

    def remembered() -> Iterator[Numbered]:
        for number, values in rows:
            if number < archive.pictures:
                to_draw[number] = values.get("image")
            yield number, values

    processes = processes_for(read_rows(archive.path)) if archive.workers is None else archive.workers
    for number, row, grounding in ground_each(remembered(), settings, grounder, processes=processes):
        image = to_draw.pop(number, None)
        if image is not None and isinstance(grounding, Grounding):
            draw(image, grounding, pictures / f"{number}.png")
        yield number, answer_to(row, grounding)


def unanswered(rows: Iterable[dict[str, Any]], finished: Container[int], part_rows: int) -> Iterator[Numbered]:
    """Yield the rows of parts that are not finished, with their numbers.

    A row without an id gets its number. A row with the id of a row before it has an error; 1 and "1" are the same id.
    """
    seen: dict[str, int] = {}  # the first row of each id that an archive gives
    for number, values in enumerate(rows):
        row = with_id(number, values)
        if row["id"] == values.get("id") and (first := seen.setdefault(str(row["id"]), number)) != number:
            row["error"] = f"row {number} has the id of row {first}, {row['id']!r}"
        if number // part_rows not in finished:
            yield number, row


def processes_for(rows: Iterable[object]) -> int:
    """The number of processes that read rows; 0 for this one alone, where there are few."""
    return 0 if sum(1 for _ in islice(rows, FEW)) < FEW else cores()


@dataclass(frozen=True)
class _Work:
    """The part of reading rows that is the same for all; it is sent to every process."""

    preparation: Preparation
    proposals: dict[str, Any]  # settings of the method


def ground_each(
    rows: Iterable[Numbered], settings: GrounderSettings, grounder: Grounder, *, processes: int
) -> Iterator[tuple[int, ReadRow, Grounding | str]]:
    """Ground rows that several processes read; in the order in which they are read.

    Yields:
        The number of each row, the row, and its grounding, or the error that prevented it.

    Raises:
        ChildProcessError: processes die before they read a row.
    """
    numbers: deque[int] = deque()

    def read() -> Iterator[ReadRow]:
        for number, row in read_each(rows, settings, grounder, processes=processes):
            numbers.append(number)
            yield row

    for row, grounding in ground_rows(grounder, read()):
        yield numbers.popleft(), row, grounding


def read_each(
    rows: Iterable[Numbered], settings: GrounderSettings, grounder: Grounder, *, processes: int
) -> Iterator[tuple[int, ReadRow]]:
    """Read rows ahead of what is done with them, in several processes, or else in threads of this one.

    A row that kills the process that reads it, twice, has an error.

    Raises:
        ChildProcessError: processes die before they read a row.
    """
    work = _Work(grounder.attention.classifier.prepare, settings.proposals)
    if processes == 0:
        reader = Reader(work.preparation, grounder.propose)
        yield from in_threads(lambda row: (row[0], reader(row[1])), rows, threads=cores(), start=take_one_core)
        return
    for found in in_processes(_start, work, rows, processes=processes, if_killed=_failed):
        if found is not None:
            number, row = found
            yield number, with_arrays(row, torch.from_numpy)


def _failed(row: Numbered) -> tuple[int, ReadRow]:
    number, values = row
    reason = "each process that read it was killed, perhaps for want of memory: fewer workers=… leave more to each"
    return number, ReadRow(
        values["id"], name := name_of(values.get("image")), error=f"{name or f'row {number}'}: {reason}"
    )


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
    if isinstance(value, ReadRow | CaptionedPhoto | ReadPhoto | Regions):
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
