"""Edge strength and orientation of a photo, what EdgeBoxes and hierarchies start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from grounding.images import to_pixels

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # (H, W, 3), RGB
WEIGHTS = Path(__file__).resolve().parent / "weights" / "edges.safetensors"
MOST_PIXELS = 2_500_000  # that the network looks at; larger photos are scaled down, and their edges up again


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a photo of (H, W) pixels."""

    strength: Floats  # (H, W) in [0, 1]
    orientation: Floats  # (H, W) in [0, π), of the normal, from the x axis towards the y axis


def shrink(image: torch.Tensor, longest_side: int) -> Pixels:
    """A photo (3, H, W) in [0, 1] as pixels (h, w, 3) uint8, no side longer than that."""
    height, width = image.shape[1:]
    pixels = to_pixels(image)
    scale = longest_side / max(height, width)
    if scale >= 1:
        return pixels
    return _resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)))


class EdgeDetector:
    """Edges that people would draw, by the network that ``python -m train task=edges`` trains.

    Args:
        weights: safetensors of an `EdgeNetwork`; the package's own by default.
        scales: at which the photo is looked at; strengths are averaged.
        device: where the network runs.

    Raises:
        ValueError: the weights cannot be read, a scale is not from 0.1 to 4, or the device cannot be used.
    """

    def __init__(
        self, weights: str | Path | None = None, *, scales: Sequence[float] = (1.0,), device: str = "cpu"
    ) -> None:
        if not isinstance(scales, Sequence) or not scales or not all(0.1 <= scale <= 4 for scale in scales):
            raise ValueError(f"scales of edges are a list of numbers from 0.1 to 4, got {scales!r}")
        self.scales = tuple(scales)
        self.device = device
        self.network = _network(Path(weights or WEIGHTS)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, pixels: Pixels) -> Edges:
        """Edges of a photo (H, W, 3) uint8, RGB, of any size."""
        strength = np.stack([self.strength(pixels, scale) for scale in self.scales]).mean(0, dtype=np.float32)
        return Edges(strength, orientation_of(strength))

    @torch.inference_mode()
    def strength(self, pixels: Pixels, scale: float = 1.0) -> Floats:
        """Strength (H, W) of the edges in a photo that is looked at in another scale."""
        height, width = pixels.shape[:2]
        scale *= min(1.0, (MOST_PIXELS / (height * width * scale**2)) ** 0.5)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        images = torch.from_numpy(_resize(pixels, size)).to(self.device).permute(2, 0, 1)[None].float() / 255
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        return _resize(torch.sigmoid(logits)[0, 0].cpu().numpy(), (width, height))


def _network(weights: Path) -> torch.nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from proposals.edge_network import EdgeNetwork, fold

    network = EdgeNetwork()
    try:
        tensors = load_file(weights)
        counters = {name: value for name, value in network.state_dict().items() if not value.is_floating_point()}
        network.load_state_dict(counters | {name: value.float() for name, value in tensors.items()})
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{weights}: weights of edges cannot be read: {error}") from None
    except RuntimeError:
        raise ValueError(f"{weights}: these are not weights of an edge network") from None
    return fold(network)


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """An image in another size (width, height), without aliasing."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    enlarging = cv2.INTER_CUBIC if image.ndim == 3 else cv2.INTER_LINEAR
    method = cv2.INTER_AREA if size[0] < image.shape[1] else enlarging
    return np.asarray(cv2.resize(image, size, interpolation=method))


def orientation_of(strength: Floats, *, sigma: float = 2.0) -> Floats:
    """Orientation of the normal of edges (H, W) in [0, π): across it, smoothed strength bends down most."""
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
