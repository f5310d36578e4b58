"""Where attention is strongest: its greatest point, and the box around what exceeds a multiple of its mean."""

import torch
from torch import Tensor

from grounding.scoring import enlarge


def peak(attention: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """The pixel (y, x) of a photo of this size where its attention (h, w), enlarged, is greatest; the first of several.

    Raises:
        ValueError: attention is NaN somewhere.
    """
    if attention.isnan().any():
        raise ValueError("attention is NaN")
    return divmod(int(enlarge(attention, size).argmax()), size[1])


def dominant_box(attention: Tensor, alpha: float) -> Tensor:
    """The tightest box (4,) around attention (H, W) above α times its mean (paper, section 6.2); zeros for no box.

    Args:
        attention: non-negative, at the resolution of the photo.
        alpha: at least 0.

    >>> dominant_box(torch.tensor([[0.0, 0, 0], [0, 2, 1], [0, 0, 0]]), 1)
    tensor([1., 1., 3., 2.])
    """
    return bright_box(attention, alpha * float(attention.double().mean()))


def bright_box(image: Tensor, threshold: float) -> Tensor:
    """The tightest box (4,) around all pixels of an image (H, W) above a threshold; zeros where there are none.

    >>> bright_box(torch.tensor([[0.0, 0, 0], [0, 2, 1], [0, 0, 0]]), 1.5)
    tensor([1., 1., 2., 2.])
    """
    rows, columns = ((image.amax(axis) > threshold).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return torch.zeros(4)
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
