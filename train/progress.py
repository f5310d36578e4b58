"""The progress of a training run: a bar on the screen, the log as a table and, where asked for, TensorBoard's files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.files import write_file
from train.curves import Row, draw_curves

if TYPE_CHECKING:
    from rich.progress import Progress

COLUMNS = ("step", "epoch", "learning_rate", "loss", "photos_per_second", "validation_loss", "mean_ap")


def progress_bar(*, is_shown: bool) -> "Progress":
    """A display of bars; each of its tasks has a text ``about`` beside its bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[about]}"),
        disable=not is_shown,
    )


def write_log(folder: Path, rows: Sequence[Row], *, with_picture: bool) -> None:
    """Write ``log.csv`` and, if asked for, ``curves.png``; a value that was not measured at a step is empty.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _format(row.get(name)) for name in COLUMNS} for row in rows)
    write_file(folder / "log.csv", table.getvalue().encode())
    if with_picture:
        write_file(folder / "curves.png", draw_curves(rows))


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


class Board:
    """TensorBoard's files of a run; it does nothing without a folder."""

    def __init__(self, folder: Path | None, first: int) -> None:
        """Open the files.

        Args:
            folder: the folder of the files; None writes none.
            first: the step at which the run starts or is resumed; what an interrupted run wrote after it is dropped.

        Raises:
            ValueError: the package tensorboard is not installed.
        """
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                'training.tensorboard=true needs its package: pip install "phrase-grounding[train]"'
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=first)

    def add(self, row: Row) -> None:
        """Add the values of a row of the log."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write the remaining values, and close the files."""
        if self._writer is not None:
            self._writer.close()
