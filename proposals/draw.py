"""Pictures of proposals: the photo, its contour map, and the first regions."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from grounding.draw import COLOURS, MARGIN, PAPER, WIDTH, fit, to_pil
from grounding.records import Regions, Segments

COLUMNS = 5
TALLEST = 1200  # pixels, sum of the heights of a row's pictures at most
DIMMED = 0.3  # brightness that is left outside a region


def draw_regions(
    image: Tensor, regions: Regions, *, count: int = 20, contours: NDArray[np.float64] | None = None
) -> Image.Image:
    """A picture of the first regions of a photo, with outlines where there are some; best first, row by row.

    Args:
        image: the photo, (3, H, W) in [0, 1].
        regions: regions of this photo, best first.
        count: number of regions at most.
        contours: a contour map of the photo, of any size, which is drawn beside it, dark where it is strong.
    """
    photo = to_pil(image)
    large = [photo]
    if contours is not None:
        strength = contours / max(contours.max(), 1e-9)
        large.append(Image.fromarray((255 * (1 - np.sqrt(strength))).astype(np.uint8)).convert("RGB"))
    tiles = [_tile(image, regions, index) for index in range(min(count, len(regions)))]
    rows = [_row(large, 2)]
    rows += [_row(tiles[first : first + COLUMNS], COLUMNS) for first in range(0, len(tiles), COLUMNS)]
    picture = Image.new("RGB", (WIDTH, sum(row.height for row in rows) + MARGIN), PAPER)
    down = 0
    for row in rows:
        picture.paste(row, (0, down))
        down += row.height
    return picture


def _tile(image: Tensor, regions: Regions, index: int) -> Image.Image:
    """The photo, dimmed outside one region, with the region's box."""
    height, width = image.shape[1:]
    x1, y1, x2, y2 = regions.boxes[index].tolist()
    if isinstance(regions, Segments):
        mask = regions.mask(index).float()[None, None]
        inside = torch.nn.functional.interpolate(mask, (height, width), mode="nearest")[0]
    else:
        inside = torch.zeros(1, height, width)
        inside[:, round(y1) : round(y2), round(x1) : round(x2)] = 1
    tile = to_pil(image * (DIMMED + (1 - DIMMED) * inside) + (1 - inside) * 0.25 * (1 - DIMMED))
    line = max(2, round(max(width, height) / 120))
    ImageDraw.Draw(tile).rectangle((x1, y1, x2 - 1, y2 - 1), outline=COLOURS[index % len(COLOURS)], width=line)
    return tile


def _row(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures side by side, each as wide as its column allows."""
    width = (WIDTH - MARGIN) // columns - MARGIN
    small = [fit(picture, width, TALLEST // columns)[0] for picture in pictures]
    row = Image.new("RGB", (WIDTH, max(picture.height for picture in small) + MARGIN), PAPER)
    for index, picture in enumerate(small):
        row.paste(picture, (MARGIN + index * (width + MARGIN) + (width - picture.width) // 2, MARGIN))
    return row
