"""Attention maps with the share of probability that they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Attended:
    """The attention to some words in one photo.

    Shapes:
        maps: (K, h, w), non-negative.
        reached: (K,), the share of each word's winning probability that arrives at the layer where attention stops,
            from 0 to 1; the rest is lost at neurons that nothing excites (see docs/attention.md). None where the method
            knows no winning probability.
        last_map: (C, h', w'), what the network averages below its classifier, of the photo at its own size; None where
            the network has no such map, or the method has not kept it.
    """

    maps: Tensor
    reached: Tensor | None
    last_map: Tensor | None = None

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or (self.reached is not None and self.reached.shape != self.maps.shape[:1]):
            shape = None if self.reached is None else tuple(self.reached.shape)
            raise ValueError(f"expected maps (K, h, w) and reached (K,), got {tuple(self.maps.shape)} and {shape}")


@runtime_checkable
class MassTracking(Protocol):
    """An attention method that can tell how much winning probability reaches its maps."""

    def attend_with_mass(self, images: Tensor, targets: Sequence[Tensor]) -> list[Attended]:
        """The maps of a call of the method, with the probability that reached them.

        Args:
            images: (B, 3, H, W), as the network wants them.
            targets: B tensors, either (K_b,) of output units, or (K_b, units) of prior distributions.
        """
