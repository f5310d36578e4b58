"""One attention method made of several, each at its own size of the photo."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from grounding.attention.attended import Attended, MassTracking
from grounding.attention.signals import check_call, scaled

Attention = Callable[[Tensor, Sequence[Tensor]], list[Tensor]]


class Mixture:
    """The mean of the maps of several methods, each scaled to sum 1.

    Maps of a larger photo resolve small things, those of a smaller one are steadier; MWP covers the whole of a thing
    where c-MWP shows what tells it from others.

    Args:
        network: a classifier, as each of the methods takes it.
        layer: the layer where attention stops, for all methods.
        parts: by name, a callable that makes each method from the network, its layer and its window, such as
            `ExcitationBackprop`.
        scales: by the same names, the factor by which the photo is resized for the method.
        window: the side of the sliding classifier's window, in cells, or None, for all methods.

    Raises:
        ValueError: there is no part, the names of parts and scales differ, a scale is not positive, or a method raises.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        parts: Mapping[str, Callable[..., Attention]],
        scales: Mapping[str, float],
        window: int | None = None,
    ) -> None:
        if not parts or parts.keys() != scales.keys():
            raise ValueError(f"attention.parts ({', '.join(parts)}) and attention.scales ({', '.join(scales)}) differ")
        for name, scale in scales.items():
            if not 0 < scale <= 10:
                raise ValueError(f"attention.scales.{name} must be above 0 and at most 10, got {scale}")
        self.scales = dict(scales)
        self._parts = {name: make(network, layer=layer, window=window) for name, make in parts.items()}

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image, at the resolution of the finest part.

        Shapes:
            images: (B, 3, H, W), as the network wants them.
            targets: B tensors, either (K_b,) of output units, or (K_b, units) of prior distributions.
            returns: B tensors (K_b, h, w), non-negative; a map sums to 1, or to less if the map of a part is empty.

        Raises:
            ValueError: see the parts.
        """
        return [attended.maps for attended in self._attend(images, targets, with_mass=False)]

    def attend_with_mass(self, images: Tensor, targets: Sequence[Tensor]) -> list[Attended]:
        """Attention maps as those of a call, with the mean over parts of the probability that reached their maps.

        Parts without such a probability are left out; if all are, ``reached`` is None. Arguments and errors are those
        of `__call__`; the maps are the same to the bit.
        """
        return self._attend(images, targets, with_mass=True)

    def _attend(self, images: Tensor, targets: Sequence[Tensor], *, with_mass: bool) -> list[Attended]:
        check_call(images, targets)
        answers: list[list[Attended]] = []  # of each part, of each photo
        for name, attend in self._parts.items():
            photos = _resized(images, self.scales[name])
            if with_mass and isinstance(attend, MassTracking):
                answers.append(attend.attend_with_mass(photos, targets))
            else:
                answers.append([Attended(maps, None) for maps in attend(photos, targets)])
        is_whole = [scale == 1.0 for scale in self.scales.values()]  # whether a part sees the photo at its own size
        return [_mean(parts, is_whole) for parts in zip(*answers, strict=True)]


def _resized(images: Tensor, scale: float) -> Tensor:
    size = [max(round(side * scale), 1) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    return interpolate(images, size, mode="bilinear", antialias=True)


def _mean(parts: Sequence[Attended], is_whole: Sequence[bool]) -> Attended:
    """The mean of the parts' maps of one photo, at the greatest of their resolutions, and of what reached them."""
    masses = [part.reached for part in parts if part.reached is not None]
    last_maps = [part.last_map for part, whole in zip(parts, is_whole, strict=True) if whole]
    return Attended(
        _mean_map([part.maps for part in parts]),
        torch.stack(masses).mean(0) if masses else None,
        next((each for each in last_maps if each is not None), None),
    )


def _mean_map(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps (K, h, w) of several resolutions, each scaled to sum 1, at the greatest resolution."""
    size = max(((part.shape[-2], part.shape[-1]) for part in maps), key=lambda size: size[0] * size[1])
    if not len(maps[0]):
        return maps[0].new_zeros(0, *size)
    resized = [
        interpolate(part[:, None], size, mode="bicubic", align_corners=False)[:, 0].clamp(min=0) for part in maps
    ]
    return torch.stack([scaled(part) for part in resized]).mean(0)
