"""Views of photos, as the network sees them: scaled, padded by their mirror image, cropped, mirrored at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance


@dataclass(frozen=True)
class View:
    """The range of views of a photo.

    Args:
        resize: lowest and highest side in pixels of the square to which the photo is scaled, after padding with its
            mirror image.
        crop: side in pixels of the random window that the network sees; half of the windows are mirrored.
        colour: greatest relative change of brightness, contrast and saturation, from 0 to 1. Their factors are drawn
            from 1 − colour to 1 + colour.
    """

    resize: tuple[int, int]
    crop: int
    colour: float = 0.0

    def __post_init__(self) -> None:
        check_view(self.resize, self.crop)

    @property
    def whole(self) -> "View":
        """The view for validation: the whole square, scaled to the side of the window."""
        return View((self.crop, self.crop), self.crop)  # in its own colours


def check_view(resize: Sequence[int], crop: int) -> None:
    """Check the sides of a view.

    Raises:
        ValueError: a side is out of range.
    """
    if len(resize) != 2 or not 8 <= crop <= resize[0] <= resize[1] <= 4096:
        raise ValueError(
            f"training.resize must be two sides from training.crop ({crop}, at least 8) to 4096 pixels, "
            f"the smaller first, got {list(resize)}"
        )


def show_photo(
    photo: Image.Image,
    view: View,
    random: np.random.Generator | None,
    *,
    original_size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The pixels that the network sees of a photo.

    Args:
        photo: in RGB.
        view: from which side, window and colours are drawn.
        random: the generator that draws them; None: the smallest side and the central window, not mirrored and
            in their own colours.
        original_size: (height, width) of the original, where the photo is a copy with another aspect ratio.

    Shapes:
        returns: (3, crop, crop).
    """
    low, high = view.resize
    side = low if random is None else int(random.integers(low, high + 1))
    original_height, original_width = original_size or (photo.height, photo.width)
    scale = side / max(original_height, original_width)
    width, height = max(1, round(original_width * scale)), max(1, round(original_height * scale))
    resized = photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
    top = left = (side - view.crop) // 2
    is_mirrored = False
    if random is not None:
        top, left = (int(start) for start in random.integers(0, side - view.crop + 1, 2))
        is_mirrored = random.random() < 0.5
        if view.colour:  # drawn last, so that the window does not depend on it
            resized = jitter(resized, *random.uniform(1 - view.colour, 1 + view.colour, 3))
    pixels = np.asarray(resized)
    rows = mirror_indices(height, side)[top : top + view.crop]
    columns = mirror_indices(width, side)[left : left + view.crop]
    if is_mirrored:
        columns = columns[::-1]
    return np.ascontiguousarray(pixels[rows[:, None], columns].transpose(2, 0, 1))


def jitter(photo: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """Multiply a photo's brightness, its contrast and its saturation by factors, in this order; 1 changes nothing."""
    photo = ImageEnhance.Brightness(photo).enhance(brightness)
    photo = ImageEnhance.Contrast(photo).enhance(contrast)
    return ImageEnhance.Color(photo).enhance(saturation)


def mirror_indices(length: int, side: int) -> NDArray[np.int64]:
    """Indices into ``length`` pixels that centre them in ``side`` places, with their mirror image on both sides.

    >>> mirror_indices(3, 7).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    position = (np.arange(side) - (side - length) // 2) % (2 * length)
    return np.minimum(position, 2 * length - 1 - position)
