"""The log of a training run: a table, a picture of its curves and, where asked for, TensorBoard's files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grounding.files import write_file

COLUMNS = ("step", "epoch", "rate", "loss", "photos_per_second", "validation_loss", "mean_ap")

Row = dict[str, float | None]


def write_log(folder: Path, rows: Sequence[Row], *, with_picture: bool) -> None:
    """Write ``log.csv`` and, if asked for, ``curves.png``; a value that was not measured at a step is empty.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _short(row.get(name)) for name in COLUMNS} for row in rows)
    write_file(folder / "log.csv", table.getvalue().encode())
    if with_picture:
        write_file(folder / "curves.png", draw_curves(rows))


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def draw_curves(rows: Sequence[Row]) -> bytes:
    """The losses of training and validation and, below, the mean average precision over steps, as a PNG file."""
    from matplotlib.figure import Figure

    precision = _points(rows, "mean_ap")
    panels = {"losses": 2, "precision": 1} if precision[0] else {"losses": 1}
    figure = Figure(figsize=(8, 3.5 + 2 * (len(panels) - 1)), dpi=120, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=list(panels.values()))[:, 0]
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    steps, losses = _points(rows, "loss")
    axes[0].plot(steps, losses, ".-", color=_BLUE, alpha=0.35, linewidth=1, markersize=2)
    marker = "o" if len(steps) < 10 else ""  # a single point is no line
    axes[0].plot(
        _smooth(steps), _smooth(losses), marker + "-", color=_BLUE, linewidth=2, markersize=4, label="training"
    )
    steps, losses = _points(rows, "validation_loss")
    if steps:
        axes[0].plot(steps, losses, "o-", color=_ORANGE, linewidth=2, markersize=5, label="validation")
    axes[0].set_ylabel("loss of a photo,\nsummed over tags")
    axes[0].legend(frameon=False, loc="upper right")
    if precision[0]:
        axes[1].plot(*precision, "o-", color=_ORANGE, linewidth=2, markersize=5)
        axes[1].set_ylim(0, 1.15 * max(precision[1]) or 1)
        axes[1].set_ylabel("mean average\nprecision")
        last = f"{precision[1][-1]:.3g}"
        axes[1].annotate(last, (precision[0][-1], precision[1][-1]), (0, 6), textcoords="offset points", ha="center")
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


_BLUE, _ORANGE = "#3a6ea5", "#d9772b"


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """The steps at which something was measured, and its values."""
    measured = [
        (step, value) for row in rows if (step := row["step"]) is not None and (value := row.get(name)) is not None
    ]
    return [step for step, _ in measured], [value for _, value in measured]


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over a twentieth of the values around each, without the ends."""
    window = max(1, len(values) // 20)
    return [sum(values[start : start + window]) / window for start in range(len(values) - window + 1)]


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
