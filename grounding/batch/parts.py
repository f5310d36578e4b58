"""The answers to an archive's rows: parts that are written whole, joined into one file at the end.

Part k of ``regions.parquet.parts`` holds the answers to rows k·n to (k + 1)·n - 1. The names of the parts tell which
rows are answered, and how many of them have errors: ``00000007-200-3.parquet`` is part 7 with 200 answers, three of
them errors. A run that is killed at any moment loses the rows of unfinished parts alone. A file ``made.json`` tells
what the answers depend on; answers of other models, settings or archives are refused.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from grounding.files import write_file
from grounding.messages import one_line

FORMS = (".jsonl", ".parquet")
GROUP_ROWS = 2_000  # rows of Parquet that are kept together; readers skip or read such groups as a whole


@dataclass(frozen=True, order=True)
class Part:
    """A part that is written."""

    index: int  # from 0
    rows: int
    errors: int  # rows with an error


@dataclass(frozen=True)
class Output:
    """The file of answers, and the folder of its parts while it is not finished.

    Args:
        path: a file ``.jsonl`` or ``.parquet``.
        made: what the answers depend on, values for JSON by name.

    Raises:
        ValueError: the path is of another kind, a URL or a folder.
    """

    path: Path
    made: Mapping[str, Any]

    def __post_init__(self) -> None:
        if re.match(r"\w+:/", str(self.path)):  # a path has lost the second slash of a URL
            raise ValueError(f"output={self.path}: answers go to a file of this machine; copy it when it is finished")
        if self._form not in FORMS:
            raise ValueError(f"output={self.path}: answers go to a file {' or '.join(FORMS)}")
        if self.path.is_dir():
            raise ValueError(f"output={self.path} is a folder: name a file {' or '.join(FORMS)}")

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.path.with_name(f"{self.path.name}.parts")

    @property
    def summary(self) -> Path:
        """The file that tells what made the answers, beside them."""
        return self.path.with_name(f"{self.path.name}.made.json")

    @property
    def _form(self) -> str:
        return self.path.suffix.lower()

    @contextmanager
    def opened(self) -> Iterator[bool]:
        """Hold the output for one run, ready for answers or for more of them.

        Yields:
            Whether all answers are there already.

        Raises:
            ValueError: there are answers of another model, of other settings or of another archive; or the folder of
                the parts is something else.
            OSError: another run is writing, or the folder cannot be written to.
        """
        if self.path.exists():
            self._check(self.summary)
            shutil.rmtree(self.parts, ignore_errors=True)  # of a run that was killed when it had joined them
            yield True
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        with _locked(self.parts / "lock", f"{self.path}: another run is writing these answers"):
            self._prepare()
            yield False

    def _prepare(self) -> None:
        made = self.parts / "made.json"
        for abandoned in self.parts.glob("*.part"):  # of a run that was killed
            abandoned.unlink()
        if made.exists():
            self._check(made)
        elif {path.name for path in self.parts.iterdir()} != {"lock"}:
            raise ValueError(f"{self.parts}: a folder with other files: name another output=, or remove it")
        else:
            write_file(made, _as_json(self.made))

    def _check(self, made: Path) -> None:
        """Compare what answers were made of with what they would be made of now."""
        wanted = json.loads(_as_json(self.made))
        try:
            found = dict(json.loads(made.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            found = {}
        if others := [name for name, value in wanted.items() if found.get(name) != value]:
            present = self.path if self.path.exists() else self.parts
            raise ValueError(
                f"{self.path}: there are answers of another archive, model or setting ({', '.join(others)}): name "
                f"another output=, or remove {present}"
            )

    def told(self) -> dict[str, Any]:
        """What is told beside finished answers.

        Raises:
            OSError: it cannot be read.
        """
        found: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return found

    def finished(self) -> list[Part]:
        """The parts that are written, in order."""
        names = (re.fullmatch(rf"(\d+)-(\d+)-(\d+){self._form}", path.name) for path in self.parts.iterdir())
        return sorted(Part(*map(int, name.groups())) for name in names if name)

    def write(self, index: int, answers: Sequence[Mapping[str, Any]]) -> None:
        """Write a part, whole or not at all.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        part = Part(index, len(answers), sum(answer["error"] is not None for answer in answers))
        write_file(self._path(part), (_as_lines if self._form == ".jsonl" else _as_parquet)(answers))

    def join(self) -> None:
        """Join all parts into the file, and remove them.

        Raises:
            OSError: the disk is full or the folder is not writable. The parts are kept.
        """
        joined = self.parts / "joined.part"
        parts = self.finished()
        try:
            with joined.open("wb") as file:
                (_join_lines if self._form == ".jsonl" else _join_parquet)([self._path(part) for part in parts], file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            joined.unlink(missing_ok=True)
            raise OSError(f"{self.path} cannot be written: {one_line(error)}; its parts are kept") from None
        counts = {"rows": sum(part.rows for part in parts), "errors": sum(part.errors for part in parts)}
        write_file(self.summary, _as_json({**self.made, **counts}))
        joined.replace(self.path)
        shutil.rmtree(self.parts, ignore_errors=True)

    def _path(self, part: Part) -> Path:
        return self.parts / f"{part.index:08d}-{part.rows}-{part.errors}{self._form}"


@contextmanager
def _locked(path: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock, which ends with this process however that ends.

    Raises:
        OSError: another process holds it.
    """
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(otherwise) from None
        yield


def _as_json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n").encode()


def _as_lines(answers: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n" for answer in answers).encode()


def schema(*, has_text_ids: bool) -> Any:
    """The columns of a Parquet file of answers."""
    import pyarrow as pa

    phrase = pa.struct(
        [
            ("text", pa.string()),
            ("span", pa.list_(pa.int32(), 2)),
            ("caption", pa.int32()),
            ("words", pa.list_(pa.string())),
            ("skipped_words", pa.list_(pa.string())),
            ("understood", pa.list_(pa.struct([("word", pa.string()), ("known", pa.list_(pa.string()))]))),
            ("ranked_by", pa.string()),
            ("reached", pa.float32()),
            ("probability", pa.float32()),
            ("presence", pa.float32()),
            ("rejected", pa.bool_()),
            ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            ("scores", pa.list_(pa.float64())),
        ]
    )
    return pa.schema(
        [
            ("id", pa.string() if has_text_ids else pa.int64()),
            ("image", pa.string()),
            ("size", pa.list_(pa.int32(), 2)),
            ("captions", pa.list_(pa.string())),
            ("phrases", pa.list_(phrase)),
            ("error", pa.string()),
        ]
    )


def read_answers(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of answers, a few of which are in memory at a time.

    Raises:
        ValueError: the file cannot be read.
    """
    if path.suffix.lower() == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=64):
                yield from map(_from_columns, batch.to_pylist())
    except ArrowException as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def as_columns(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as a row of `schema`: ``understood`` becomes a list, because many readers of Parquet know no mappings.

    >>> as_columns({"phrases": [{"understood": {"astronaut": ["person"]}}]})
    {'phrases': [{'understood': [{'word': 'astronaut', 'known': ['person']}]}]}
    """
    phrases = answer.get("phrases")
    if phrases is None:
        return dict(answer)
    listed = [
        {**phrase, "understood": [{"word": word, "known": known} for word, known in phrase["understood"].items()]}
        for phrase in phrases
    ]
    return {**answer, "phrases": listed}


def _from_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of which `as_columns` made a row."""
    phrases = row["phrases"]
    if phrases is None:
        return dict(row)
    named = [
        {**phrase, "understood": {one["word"]: one["known"] for one in phrase["understood"]}} for phrase in phrases
    ]
    return {**row, "phrases": named}


def _as_parquet(answers: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    has_text_ids = any(isinstance(answer["id"], str) for answer in answers)
    buffer = pa.BufferOutputStream()
    rows = [{**as_columns(answer), "id": str(answer["id"]) if has_text_ids else answer["id"]} for answer in answers]
    table = pa.Table.from_pylist(rows, schema=schema(has_text_ids=has_text_ids))
    parquet.write_table(table, buffer, compression="zstd")
    return bytes(buffer.getvalue())


def _join_lines(parts: Sequence[Path], joined: BinaryIO) -> None:
    for part in parts:
        with part.open("rb") as lines:
            shutil.copyfileobj(lines, joined)


def _join_parquet(parts: Sequence[Path], joined: BinaryIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    if not parts:
        parquet.write_table(schema(has_text_ids=False).empty_table(), joined)
        return
    has_text_ids = any(str(parquet.read_schema(part).field("id").type) == "string" for part in parts)
    columns = schema(has_text_ids=has_text_ids)
    step = max(1, GROUP_ROWS // parquet.read_metadata(parts[0]).num_rows)
    with parquet.ParquetWriter(joined, columns, compression="zstd") as file:
        for first in range(0, len(parts), step):
            tables = [parquet.read_table(part).cast(columns) for part in parts[first : first + step]]
            file.write_table(pa.concat_tables(tables), GROUP_ROWS)
