"""The log of a training run: a table, a picture of its curves and, where asked for, TensorBoard's files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grounding.command import write

COLUMNS = ("step", "epoch", "rate", "loss", "photos_per_second", "validation_loss", "mean_ap")

Row = dict[str, float | None]


def write_log(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``log.csv`` and ``curves.png``; a value that was not measured at a step is empty.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _short(row.get(name)) for name in COLUMNS} for row in rows)
    write(folder / "log.csv", table.getvalue().encode())
    write(folder / "curves.png", draw_curves(rows))


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def draw_curves(rows: Sequence[Row]) -> bytes:
    """Losses of training and validation and the mean average precision over steps, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    losses = figure.add_subplot()
    losses.set_xlabel("step")
    losses.set_ylabel("loss of a photo, summed over tags")
    lines = []
    for name, label, style in (("loss", "training", "-"), ("validation_loss", "validation", "o-")):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            lines += losses.plot(*zip(*points, strict=True), style, markersize=4, label=label)
    points = [(row["step"], row["mean_ap"]) for row in rows if row.get("mean_ap") is not None]
    if points:
        precision = losses.twinx()
        precision.set_ylabel("mean average precision")
        precision.set_ylim(0, None)
        lines += precision.plot(
            *zip(*points, strict=True), "s--", color="tab:green", markersize=4, label="validation mAP"
        )
    if lines:
        losses.legend(handles=lines, loc="center right")
    losses.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


class Board:
    """TensorBoard's files of a run; nothing, where they are not asked for.

    Raises:
        ValueError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path | None, first: int) -> None:
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
        """Add what a row of the log says."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
