"""Tables 6 and 7 as a picture. Our results and the paper's stand in blocks of their own.

Tables of other measures are drawn with the same dots: see `draw_dots`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.published import COLUMNS, published
from eval.result import Result
from eval.tables.cells import number
from eval.tables.rows import Interval, TableRow, our_rows, paper_rows, photo_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

BLUE, ORANGE = "#0072b2", "#d55e00"  # colours of Okabe and Ito, which colour-blind people can tell apart
SERIES = ((BLUE, "o"), (ORANGE, "s"))  # colour and mark of all, and of small or difficult ones


@dataclass(frozen=True)
class Block:
    """Rows that were measured on the same photos."""

    title: str
    rows: tuple[TableRow, ...]
    is_paper: bool


@dataclass(frozen=True, slots=True)
class Dots:
    """The values of a row in one panel, in per cent: one for each series, such as all and small phrases."""

    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]


def draw_tables(results: Sequence[Result]) -> "Image":
    """Draw recall with 95 % intervals, and R@5 of each type, in a block for each set of photos and one for the paper.

    Raises:
        ValueError: no result has scores of boxes.
    """
    from matplotlib.figure import Figure

    blocks = _blocks(results)
    if all(block.is_paper for block in blocks):
        raise ValueError("no result has scores of boxes to draw")
    heights = [block_height(len(block.rows)) for block in blocks]
    figure = Figure(figsize=(19, sum(heights) + 0.5), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
    for block, (part,) in zip(blocks, parts, strict=True):
        part.suptitle(block.title, x=0.01, ha="left", fontweight="bold")
        panels = part.subplots(1, 4, width_ratios=(1, 1, 1, 2.4))
        for rank, panel in enumerate(panels[:3]):
            _draw_recall(panel, block, rank)
        _draw_types(panels[3], block.rows)
    draw_legend(figure, ("all phrases", "small phrases"), title="per cent of phrases")
    return rendered(figure)


def block_height(rows: int) -> float:
    """The height of a block of this many rows, in inches."""
    return 0.42 * rows + 1.2


def rendered(figure: "Figure") -> "Image":
    """The picture of a figure."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def draw_dots(panel: "Axes", title: str, rows: Sequence[Dots], *, names: Sequence[str], is_paper: bool) -> None:
    """Draw a dot with a whisker for each value of each row; those of the paper are open.

    Args:
        panel: the axes.
        title: what is measured.
        rows: from top to bottom.
        names: of the rows; empty where another panel has them.
        is_paper: whether the values are the paper's.
    """
    for index, row in enumerate(rows):
        if index % 2:
            panel.axhspan(index - 0.5, index + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
        for series, (value, interval) in enumerate(zip(row.values, row.intervals, strict=True)):
            color, mark = SERIES[series]
            y = index if len(row.values) == 1 else index - 0.17 + 0.34 * series
            if interval is not None:
                panel.plot(interval, (y, y), color=color, linewidth=1.8, alpha=0.7, solid_capstyle="butt", zorder=2)
            if value is not None:
                fill = "none" if is_paper else "full"
                panel.plot(value, y, mark, color=color, fillstyle=fill, markersize=6, zorder=3)
    panel.set_title(title, fontsize=11, loc="left")
    panel.set_xlim(0, 100)
    panel.set_xticks(range(0, 100, 20))
    panel.grid(axis="x", alpha=0.3, linewidth=0.8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_yticks(range(len(rows)), names or [""] * len(rows))


def draw_legend(figure: Any, series: Sequence[str], *, title: str) -> None:
    """Explain the marks of the series, below all blocks."""
    from matplotlib.lines import Line2D

    marks = [("full", *SERIES[index], label) for index, label in enumerate(series)]
    marks.append(("none", "#555555", "o", "the paper, measured on other photos"))
    handles = [
        Line2D([], [], marker=mark, color=color, fillstyle=fill, linestyle="none", label=label)  # type: ignore[arg-type]
        for fill, color, mark, label in marks
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(marks), frameon=False, title=title)


def _blocks(results: Sequence[Result]) -> list[Block]:
    blocks = [
        Block(f"Measured on {found.label}", tuple(rows), is_paper=False)
        for found in photo_sets(results)
        if (rows := our_rows(found.results))
    ]
    title = f"For reference, Zhang et al. 2018: {published().split}, {published().photos:,} photos, other training data"
    return [*blocks, Block(title, tuple(paper_rows()), is_paper=True)]


def _draw_recall(panel: "Axes", block: Block, rank: int) -> None:
    rows = [Dots((row.all[rank], row.small[rank]), tuple(one[rank] for one in row.intervals)) for row in block.rows]
    names = [row.name for row in block.rows] if rank == 0 else []
    draw_dots(panel, COLUMNS[rank], rows, names=names, is_paper=block.is_paper)


def _draw_types(panel: "Axes", rows: Sequence[TableRow]) -> None:
    """Write R@5 of each type on a background that is darker for higher values."""
    import numpy as np

    cells = np.array([[np.nan if v is None else v for v in (*row.recall_5, row.mean)] for row in rows], dtype=float)
    panel.imshow(cells, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(rows):
        for x, value in enumerate((*row.recall_5, row.mean)):
            color = "white" if value is not None and value > 60 else "black"
            panel.text(x, y, number(value), ha="center", va="center", fontsize=9, color=color)
    panel.set_xticks(range(cells.shape[1]), [*published().types, "mean"], fontsize=9)
    panel.set_yticks([])
    for y in range(len(rows) - 1):
        panel.axhline(y + 0.5, color="white", linewidth=1)
    panel.axvline(len(published().types) - 0.5, color="white", linewidth=4)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title("R@5 of each type", fontsize=11, loc="left")
