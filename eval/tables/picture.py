"""Tables 6 and 7 as a picture. Our results and the paper's stand in blocks of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.published import COLUMNS, published
from eval.result import Result
from eval.tables.cells import number
from eval.tables.rows import TableRow, our_rows, paper_rows, photo_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

BLUE, ORANGE = "#0072b2", "#d55e00"  # colours of Okabe and Ito, which colour-blind people can tell apart


@dataclass(frozen=True)
class Block:
    """Rows that were measured on the same photos."""

    title: str
    rows: tuple[TableRow, ...]
    is_paper: bool


def draw_tables(results: Sequence[Result]) -> "Image":
    """Draw recall with 95 % intervals, and R@5 of each type, in a block for each set of photos and one for the paper.

    Raises:
        ValueError: no result has scores of boxes.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    blocks = _blocks(results)
    if all(block.is_paper for block in blocks):
        raise ValueError("no result has scores of boxes to draw")
    heights = [0.42 * len(block.rows) + 1.2 for block in blocks]
    figure = Figure(figsize=(19, sum(heights) + 0.5), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
    for block, (part,) in zip(blocks, parts, strict=True):
        part.suptitle(block.title, x=0.01, ha="left", fontweight="bold")
        panels = part.subplots(1, 4, width_ratios=(1, 1, 1, 2.4))
        for rank, panel in enumerate(panels[:3]):
            _draw_recall(panel, block, rank)
        _draw_types(panels[3], block.rows)
    _draw_legend(figure)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _blocks(results: Sequence[Result]) -> list[Block]:
    blocks = [
        Block(f"Measured on {found.label}", tuple(rows), is_paper=False)
        for found in photo_sets(results)
        if (rows := our_rows(found.results))
    ]
    title = f"For reference, Zhang et al. 2018: {published().split}, {published().photos:,} photos, other training data"
    return [*blocks, Block(title, tuple(paper_rows()), is_paper=True)]


def _draw_recall(panel: "Axes", block: Block, rank: int) -> None:
    """Draw a dot with a whisker for all and for small phrases of each row; those of the paper are open."""
    for index, row in enumerate(block.rows):
        if index % 2:
            panel.axhspan(index - 0.5, index + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
        for subset, (values, color, mark) in enumerate(((row.all, BLUE, "o"), (row.small, ORANGE, "s"))):
            y, value, interval = index - 0.17 + 0.34 * subset, values[rank], row.intervals[subset][rank]
            if interval is not None:
                panel.plot(interval, (y, y), color=color, linewidth=1.8, alpha=0.7, solid_capstyle="butt", zorder=2)
            if value is not None:
                fill = "none" if block.is_paper else "full"
                panel.plot(value, y, mark, color=color, fillstyle=fill, markersize=6, zorder=3)
    panel.set_title(COLUMNS[rank], fontsize=11, loc="left")
    panel.set_xlim(0, 100)
    panel.set_xticks(range(0, 100, 20))
    panel.grid(axis="x", alpha=0.3, linewidth=0.8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_ylim(len(block.rows) - 0.5, -0.5)
    panel.set_yticks(range(len(block.rows)), [row.name for row in block.rows] if rank == 0 else [])


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


def _draw_legend(figure: Any) -> None:
    """Explain the marks, below all blocks."""
    from matplotlib.lines import Line2D

    marks = (
        ("full", BLUE, "o", "all phrases"),
        ("full", ORANGE, "s", "small phrases"),
        ("none", "#555555", "o", "the paper, measured on other photos"),
    )
    handles = [
        Line2D([], [], marker=mark, color=color, fillstyle=fill, linestyle="none", label=label)  # type: ignore[arg-type]
        for fill, color, mark, label in marks
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, title="per cent of phrases")
