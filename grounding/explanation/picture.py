"""A picture of an explanation: the photo, and beside it the map of each class over the photo."""

from PIL import Image
from torch import Tensor

from grounding.draw import INK, MARGIN, TALLEST, WIDTH, colour_of, draw_rows, draw_tile, fit, overlay, stack, to_pil
from grounding.explanation.records import Explanation

COLUMNS = 3  # the photo and two classes, as in the paper's Fig. 10


def draw_explanation(image: Tensor, explanation: Explanation, *, title: str) -> Image.Image:
    """Draw a photo and beside it the map of each class, with the name and the probability of the class.

    Each map is scaled to its own maximum, so that the picture compares places and not amounts.

    Args:
        image: the photo, (3, H, W) in [0, 1].
        explanation: the classes of this photo with their maps.
        title: the name of the photo.
    """
    columns = min(1 + len(explanation.names), COLUMNS)
    width = (WIDTH - (columns + 1) * MARGIN) // columns
    photo, _ = fit(to_pil(image), width, TALLEST)
    height, original_width = explanation.size
    tiles = [draw_tile(photo, title, f"{original_width} × {height} pixels", colour=INK, width=width)]
    for index, name in enumerate(explanation.names):
        attention, note = explanation.maps[index], f"probability {explanation.probabilities[index]:.3f}"
        if not attention.any():
            note = f"{note}, no evidence"
        tiles.append(draw_tile(overlay(photo, attention), name, note, colour=colour_of(index), width=width))
    return stack(draw_rows(tiles, columns))
