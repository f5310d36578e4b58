"""Maps of edges: resizing, orientation, thinning, and edges from plain gradients of colour."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from grounding.images import to_pixels

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # (H, W, 3), RGB


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a photo of (H, W) pixels."""

    strength: Floats  # (H, W) in [0, 1]
    orientation: Floats  # (H, W) in [0, π), of the normal, from the x axis towards the y axis


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize an image to (width, height), without aliasing."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    enlarging = cv2.INTER_CUBIC if image.ndim == 3 else cv2.INTER_LINEAR
    method = cv2.INTER_AREA if size[0] < image.shape[1] else enlarging
    return np.asarray(cv2.resize(image, size, interpolation=method))


def shrink(image: torch.Tensor, longest_side: int) -> Pixels:
    """A photo (3, H, W) in [0, 1] as pixels (h, w, 3) uint8, no side of which is longer than `longest_side`.

    >>> shrink(torch.zeros(3, 400, 900), 300).shape
    (133, 300, 3)
    """
    height, width = image.shape[1:]
    pixels = to_pixels(image)
    scale = longest_side / max(height, width)
    if scale >= 1:
        return pixels
    return resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)))


def orientation_of(strength: Floats, *, sigma: float = 2.0) -> Floats:
    """Orientation (H, W) in [0, π) of the normal of edges: across an edge, smoothed strength bends down most.

    Args:
        strength: (H, W).
        sigma: standard deviation of the Gaussian that smooths the strength first, in pixels.
    """
    smooth = cv2.GaussianBlur(strength, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, ksize=5)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, ksize=5)
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, ksize=5)
    # The eigenvector of the Hessian with the lower eigenvalue.
    normal = (0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2) % np.pi
    return np.asarray(normal, np.float32)


def gradient_edges(pixels: NDArray[Any], *, sigma: float = 1.5) -> Edges:
    """Edges where colour changes: the gradient in Lab, of the channel with the steepest change.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        sigma: standard deviation of the Gaussian that smooths the photo first, in pixels.
    """
    smooth = cv2.GaussianBlur(pixels, (0, 0), sigma)
    lab = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    dx = cv2.Scharr(lab, cv2.CV_32F, 1, 0)
    dy = cv2.Scharr(lab, cv2.CV_32F, 0, 1)
    magnitude = np.hypot(dx, dy)
    steepest = magnitude.argmax(2)[..., None]
    gx, gy, strength = (np.take_along_axis(a, steepest, 2)[..., 0] for a in (dx, dy, magnitude))
    # Relative to the photo's own strongest gradients, so that a dim photo has edges too; the floor keeps the noise of a
    # blank one down.
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
