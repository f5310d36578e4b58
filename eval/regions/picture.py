"""A table of the paper as a picture: our results with intervals, and what was published, in blocks of their own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.regions.paper_tables import CENTRE, by_place, published_tables, sets_of_photos
from eval.regions.result import RegionResult
from eval.regions.sections import COMPARISONS
from eval.result import Measured
from eval.tables.picture import Dots, block_height, draw_dots, draw_legend, rendered
from eval.tables.rows import per_cent

if TYPE_CHECKING:
    from PIL.Image import Image

NUMBER = r"(–|\d+(?:\.\d+)?)"  # of all pairs, and after a slash of difficult ones
PANELS = 3  # least number of panels beside each other, so that few of them do not become too wide


@dataclass(frozen=True)
class Block:
    """Rows with the same columns."""

    title: str
    names: tuple[str, ...]  # of the rows
    panels: dict[str, list[Dots]]  # a column's rows by its head
    is_paper: bool


def draw_comparison(table: str, results: Sequence[RegionResult]) -> "Image":
    """Draw our results, with 95 % intervals, and below them the numbers that were published.

    Args:
        table: one of `COMPARISONS`.
        results: at least one.
    """
    from matplotlib.figure import Figure

    blocks = [_measured_block(results), *(_published_block(*published) for published in COMPARISONS[table].published)]
    blocks = [block for block in blocks if block.panels]
    heights = [block_height(len(block.names)) for block in blocks]
    columns = max(PANELS, *(len(block.panels) for block in blocks))
    figure = Figure(figsize=(3 + 2.3 * columns, sum(heights) + 0.5), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
    for block, (part,) in zip(blocks, parts, strict=True):
        part.suptitle(block.title, x=0.01, ha="left", fontweight="bold")
        axes = part.subplots(1, columns, squeeze=False)[0]
        for index, (head, dots) in enumerate(block.panels.items()):
            draw_dots(axes[index], head, dots, names=[] if index else block.names, is_paper=block.is_paper)
        for unused in axes[len(block.panels) :]:
            unused.set_axis_off()
    series = ("localisation error",) if results[0].dominant else ("all pairs", "difficult pairs")
    draw_legend(figure, series, title="per cent")
    return rendered(figure)


def _measured_block(results: Sequence[RegionResult]) -> Block:
    """A row for each method, and one for the photos' centres in the pointing game; a panel for each set of photos."""
    names, found = tuple(dict.fromkeys(result.name for result in results)), by_place(results)
    panels = {data: [_dots(found.get((name, data))) for name in names] for data in sets_of_photos(results)}
    if results[0].dominant is None:
        names = (*names, CENTRE)
        for data, dots in panels.items():
            dots.append(_centre_dots(next(result for result in results if result.manifest.data.name == data)))
    return Block("Measured here", names, panels, is_paper=False)


def _dots(result: RegionResult | None) -> Dots:
    """The error of a result with dominant objects; of any other the mean accuracy of all and of difficult pairs."""
    if result is None:
        return Dots((None,), (None,))
    measured = [result.pointing.name_mean, None if result.difficult is None else result.difficult.name_mean]
    if result.dominant is not None:
        measured = [result.dominant.error]
    return Dots(
        tuple(None if one is None else per_cent(one.share) for one in measured),
        tuple(None if one is None else _interval(one) for one in measured),
    )


def _centre_dots(result: RegionResult) -> Dots:
    subsets = (result.pointing, result.difficult)
    return Dots(tuple(None if one is None else per_cent(one.centre_name_mean) for one in subsets), (None, None))


def _interval(measured: Measured) -> tuple[float, float] | None:
    return None if measured.interval is None else (100 * measured.interval[0], 100 * measured.interval[1])


def _published_block(name: str, title: str) -> Block:
    """A published table, of its columns those with shares."""
    table = published_tables()[name]
    panels = {
        head: [_published_dots(cells[index]) for cells in table.rows.values()]
        for index, head in enumerate(table.columns)
        if head != "α"
    }
    shown = {head: dots for head, dots in panels.items() if any(any(one.values) for one in dots)}
    return Block(title, tuple(table.rows), shown, is_paper=True)


def _published_dots(cell: str | None) -> Dots:
    """The numbers of a cell such as "78.6/59.8"; none where it has words."""
    found = re.fullmatch(f"{NUMBER}(?:/{NUMBER})?", cell or "")
    numbers = () if found is None else [None if one == "–" else float(one) for one in found.groups() if one]
    return Dots(tuple(numbers), (None,) * len(numbers))
