"""Edges that people would draw, found by a network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from grounding.attention.precision import full_precision
from grounding.devices import find_device
from proposals.edges.maps import Edges, Floats, Pixels, orientation_of, resize

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "edges.safetensors"
MOST_PIXELS = 2_500_000  # that the network sees; larger photos are scaled down, and their edges up again


class EdgeDetector:
    """Finds the edges that people would draw, with the network that ``python -m train task=edges`` trains.

    Threads may share one.

    Args:
        weights: safetensors of an `EdgeNetwork`; the package's own by default.
        scales: scales of the photo at which edges are detected; strengths are averaged.
        device: where the network runs; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: the weights cannot be read, a scale is not from 0.1 to 4, or the device cannot be used.
    """

    def __init__(
        self, weights: str | Path | None = None, *, scales: Sequence[float] = (1.0,), device: str = "auto"
    ) -> None:
        if not isinstance(scales, Sequence) or not scales or not all(0.1 <= scale <= 4 for scale in scales):
            raise ValueError(f"scales of edges are a list of numbers from 0.1 to 4, got {scales!r}")
        self.scales = tuple(scales)
        self.device = find_device(device)
        self.network = _load(Path(weights or WEIGHTS)).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, pixels: Pixels) -> Edges:
        """Edges of a photo (H, W, 3) uint8, RGB, of any size."""
        strength = np.stack([self.strength(pixels, scale) for scale in self.scales]).mean(0, dtype=np.float32)
        return Edges(strength, orientation_of(strength))

    @torch.inference_mode()
    def strength(self, pixels: Pixels, scale: float = 1.0) -> Floats:
        """Strength (H, W) in [0, 1] of the edges of a photo (H, W, 3), seen at another scale."""
        height, width = pixels.shape[:2]
        scale *= min(1.0, (MOST_PIXELS / (height * width * scale**2)) ** 0.5)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        images = torch.from_numpy(resize(pixels, size)).to(self.device).permute(2, 0, 1)[None].float() / 255
        with full_precision(self.device.type):  # so that a GPU and a CPU find the same edges
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        return np.asarray(resize(torch.sigmoid(logits)[0, 0].cpu().numpy(), (width, height)), np.float32)


def _load(weights: Path) -> torch.nn.Module:
    """The edge network with these weights, batch norm folded, for evaluation."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from proposals.edges.network import EdgeNetwork, fold

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
