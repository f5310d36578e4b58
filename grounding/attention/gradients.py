"""Attention by gradients: how much a change of each pixel would change the response of an output unit.

A photo goes through the network once, and autograd runs once for each word: batches of words are no faster on a CPU.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from grounding.attention.circuit import logits_node
from grounding.attention.graph import Trace, module_of
from grounding.attention.operations import is_activation
from grounding.attention.places import Place, check_place, place_of
from grounding.attention.precision import full_precision
from grounding.attention.signals import (
    Confidence,
    Recorder,
    as_input,
    as_map,
    check_call,
    check_confidence,
    check_finite,
    check_units,
    device_type,
    read_targets,
    spread,
)
from grounding.attention.trace import trace_network

TRUNCATE = 3  # standard deviations after which a Gaussian is cut off


class Grad:
    """Gradients of output units with respect to pixels (Simonyan et al. 2014; paper, section 6.1.1) or to neurons.

    A map is the greatest absolute value over the channels, blurred, at the resolution of the place where it stops.

    Args:
        network: a classifier that ``torch.fx`` can trace. It is left as it was; its weights are read once, here.
        layer: the layer of activation neurons that ``at=layer`` means.
        at: where gradients stop: at the ``pixels``, at the ``layer``, or at the ``last_map`` below the global average
            pooling (6.1.3, Fig. 6).
        reverse: whether the units are replaced by their reverse units, whose weights are negated (Table 3). A unit's
            confidence over positions stays the same.
        window: the side of the sliding classifier's window, in cells, or None (see `ExcitationBackprop`).
        confidence: how a unit's responses become its confidence over positions: by their ``softmax``, or by their
            ``sigmoid``, normalised. It weighs the positions and is itself held constant.
        blur: standard deviation of the Gaussian, as a share of the photo's longer side; 0 leaves maps as they are.

    Raises:
        ValueError: the network cannot be traced, or a setting makes no sense.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        window: int | None = None,
        at: Place = "pixels",
        reverse: bool = False,
        confidence: Confidence = "softmax",
        blur: float = 0.02,
    ) -> None:
        check_place(at)
        check_confidence(confidence)
        check_blur(blur)
        self.layer = layer
        self.at = at
        self.reverse = reverse
        self.confidence = confidence
        self.blur = blur
        self._trace = trace_network(network, window=window)
        self._units = logits_node(self._trace.output, self._trace)
        self._place = place_of(self._trace, layer, at)

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image.

        Shapes:
            images: (B, 3, H, W), as the network wants them.
            targets: B tensors, either (K_b,) of output units, or (K_b, units) of prior distributions.
            returns: B tensors (K_b, h, w), non-negative, at the resolution of the pixels or of the layer.

        Raises:
            ValueError: shapes do not fit, a unit does not exist, a prior is negative, or a value is not a number.
        """
        maps = descend(
            self._recorder(),
            self._units,
            images,
            targets,
            place=self._place,
            start=self._start,
            finish=lambda gradient: gradient.abs().amax(0),
        )
        return [blurred(attention, self.blur) for attention in maps]

    def _start(self, prior: Tensor, responses: Tensor) -> Tensor:
        signal = spread(prior, responses, self.confidence)
        return -signal if self.reverse else signal

    def _recorder(self) -> Recorder:
        return Differentiable(self._trace, {self._units, self._place})


class Deconv(Grad):
    """Guided backpropagation, the improved deconvolution that the paper compared with (Springenberg et al. 2014).

    It differs from `Grad` in that the signal from above is clipped at 0 at every activation function with a lower
    bound: what would weaken the unit is not followed further down. Arguments and errors are those of `Grad`.
    """

    def _recorder(self) -> Recorder:
        return _Guided(self._trace, {self._units, self._place})


class Differentiable(Recorder):
    """Runs a traced network so that gradients pass it everywhere, also where it detaches a value."""

    def __init__(self, trace: Trace, nodes: set[fx.Node]) -> None:
        super().__init__(trace.module, nodes)
        self._trace = trace

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if target == "detach" else super().call_method(target, args, kwargs)


class _Guided(Differentiable):
    def compute(self, n: fx.Node) -> Any:
        value = super().compute(n)
        if is_activation(n, module_of(n, self._trace)) and value.requires_grad:
            value.register_hook(lambda signal: signal.clamp(min=0))
        return value


@torch.inference_mode(False)
@torch.enable_grad()
def descend(
    recorder: Recorder,
    units: fx.Node,
    images: Tensor,
    targets: Sequence[Tensor],
    *,
    place: fx.Node,
    start: Callable[[Tensor, Tensor], Tensor],
    finish: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Let autograd bring a signal from the output units down to a place, one photo and one word after the other.

    Args:
        recorder: runs the network and keeps the values of ``units`` and of ``place``.
        units: the node of the output units.
        images: (B, 3, H, W).
        targets: as in `read_targets`.
        place: the node where the signal is taken, below the units: the image, or a map.
        start: computes the signals (K, U, h, w) from priors (K, U) and responses (U, h, w).
        finish: makes a map (h, w) of what arrives at the place, (C, h, w).

    Returns:
        the maps of each photo, (K_b, h, w).

    Raises:
        ValueError: shapes do not fit, a unit does not exist, a prior is negative, or a value is not a number.
    """
    check_call(images, targets)
    maps = []
    with full_precision(device_type(recorder.module)):
        for image, target in zip(images, targets, strict=True):
            pixels = as_input(image[None], recorder.module).requires_grad_()
            output = recorder.run(pixels)
            responses = as_map(recorder.values.pop(units))
            check_units(responses, output)
            used, (prior,) = read_targets([target], responses)
            responses = responses[:, used]
            signals = start(prior, responses[0].detach())
            below = recorder.values.pop(place)
            maps.append(pixels.new_empty(len(signals), *below.shape[-2:]))
            for attention, signal in zip(maps[-1], signals, strict=True):
                (arrived,) = torch.autograd.grad(responses, below, signal[None], retain_graph=True)
                attention.copy_(finish(arrived[0]))
    check_finite(maps)
    return maps


