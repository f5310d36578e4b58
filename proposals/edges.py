"""Edge strength and orientation of a photo, what EdgeBoxes and hierarchies start from."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a photo of (H, W) pixels."""

    strength: Floats  # (H, W) in [0, 1]
    orientation: Floats  # (H, W) in [0, π), of the normal, from the x axis towards the y axis


def gradient_edges(pixels: NDArray[Any], *, sigma: float = 1.5) -> Edges:
    """Edges where colour changes: the gradient in Lab, of the channel with the steepest change.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        sigma: of the Gaussian that smooths the photo first, in pixels.
    """
    smooth = cv2.GaussianBlur(pixels, (0, 0), sigma)
    lab = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    dx = cv2.Scharr(lab, cv2.CV_32F, 1, 0)
    dy = cv2.Scharr(lab, cv2.CV_32F, 0, 1)
    magnitude = np.hypot(dx, dy)
    steepest = magnitude.argmax(2)[..., None]
    gx, gy, strength = (np.take_along_axis(a, steepest, 2)[..., 0] for a in (dx, dy, magnitude))
    # A scale of the photo's own, so that a dim photo has edges too; the floor keeps noise of a blank one down.
    scale = max(float(np.percentile(strength, 99)), 32.0)
    return Edges(np.clip(strength / scale, 0, 1).astype(np.float32), (np.arctan2(gy, gx) % np.pi).astype(np.float32))


def thin(edges: Edges) -> Floats:
    """Non-maximum suppression: the strength where no neighbour across the edge is stronger, else 0."""
    height, width = edges.strength.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = np.cos(edges.orientation), np.sin(edges.orientation)
    sides = [
        cv2.remap(edges.strength, x + s * dx, y + s * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for s in (-1, 1)
    ]
    is_ridge = (edges.strength >= sides[0]) & (edges.strength >= sides[1])
    return np.where(is_ridge, edges.strength, 0).astype(np.float32)
