"""The arguments of all attention methods, checked, and the top-down signal at a network's output units."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.graph import Trace
from grounding.attention.precision import full_precision

Confidence = Literal["softmax", "sigmoid"]


def check_confidence(confidence: object) -> None:
    """Raise if a setting is none of `Confidence`."""
    if confidence not in ("softmax", "sigmoid"):
        raise ValueError(f"confidence must be softmax or sigmoid, got {confidence!r}")


def check_call(images: object, targets: Sequence[Tensor]) -> None:
    """Raise unless a method is called with images (B, C, H, W) and B targets."""
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(targets):
        shape = tuple(getattr(images, "shape", ()))
        raise ValueError(f"expected a tensor (B, C, H, W) and B targets, got {shape} and {len(targets)} targets")


def check_finite(maps: Sequence[Tensor]) -> None:
    """Raise if a map holds NaN or infinity."""
    if not all(attention.isfinite().all() for attention in maps):
        raise ValueError("attention is not a number: the image or the network's weights hold NaN or infinity")


def as_input(images: Tensor, network: nn.Module) -> Tensor:
    """Copy images to the device and the precision of the network, with channels together in memory."""
    parameter = next(network.parameters(), images)
    return images.detach().to(parameter.device, parameter.dtype, memory_format=torch.channels_last, copy=True)


def device_type(network: nn.Module) -> str:
    """The kind of device that a network is on, such as ``cpu``."""
    return next(network.parameters(), torch.empty(0)).device.type


class Recorder(fx.Interpreter):
    """Runs a traced network and keeps the values of some nodes."""

    def __init__(self, module: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(module)
        self._nodes = nodes
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = self.compute(n)
        if n in self._nodes:
            self.values[n] = value
        return value

    def compute(self, n: fx.Node) -> Any:
        """Compute the value of a node; methods that use autograd override this."""
        return super().run_node(n)


@torch.no_grad()
def record(trace: Trace, nodes: set[fx.Node], images: Tensor) -> dict[fx.Node, Tensor]:
    """Run a traced network on images (B, C, H, W), and return the values of some of its nodes.

    Raises:
        ValueError: the network cannot be run on images of this size.
    """
    recorder = Recorder(trace.module, nodes)
    try:
        with full_precision(device_type(trace.module)):
            recorder.run(as_input(images, trace.module))
    except Exception as error:  # of any type: the network may be anybody's
        height, width = images.shape[-2:]
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # fx adds the network's code to the message
        hint = "" if height == width else "; does it take squares alone? Then crop the photo to one"
        raise ValueError(f"the network cannot be run on {height}×{width} pixels: {reason}{hint}") from error
    return recorder.values


def as_map(value: Tensor) -> Tensor:
    """View a vector (N, C) as a map of one cell (N, C, 1, 1); return a map unchanged."""
    return value.reshape(*value.shape, *[1] * (4 - value.ndim))


def check_units(responses: Tensor, output: Tensor) -> None:
    """Raise if the network's output is not one response for each channel of its units' node."""
    if output.shape[1] != responses.shape[1]:
        size = tuple(responses.shape)
        raise ValueError(f"the network's output flattens a map {size}: its units are places, not classes")


def read_targets(
    targets: Sequence[Tensor], responses: Tensor, *, keep_all: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Find the output units that targets ask for (U,), and each photo's prior distributions over them, (K_b, U).

    Args:
        targets: for each photo, output units (K_b,) or distributions over all of them (K_b, units).
        responses: the responses of the units, (B, units, h, w).
        keep_all: whether units that no target asks for are kept as well.

    Raises:
        ValueError: a unit does not exist, shapes do not fit, a prior is negative or NaN.
    """
    count = responses.shape[1]
    full = [prior_of(torch.as_tensor(target).to(responses.device), count, responses.dtype) for target in targets]
    used = (
        torch.cat(full).ne(0).any(0) if not keep_all else torch.ones(count, dtype=torch.bool, device=responses.device)
    )
    return used.nonzero().flatten(), [prior[:, used] for prior in full]


def prior_of(target: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    """Write one photo's targets as distributions (K, units); errors are those of `read_targets`.

    >>> prior_of(torch.tensor([2, 0]), units=3, dtype=torch.float32)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if target.dtype == torch.bool:
        raise ValueError("targets are numbers of units or distributions over them, not truth values")
    if target.ndim == 1 and not target.is_floating_point():
        if len(target) and not (int(target.min()) >= 0 and int(target.max()) < units):
            raise ValueError(f"output units are 0 to {units - 1}, got {target.tolist()}")
        return F.one_hot(target.long(), units).to(dtype)
    if target.ndim == 1 and len(target) == 0:
        return target.new_zeros(0, units, dtype=dtype)
    if target.ndim != 2 or target.shape[1] != units:
        raise ValueError(f"targets are units (K,) or distributions (K, {units}), got {tuple(target.shape)}")
    if not target.isfinite().all() or (target < 0).any():
        raise ValueError("a prior distribution over output units holds negative values or NaN")
    return target.to(dtype)


def spread(prior: Tensor, responses: Tensor, confidence: Confidence) -> Tensor:
    """Spread priors (K, U) over positions by the confidence of responses (U, h, w): the top-down signal (6.1.1).

    A unit's confidences over positions sum to 1. Returns (K, U, h, w).
    """
    logits = responses.flatten(1)
    share = (logits if confidence == "softmax" else F.logsigmoid(logits)).softmax(1)
    return prior[:, :, None, None] * share.view_as(responses)


def scaled(maps: Tensor) -> Tensor:
    """Scale maps (K, h, w), non-negative, to sum 1; empty ones stay empty."""
    total = maps.sum((1, 2), keepdim=True)
    return maps / total.masked_fill(total == 0, 1)
