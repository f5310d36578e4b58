"""The answers to an archive's rows: parts that are written whole, joined into one file at the end.

Part k of ``regions.parquet.parts`` holds the answers to rows k·n to (k + 1)·n - 1. Which rows are answered can be told
from the names of the parts, so a run that is killed at any moment loses the rows of the unfinished part alone. A file
``made.json`` tells what made the parts; answers of other models, settings or archives are refused.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grounding.files import write_file

FORMS = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Output:
    """The file of answers, and the folder of its parts while it is not finished.

    Args:
        path: a file ``.jsonl`` or ``.parquet``.
        made: what the answers depend on, plain values with a ``fingerprint``.

    Raises:
        ValueError: the path is of another kind, or a folder.
    """

    path: Path
    made: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in FORMS:
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

    def open(self) -> bool:
        """Make ready for answers, or for more of them.

        Returns:
            Whether all answers are there already.

        Raises:
            ValueError: there are answers of another model, of other settings or of another archive.
            OSError: the folder cannot be written to.
        """
        if self.path.exists():
            self._check(self.summary)
            shutil.rmtree(self.parts, ignore_errors=True)
            return True
        self.parts.mkdir(parents=True, exist_ok=True)
        for abandoned in self.parts.glob("*.part"):  # of a run that was killed
            abandoned.unlink(missing_ok=True)
        made = self.parts / "made.json"
        if made.exists():
            self._check(made)
        else:
            write_file(made, _as_json(self.made))
        return False

    def _check(self, made: Path) -> None:
        try:
            found = json.loads(made.read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if found != self.made["fingerprint"]:
            raise ValueError(
                f"{self.path}: there are answers of another archive, model or setting: name another output=, or remove "
                f"{self.path if self.path.exists() else self.parts}"
            )

    def told(self) -> dict[str, Any]:
        """What is told beside finished answers.

        Raises:
            OSError: it cannot be read.
        """
        found: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return found

    def part(self, index: int) -> Path:
        """The path of a part."""
        return self.parts / f"{index:08d}{self.path.suffix.lower()}"

    def finished(self) -> set[int]:
        """The parts that are written."""
        return {int(part.stem) for part in self.parts.glob(f"[0-9]*{self.path.suffix.lower()}")}

    def write(self, index: int, answers: Sequence[Mapping[str, Any]]) -> None:
        """Write a part, whole or not at all.

        Raises:
            OSError: the disk is full or the folder is not writable.
            ValueError: Parquet cannot hold the answers.
        """
        if self.path.suffix.lower() == ".jsonl":
            write_file(self.part(index), b"".join(map(_as_line, answers)))
        else:
            write_file(self.part(index), _as_parquet(answers))

    def join(self, summary: Mapping[str, Any]) -> None:
        """Join all parts into the file, and remove them.

        Args:
            summary: what is told beside the answers, with what made them.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        write_file(self.summary, _as_json({**self.made, **summary}))
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.", suffix=".part")
        os.close(descriptor)
        joined = Path(name)
        try:
            parts = [self.part(index) for index in sorted(self.finished())]
            (_join_lines if self.path.suffix.lower() == ".jsonl" else _join_parquet)(parts, joined)
            joined.chmod(0o644)
            joined.replace(self.path)
        finally:
            joined.unlink(missing_ok=True)
        shutil.rmtree(self.parts, ignore_errors=True)

    def answers(self, index: int) -> Iterator[dict[str, Any]]:
        """The answers of a part that is written."""
        if self.path.suffix.lower() == ".jsonl":
            with self.part(index).open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        else:
            from pyarrow import parquet

            yield from parquet.read_table(self.part(index)).to_pylist()


def _as_json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n").encode()


def _as_line(answer: Mapping[str, Any]) -> bytes:
    return (json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


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
            ("ranked_by", pa.string()),
            ("reached", pa.float32()),
            ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            ("scores", pa.list_(pa.float64())),
        ]
    )
    return pa.schema(
        [
            ("id", pa.string() if has_text_ids else pa.int64()),
            ("image", pa.string()),
            ("size", pa.list_(pa.int32(), 2)),
            ("phrases", pa.list_(phrase)),
            ("error", pa.string()),
        ]
    )


def _as_parquet(answers: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    has_text_ids = any(isinstance(answer["id"], str) for answer in answers)
    buffer = pa.BufferOutputStream()
    rows = [{**answer, "id": str(answer["id"]) if has_text_ids else answer["id"]} for answer in answers]
    table = pa.Table.from_pylist(rows, schema=schema(has_text_ids=has_text_ids))
    parquet.write_table(table, buffer, compression="zstd")
    return bytes(buffer.getvalue())


def _join_lines(parts: Sequence[Path], joined: Path) -> None:
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, file)
        os.fsync(file.fileno())


def _join_parquet(parts: Sequence[Path], joined: Path) -> None:
    from pyarrow import parquet

    has_text_ids = any(str(parquet.read_schema(part).field("id").type) == "string" for part in parts)
    columns = schema(has_text_ids=has_text_ids)
    with parquet.ParquetWriter(joined, columns, compression="zstd") as file:
        for part in parts:
            file.write_table(parquet.read_table(part).cast(columns))