def check_blur(blur: object) -> None:
    """Raise if a setting is no share of the photo's longer side."""
    if isinstance(blur, bool) or not isinstance(blur, int | float) or not 0 <= blur <= 1:
        raise ValueError(f"blur must be a share of the photo's longer side, from 0 to 1, got {blur!r}")


def blurred(maps: Tensor, share: float) -> Tensor:
    """Blur maps (K, H, W) by a Gaussian whose standard deviation is a share of the longer side.

    Borders are mirrored, so that each map keeps its sum.

    >>> blurred(torch.tensor([[[0.0, 0.0, 8.0, 0.0, 0.0]]]), 0.2).round(decimals=2)
    tensor([[[0.4700, 1.9400, 3.1900, 1.9400, 0.4700]]])
    """
    deviation = share * max(maps.shape[-2:])
    if deviation == 0 or len(maps) == 0:
        return maps
    rows, columns = (_gaussian(side, deviation, like=maps) for side in maps.shape[-2:])
    return rows @ maps @ columns


def _gaussian(side: int, deviation: float, *, like: Tensor) -> Tensor:
    """The Gaussian along one side as a symmetric matrix (side, side): the weights of all pixels for each pixel.

    A Gaussian that is wider than the photo is cut off.
    """
    radius = min(math.ceil(TRUNCATE * deviation), side)
    offsets = torch.arange(-radius, radius + 1, device=like.device)
    weights = torch.exp(-0.5 * (offsets.double() / deviation) ** 2)
    weights = (weights / weights.sum()).to(like.dtype).expand(side, -1)
    places = torch.arange(side, device=like.device)[:, None] + offsets
    places = torch.where(places < 0, -1 - places, places)
    places = torch.where(places < side, places, 2 * side - 1 - places)
    return like.new_zeros(side, side).scatter_add_(1, places, weights)
