"""Maps that depend neither on the photo nor on the word: baselines for all attention methods."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grounding.attention.signals import check_call

SPREAD = 0.25  # standard deviation of the bump, as a share of each side


class Centre:
    """A smooth bump in the middle of every photo, for every word, since people put their subject there.

    Args:
        network: not used, like ``layer`` and ``window``; all methods take them.
    """

    def __init__(self, network: nn.Module, layer: str, *, window: int | None = None) -> None:
        self.layer = layer

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """The bump for each target of each image.

        Shapes:
            images: (B, 3, H, W).
            targets: B tensors, (K_b,) or (K_b, units).
            returns: B tensors (K_b, H, W), positive, 1 at the cell (H // 2, W // 2) and less elsewhere.

        Raises:
            ValueError: shapes do not fit.
        """
        check_call(images, targets)
        rows, columns = (_bump(side, images.device) for side in images.shape[-2:])
        return [(rows[:, None] * columns).repeat(len(target), 1, 1) for target in targets]


def _bump(side: int, device: torch.device) -> Tensor:
    distance = torch.arange(side, device=device) - side // 2
    return torch.exp(-0.5 * (distance / (SPREAD * side)) ** 2)


class ProposalOrder:
    """No attention: maps of zeros, with which regions keep the order of the proposals (the paper's MCG_base, 6.3).

    Args:
        network: not used, like ``layer`` and ``window``; all methods take them.
    """

    def __init__(self, network: nn.Module, layer: str, *, window: int | None = None) -> None:
        self.layer = layer

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Zeros (K_b, H, W) for the targets of each image (3, H, W); shapes and errors as in `Centre`."""
        check_call(images, targets)
        return [torch.zeros(len(target), *images.shape[-2:], device=images.device) for target in targets]
