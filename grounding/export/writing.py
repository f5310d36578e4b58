"""Exports as files: records are written as they come, and the files appear when all are there."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from grounding.export.captioned import MDETR_CATEGORIES, GritExport, MdetrExport, OdvgExport
from grounding.export.coco import CocoExport
from grounding.export.label_studio import CONFIG_HEAD, CONFIG_TAIL, LabelStudioExport, label_element
from grounding.export.photos import MOST_REGIONS, Photo, Result, read_photo, read_photos
from grounding.export.records import Export
from grounding.limits import check_limits
from grounding.messages import one_line
from grounding.records import Grounding

Answer: TypeAlias = tuple[int, Any, Grounding | str]  # the number of a photo, its row, and its grounding or an error


def as_json(record: Any) -> str:
    """A record as a line of JSON; raises ValueError where a value is NaN or infinite."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class ExportFile:
    """A file of a format: the records of some streams, a line each, with text between them."""

    name: str
    streams: tuple[tuple[str, str], ...]  # the text before each stream, and the name of the stream
    tail: str = ""  # text at the end
    separator: str = ","  # at the ends of lines, between records of a stream
    written: Callable[[Any], str] = as_json


@dataclass(frozen=True)
class Format:
    """A format that is written to files."""

    export: Callable[[], Export]
    files: tuple[ExportFile, ...]


FORMATS = {
    "coco": Format(
        CocoExport,
        (
            ExportFile("coco_results.json", (("[\n", "results"),), "]\n"),
            ExportFile(
                "coco_dataset.json",
                (('{"images": [\n', "images"), ('],\n"categories": [\n', "categories")),
                '],\n"annotations": []}\n',
            ),
        ),
    ),
    "grit": Format(GritExport, (ExportFile("grit.jsonl", (("", "entries"),), separator=""),)),
    "label_studio": Format(
        LabelStudioExport,
        (
            ExportFile("label_studio.json", (("[\n", "tasks"),), "]\n"),
            ExportFile("label_studio.xml", ((CONFIG_HEAD, "labels"),), CONFIG_TAIL, "", label_element),
        ),
    ),
    "mdetr": Format(
        MdetrExport,
        (
            ExportFile(
                "mdetr.json",
                (('{"images": [\n', "images"), ('],\n"annotations": [\n', "annotations")),
                f'],\n"categories": {json.dumps(MDETR_CATEGORIES)}}}\n',
            ),
        ),
    ),
    "odvg": Format(OdvgExport, (ExportFile("odvg.jsonl", (("", "entries"),), separator=""),)),
}
IN_PYTHON = ("fiftyone", "supervision")  # their exports are objects, not files


@dataclass(frozen=True)
class Exports:
    """Which formats to write, and what of each photo.

    Args:
        formats: names of `FORMATS`, with commas between them.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too.

    Raises:
        ValueError: there is no such format, or it is one without files; or the count makes no sense.

    >>> Exports("coco, odvg").names
    ('coco', 'odvg')
    """

    formats: str
    count: int = 1
    guesses: bool = False

    def __post_init__(self) -> None:
        check_limits("export", export_count=(self.count, 1, MOST_REGIONS))
        for name in self.names:
            if name in IN_PYTHON:
                raise ValueError(f"export={name}: these are objects in Python: see grounding.export.to_{name}")
            if name not in FORMATS:
                raise ValueError(f"export={name}: no such format; formats are {', '.join(FORMATS)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The formats, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.formats.split(",")))


def read_exports(settings: Any) -> Exports | None:
    """The exports that the settings of a command name; None where they name none.

    Raises:
        ValueError: a setting is wrong.
    """
    if settings.export is None:
        return None
    return Exports(settings.export, settings.export_count, settings.export_guesses)


def write_exports(results: Iterable[Result], exports: Exports, folder: Path) -> None:
    """Write results that know the names of their photos, such as the rows of an archive, to files.

    Args:
        results: groundings or rows, see `grounding.export.photos.read_photos`; one of them is in memory at a time.
        exports: the formats.
        folder: of the files; it is made, and files of the same names are replaced.

    Raises:
        ValueError: a result cannot be exported.
        OSError: the disk is full or the folder is not writable.
    """
    with _export_files(exports, folder) as add:
        for photo in read_photos(results, count=exports.count, guesses=exports.guesses):
            add(photo)


def exported(
    answers: Iterable[Answer], paths: Sequence[Path], exports: Exports | None, folder: Path
) -> Iterator[Answer]:
    """Yield answers as they come, and write them to files, which appear when the last one has been taken.

    Args:
        answers: as `grounding.batch.run.ground_each` yields them, in any order.
        paths: of the photos, by the numbers of the answers. The order in the files is theirs.
        exports: the formats; None for none.
        folder: of the files; it is made, and files of the same names are replaced.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    if exports is None:
        yield from answers
        return
    with _export_files(exports, folder) as add:
        waiting: dict[int, Photo] = {}  # for those before them
        following = 0
        for number, row, grounding in answers:
            result = ValueError(grounding) if isinstance(grounding, str) else grounding
            waiting[number] = read_photo(
                result, paths[number], number=number, count=exports.count, guesses=exports.guesses
            )
            while following in waiting:
                add(waiting.pop(following))
                following += 1
            yield number, row, grounding


@contextmanager
def _export_files(exports: Exports, folder: Path) -> Iterator[Callable[[Photo], None]]:
    """Open the files of some formats, which appear in the folder when the block ends without an error.

    Yields:
        A function to call with each photo; those that failed are left out.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", suffix=".part") as unfinished:
            with ExitStack() as opened:
                writers = [_Writer(FORMATS[name], Path(unfinished), opened) for name in exports.names]

                def add(photo: Photo) -> None:
                    for writer in writers:
                        writer.add(photo)

                yield add
            finished = [writer.assemble(file) for writer in writers for file in writer.form.files]
            folder.mkdir(exist_ok=True)
            for path in finished:
                path.replace(folder / path.name)
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {one_line(error)}") from None


class _Writer:
    """Writes the records of a format, those of each stream to a file of their own, which are joined at the end."""

    def __init__(self, form: Format, folder: Path, opened: ExitStack) -> None:
        self.form = form
        self._folder = folder
        self._export = form.export()
        self._records: dict[str, int] = {}  # the number of records of each stream so far
        self._streams = {
            stream: (file, opened.enter_context(self._stream(file, stream).open("w", encoding="utf-8")))
            for file in form.files
            for _, stream in file.streams
        }

    def add(self, photo: Photo) -> None:
        """Write the records of a photo."""
        if photo.error is not None:
            return
        for stream, record in self._export(photo):
            file, lines = self._streams[stream]
            count = self._records[stream] = self._records.get(stream, 0) + 1
            lines.write((f"{file.separator}\n" if count > 1 else "") + file.written(record))

    def assemble(self, file: ExportFile) -> Path:
        """Join the streams of a file, when they are closed; the file in the temporary folder."""
        path = self._folder / file.name
        with path.open("wb") as joined:
            for text, stream in file.streams:
                joined.write(text.encode())
                with self._stream(file, stream).open("rb") as lines:
                    shutil.copyfileobj(lines, joined)
                if self._records.get(stream):
                    joined.write(b"\n")
            joined.write(file.tail.encode())
            joined.flush()
            os.fsync(joined.fileno())
        return path

    def _stream(self, file: ExportFile, stream: str) -> Path:
        return self._folder / f"{file.name}.{stream}"
