"""Pictures of groundings: the photo with its boxes, the captions in the same colours, an attention map a phrase."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont
from torch import Tensor

from grounding.images import to_pixels
from grounding.records import GroundedPhrase, Grounding
from grounding.scoring import enlarge

Pixels: TypeAlias = "np.ndarray[Any, Any]"

# Lengths are in pixels of the picture.
WIDTH = 960
MARGIN = 16
TALLEST = 640  # height of the photo, at most
TILES = 4  # maps in a row
MOST_TILES = 24
OPACITY = 0.8  # exponent that turns attention into opacity
INK, FAINT, PAPER = "#202124", "#6f7378", "#ffffff"
# Twelve hues, distinct on a photo and legible on white.
COLOURS = (
    "#d6322b", "#1f6fd1", "#17913f", "#b5179e", "#d97706", "#0e8f94",
    "#7038d8", "#8a6d00", "#e0447c", "#3f4fae", "#5c8a00", "#a3461b",
)  # fmt: skip
# Letters without a canonical decomposition, by the plain letters that replace them.
PLAIN = dict(zip("–—‘’“”•…ßøØłŁœŒæÆđĐı", "--''\"\"*.soOlLoOaAdDi", strict=True))
FONTS = (  # tried in this order for scripts that the built-in font lacks
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arialuni.ttf", "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc", "Arial.ttf", "arial.ttf",
)  # fmt: skip


def draw_grounding(image: Tensor, grounding: Grounding) -> Image.Image:
    """Draw a photo with its boxes, captions and attention maps.

    A phrase of which no word is known gets a thin box, the first proposal, and no label. A rejected phrase gets no box;
    it is struck out in the caption.

    Args:
        image: the photo, (3, H, W) in [0, 1].
        grounding: the phrases of this photo with their regions.
    """
    photo = to_pil(image)
    return stack([_photo_with_boxes(photo, grounding), *_captions(grounding), *_maps(photo, grounding)])


def stack(parts: Sequence[Image.Image]) -> Image.Image:
    """Arrange the parts of a picture below each other, each in the middle."""
    height = sum(part.height + MARGIN for part in parts) + MARGIN
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    top = MARGIN
    for part in parts:
        picture.paste(part, ((WIDTH - part.width) // 2, top))
        top += part.height + MARGIN
    return picture


def draw_sheet(pictures: Sequence[Image.Image], *, columns: int = 2) -> Image.Image:
    """Arrange pictures in columns; each goes to the column that is shortest so far."""
    columns = min(columns, len(pictures))
    heights = [0] * columns
    places = []
    for picture in pictures:
        column = heights.index(min(heights))
        places.append((column * WIDTH, heights[column]))
        heights[column] += picture.height
    sheet = Image.new("RGB", (columns * WIDTH, max(heights)), PAPER)
    for picture, place in zip(pictures, places, strict=True):
        sheet.paste(picture, place)
    return sheet


def to_pil(image: Tensor) -> Image.Image:
    """Convert a photo (3, H, W) in [0, 1] to a PIL image."""
    return Image.fromarray(to_pixels(image))


def colour_of(index: int) -> str:
    """The colour of a phrase, given its index among the phrases of a photo."""
    return COLOURS[index % len(COLOURS)]


def overlay(photo: Image.Image, attention: Tensor) -> Image.Image:
    """Lay an attention map (h, w) over the photo in grey: the stronger the attention, the hotter and more opaque."""
    colours, opacity = heat(attention, (photo.height, photo.width))
    grey = np.asarray(photo.convert("L"), dtype=np.float32)[..., None] * 0.75 + 50
    return Image.fromarray((colours * opacity + grey * (1 - opacity)).clip(0, 255).astype(np.uint8))


def heat(attention: Tensor, size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Colours (H, W, 3), of uint8, and opacity (H, W, 1), in [0, 1], of an attention map (h, w) at a size (H, W)."""
    enlarged = enlarge(attention, size)
    strength = (enlarged / enlarged.max().clamp(min=1e-30)).numpy()
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return colours, strength[..., None] ** OPACITY


def pale(photo: Image.Image) -> Image.Image:
    """A photo in pale grey, in the place of an overlay where there is no attention."""
    return Image.fromarray((np.asarray(photo.convert("L")) * 0.4 + 150).astype(np.uint8)).convert("RGB")


def fit(photo: Image.Image, width: int, height: int) -> tuple[Image.Image, float]:
    """Scale a photo to the largest size that fits into width and height; return it with the scale."""
    scale = min(width / photo.width, height / photo.height)
    size = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    return photo.resize(size, Image.Resampling.LANCZOS), scale


