"""A picture of a comparison: a row for each phrase with the photo, and the map of each method over the photo."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from grounding.comparison.records import Cell, Comparison
from grounding.draw import FAINT, INK, MARGIN, PAPER, colour_of, draw_heading, draw_tile, fit, overlay, pale, to_pil

# Lengths are in pixels of the picture.
TILE = 220  # width of a photo
TALLEST = 440  # height of a photo, at most
ARM = 6  # length of an arm of the cross at the greatest point


def draw_comparison(image: Tensor, comparison: Comparison, *, title: str, peaks: bool = True) -> Image.Image:
    """Draw a table: methods from left to right, phrases from top to bottom.

    Each map is scaled to its own maximum, so that the picture compares places and not amounts. Where α is given, the
    box around what exceeds α times the mean of a map is drawn.

    Args:
        image: the photo, (3, H, W) in [0, 1].
        comparison: the maps of this photo.
        title: the name of the photo.
        peaks: whether to mark the greatest point of each map by a cross.
    """
    height, width = comparison.size
    small, scale = fit(to_pil(image), TILE, TALLEST)
    headings = [(title, f"{width} × {height} pixels"), *((each.title, each.details) for each in comparison.methods)]
    rows = [[draw_heading(*heading, colour=INK, width=TILE) for heading in headings]]
    for index, (phrase, cells) in enumerate(zip(comparison.phrases, comparison.cells, strict=True)):
        colour = colour_of(index)
        tiles = [draw_tile(small, phrase, "", colour=colour, width=TILE)]
        for cell in cells:
            shown = pale(small) if cell.attention is None else overlay(small, cell.attention)
            _mark(shown, cell, scale, colour=colour, peaks=peaks)
            tiles.append(draw_tile(shown, _note(cell), "", colour=FAINT, width=TILE))
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


def _note(cell: Cell) -> str:
    unknown = f"unknown: {', '.join(cell.skipped_words)}" if cell.skipped_words else ""
    if cell.attention is None:
        return unknown or "no words to look for"
    return unknown if cell.attention.any() else f"zero everywhere{'; ' if unknown else ''}{unknown}"


def _table(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Arrange pictures of equal width in rows, each row as high as its pictures."""
    width = MARGIN + len(rows[0]) * (TILE + MARGIN)
    table = Image.new("RGB", (width, MARGIN + sum(row[0].height for row in rows)), PAPER)
    top = MARGIN
    for row in rows:
        for column, picture in enumerate(row):
            table.paste(picture, (MARGIN + column * (TILE + MARGIN), top))
        top += row[0].height
    return table
