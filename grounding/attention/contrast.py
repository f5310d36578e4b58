"""Contrast after the way down: a unit's map less that of its reverse unit, for any method (paper, Table 3)."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from grounding.attention.mixture import Attention
from grounding.attention.signals import scaled


class Contrast:
    """The map of a unit less that of its reverse unit, each scaled to sum 1 before, clipped at 0 (paper, 6.1.3).

    For MWP whose shares are not normalised this is "post-norm" of Table 3. With normalised shares it would be c-MWP
    itself, but for what is lost on the way: subtraction at the top or at the layer is the same, since the way down is
    linear. For Grad, Deconv and CAM, it is c-Grad, c-Deconv and c-CAM. The maps of Grad
    are zero, since the gradient of the reverse unit is the same but for its sign; those of CAM are CAM's, up to scale.

    Args:
        network: a classifier, as the method takes it.
        layer: the layer where attention stops.
        method: makes the method from the network, its layer and window, and from ``reverse``, such as `Deconv`.
        window: the side of the sliding classifier's window, in cells, or None.

    Raises:
        ValueError: see the method.
    """

    def __init__(
        self, network: nn.Module, layer: str, *, method: Callable[..., Attention], window: int | None = None
    ) -> None:
        self.layer = layer
        self._unit = method(network, layer=layer, window=window)
        self._reverse = method(network, layer=layer, window=window, reverse=True)

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image, (K_b, h, w), non-negative, at the resolution of the method.

        Arguments and errors are those of the method. A map sums to less than 1.
        """
        pairs = zip(self._unit(images, targets), self._reverse(images, targets), strict=True)
        return [(scaled(unit) - scaled(reverse)).clamp(min=0) for unit, reverse in pairs]