def _photo_with_boxes(photo: Image.Image, grounding: Grounding) -> Image.Image:
    fitted, scale = fit(photo, WIDTH - 2 * MARGIN, TALLEST)
    draw = ImageDraw.Draw(fitted)
    taken: list[tuple[float, float, float, float]] = []
    for index, phrase in enumerate(grounding.phrases):
        if _has_box(phrase):
            _draw_box(draw, phrase, index, scale)
    for index, phrase in enumerate(grounding.phrases):
        if _has_box(phrase) and phrase.is_attended:
            _draw_label(draw, phrase, index, scale, fitted.size, taken)
    return fitted


def _has_box(phrase: GroundedPhrase) -> bool:
    return len(phrase.regions) > 0 and not phrase.is_rejected


def _corners(phrase: GroundedPhrase, scale: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (edge * scale for edge in phrase.regions.boxes[0].tolist())
    return x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)


def _draw_box(draw: ImageDraw.ImageDraw, phrase: GroundedPhrase, index: int, scale: float) -> None:
    corners = _corners(phrase, scale)
    if phrase.is_attended:
        draw.rectangle(corners, outline="white", width=5)
        draw.rectangle(corners, outline=colour_of(index), width=3)
    else:  # a guess: the first proposal
        draw.rectangle(corners, outline=colour_of(index), width=1)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    phrase: GroundedPhrase,
    index: int,
    scale: float,
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write the phrase on its box, further down where another label is in the way."""
    text = _shorten(phrase.text, size[0] - 8, 16)
    font = _font(16, text)
    x1, y1, _, _ = _corners(phrase, scale)
    width, height = font.getlength(text) + 8, 22
    left = min(max(x1, 0), size[0] - width)
    top = y1 - height if y1 >= height else y1
    while any(left < t[2] and t[0] < left + width and top < t[3] and t[1] < top + height for t in taken):
        top += height
    if top + height > size[1]:
        return  # there is no room left; the caption below the photo has the colour
    taken.append((left, top, left + width, top + height))
    draw.rectangle((left, top, left + width, top + height), fill=colour_of(index))
    draw.text((left + 4, top + 2), text, fill="white", font=font)


def _captions(grounding: Grounding) -> list[Image.Image]:
    """Draw each caption, broken into lines, with its phrases in their colours."""
    images = []
    for number, caption in enumerate(grounding.captions):
        font = _font(22, caption)
        caption = _drawable(caption, font)
        colours, struck = [INK] * len(caption), [False] * len(caption)
        for index, phrase in enumerate(grounding.phrases):
            if phrase.caption == number:
                start, end = phrase.span
                colours[start:end] = [colour_of(index)] * (end - start)
                struck[start:end] = [phrase.is_rejected] * (end - start)
        lines = _break_lines(caption, font, WIDTH - 4 * MARGIN)
        image = Image.new("RGB", (WIDTH - 2 * MARGIN, 30 * len(lines)), PAPER)
        draw = ImageDraw.Draw(image)
        for row, (start, end) in enumerate(lines):
            for first, last in _stretches(colours, start, end):
                left = MARGIN + font.getlength(caption[start:first])
                draw.text((left, 30 * row), caption[first:last], fill=colours[first], font=font)
                if struck[first]:
                    right = left + font.getlength(caption[first:last].rstrip())
                    draw.line((left, 30 * row + 15, right, 30 * row + 15), fill=colours[first], width=2)
        images.append(image)
    return images


def _break_lines(text: str, font: FreeTypeFont, width: int) -> list[tuple[int, int]]:
    """Break text at white space where possible: the start and end of each line, for at most eight lines."""
    lines: list[tuple[int, int]] = []
    start = 0
    while start < len(text) and len(lines) < 8:
        end = start + 1
        while end < len(text) and text[end] != "\n" and font.getlength(text[start : end + 1]) <= width:
            end += 1
        if end < len(text) and not text[end].isspace():
            blank = max(text.rfind(" ", start, end), text.rfind("\t", start, end))
            end = blank if blank > start else end
        lines.append((start, end))
        start = end
        while start < len(text) and text[start].isspace():
            start += 1
    return lines or [(0, 0)]


def _stretches(colours: list[str], start: int, end: int) -> list[tuple[int, int]]:
    """The start and end of each stretch of characters of one colour."""
    if start == end:
        return []
    cuts = [i for i in range(start + 1, end) if colours[i] != colours[i - 1]]
    return list(zip([start, *cuts], [*cuts, end], strict=True))


def _maps(photo: Image.Image, grounding: Grounding) -> list[Image.Image]:
    """Draw the attention maps of the phrases, in rows."""
    if not grounding.phrases:
        return []
    width = (WIDTH - (TILES + 1) * MARGIN) // TILES
    small, scale = fit(photo, width, TALLEST // 2)
    tiles = []
    for index, phrase in enumerate(grounding.phrases[:MOST_TILES]):
        shown = pale(small) if phrase.attention is None else overlay(small, phrase.attention)
        if _has_box(phrase):
            _draw_box(ImageDraw.Draw(shown), phrase, index, scale)
        tiles.append(draw_tile(shown, phrase.text, _note(phrase), colour=colour_of(index), width=width))
    return draw_rows(tiles, TILES)


def draw_tile(shown: Image.Image, title: str, note: str, *, colour: str, width: int) -> Image.Image:
    """Draw a small picture with a title and a note below it, both cut where they are wider than the tile."""
    tile = Image.new("RGB", (width, shown.height + 46), PAPER)
    tile.paste(shown, ((width - shown.width) // 2, 0))
    tile.paste(draw_heading(title, note, colour=colour, width=width), (0, shown.height))
    return tile


def draw_heading(title: str, note: str, *, colour: str, width: int) -> Image.Image:
    """Draw a title and a note below it, both cut where they are wider than the heading."""
    heading = Image.new("RGB", (width, 46), PAPER)
    draw = ImageDraw.Draw(heading)
    title, note = _shorten(title, width, 16), _shorten(note, width, 13)
    draw.text((0, 2), title, fill=colour, font=_font(16, title))
    draw.text((0, 24), note, fill=FAINT, font=_font(13, note))
    return heading


def draw_rows(tiles: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    """Arrange tiles of equal size in rows."""
    rows = []
    for first in range(0, len(tiles), columns):
        row = Image.new("RGB", (WIDTH - 2 * MARGIN, tiles[0].height), PAPER)
        for column, tile in enumerate(tiles[first : first + columns]):
            row.paste(tile, (column * (tile.width + MARGIN), 0))
        rows.append(row)
    return rows


def _note(phrase: GroundedPhrase) -> str:
    if phrase.is_rejected:
        return f"rejected: {phrase.presence:.0%} there, {phrase.probability:.0%} right"
    notes = [f"{word} read as {', '.join(known)}" for word, known in phrase.understood.items()]
    if phrase.skipped_words:
        notes.append(f"unknown: {', '.join(phrase.skipped_words)}")
    return "; ".join(notes) or ("all words known" if phrase.is_attended else "no words to look for")


def _shorten(text: str, width: int, size: int) -> str:
    """Text with single spaces, cut with an ellipsis where it is wider than this in the font of a size."""
    text = " ".join(text.split())
    font = _font(size, text)
    text = _drawable(text, font)
    if font.getlength(text) <= width:
        return text
    end = len(text)
    while end > 1 and font.getlength(text[:end] + "...") > width:
        end -= 1
    return text[:end] + "..."


def _font(size: int, text: str) -> FreeTypeFont:
    """The built-in font, or a font of the system where the text has letters that the built-in one lacks."""
    return _font_for(size, "".join(sorted({character for character in text if ord(character) > 0x7E})))


def _drawable(text: str, font: FreeTypeFont) -> str:
    """Replace letters that the font lacks by plain ones, one for one: é by e, a dash by a hyphen."""
    return "".join(
        character if character < "\x7f" or _has(font, character) else _plain(character, font) for character in text
    )


def _plain(character: str, font: FreeTypeFont) -> str:
    plain = PLAIN.get(character) or unicodedata.normalize("NFKD", character)[0]
    return plain if plain < "\x7f" else character


@lru_cache(maxsize=64)
def _font_for(size: int, exotic: str) -> FreeTypeFont:
    built_in = ImageFont.load_default(size)
    assert isinstance(built_in, FreeTypeFont)
    if not exotic:
        return built_in
    candidates = [built_in]
    for name in FONTS:
        try:
            candidates.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return max(candidates, key=lambda font: sum(_has(font, character) for character in exotic[:200]))


@lru_cache(maxsize=4096)
def _has(font: FreeTypeFont, character: str) -> bool:
    """Whether a font has a character. Those that it lacks are drawn like a private code point."""
    return bytes(font.getmask(character)) != bytes(font.getmask("\U0010fffd"))
