"""A picture of a comparison: a row for each phrase with the photo, and the map of each method over the photo."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from grounding.comparison.records import Cell, Comparison
from grounding.draw import FAINT, INK, MARGIN, PAPER, colour_of, draw_heading, draw_tile, fit, overlay, pale, to_pil

TALLEST = 2  # height of a photo over its width in the picture, at most
ARM = 6  # length of an arm of the cross at the greatest point, in pixels of the picture


def draw_comparison(
    image: Tensor, comparison: Comparison, *, title: str, width: int = 256, peaks: bool = True
) -> Image.Image:
    """Draw a table: methods from left to right, phrases from top to bottom.

    Each map is scaled to its own maximum, so that the picture compares places and not amounts. Where α is given, the
    box around what exceeds α times the mean of a map is drawn.

    Args:
        image: the photo, (3, H, W) in [0, 1].
        comparison: the maps of this photo.
        title: the name of the photo.
        width: pixels of a column.
        peaks: whether to mark the greatest point of each map by a cross.
    """
    small, scale = fit(to_pil(image), width, TALLEST * width)
    size = f"{comparison.size[1]} × {comparison.size[0]} pixels"
    headings = [(title, size), *((each.title, each.details) for each in comparison.methods)]
    rows = [[draw_heading(*heading, colour=INK, width=width) for heading in headings]]
    for index, (phrase, cells) in enumerate(zip(comparison.phrases, comparison.cells, strict=True)):
        colour = colour_of(index)
        tiles = [draw_tile(small, phrase, "", colour=colour, width=width)]
        for method, cell in zip(comparison.methods, cells, strict=True):
            shown = pale(small) if cell.attention is None else overlay(small, cell.attention)
            _mark(shown, cell, scale, colour=colour, peaks=peaks)
            tiles.append(draw_tile(shown, _note(cell, method.alpha), "", colour=FAINT, width=width))
        rows.append(tiles)
    return _table(rows)


def _mark(shown: Image.Image, cell: Cell, scale: float, *, colour: str, peaks: bool) -> None:
    """Draw the box of a cell, and a cross at its greatest point."""
    draw = ImageDraw.Draw(shown)
    if cell.box is not None:
        x1, y1, x2, y2 = (edge * scale for edge in cell.box)
        corners = (x1, y1, max(x2 - 1, x1), max(y2 - 1, y1))
        draw.rectangle(corners, outline="white", width=4)
        draw.rectangle(corners, outline=colour, width=2)
    if peaks and cell.peak is not None:
        x, y = ((edge + 0.5) * scale for edge in cell.peak)
        for fill, thickness in (("black", 4), ("white", 2)):
            draw.line((x - ARM, y, x + ARM, y), fill=fill, width=thickness)
            draw.line((x, y - ARM, x, y + ARM), fill=fill, width=thickness)


def _note(cell: Cell, alpha: float | None) -> str:
    """What the picture does not tell: why there is no map or no box, that no place stands out, the words left out."""
    unknown = [f"unknown: {', '.join(cell.skipped_words)}"] if cell.skipped_words else []
    if cell.attention is None:
        return "; ".join(unknown) or "no words to look for"
    low, high = cell.attention.aminmax()
    flat = ["zero everywhere" if high == 0 else "the same everywhere"] if low == high else []
    small = ["nothing above α × mean"] if alpha is not None and cell.box is None and not flat else []
    return "; ".join([*flat, *small, *unknown])


def _table(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Arrange pictures of equal width in rows, each row as high as its pictures."""
    width = rows[0][0].width + MARGIN
    table = Image.new("RGB", (MARGIN + len(rows[0]) * width, MARGIN + sum(row[0].height for row in rows)), PAPER)
    top = MARGIN
    for row in rows:
        for column, picture in enumerate(row):
            table.paste(picture, (MARGIN + column * width, top))
        top += row[0].height
    return table
