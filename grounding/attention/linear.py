"""Linear maps between neurons, from (N, C, h, w) to (N, C', h', w'), without bias. A vector is a map of one cell."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


class LinearMap(Protocol):
    """A linear map of a link, applied and transposed."""

    def apply(self, x: Tensor) -> Tensor:
        """Apply the map to x (N, C, h, w)."""

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        """Apply the transposed map to y (K, C', h', w'); returns (K, C, h, w), where ``size`` ends in (C, h, w)."""


@dataclass(frozen=True)
class Identity:
    """The identity: every neuron is linked with the one at its own position."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        return y


@dataclass(frozen=True, eq=False)
class Average:
    """Average pooling of any kind; autograd gives its transpose, since it is linear."""

    pool: Callable[[Tensor], Tensor]

    def apply(self, x: Tensor) -> Tensor:
        return self.pool(x)

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        with torch.enable_grad():
            x = y.new_zeros(()).expand(y.shape[0], *size[1:]).requires_grad_()
            (transposed,) = torch.autograd.grad(self.pool(x), x, y)
        return transposed


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, or a fully connected layer as a 1×1 convolution.

    ``padding`` None is TensorFlow's SAME, which depends on the size of the input.
    """

    weight: Tensor  # (O, I / groups, kh, kw)
    stride: Size = (1, 1)
    padding: Size | None = (0, 0)
    dilation: Size = (1, 1)
    groups: int = 1

    @property
    def geometry(self) -> tuple[Any, ...]:
        """The properties in which convolutions of one input have to agree to be stacked into one."""
        return (tuple(self.weight.shape[2:]), self.stride, self.padding, self.dilation)

    @property
    def is_pointwise(self) -> bool:
        """Whether the map mixes the channels of each cell, and nothing else."""
        is_unpadded = self.padding in ((0, 0), None)
        return self.geometry[0] == (1, 1) and self.stride == (1, 1) and is_unpadded and self.groups == 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each output sees one input channel alone, and each channel has one output."""
        return self.groups > 1 and self.groups == len(self.weight) and self.weight.shape[1] == 1

    def excitatory(self) -> "Convolution":
        """The map with its positive weights alone."""
        return replace(self, weight=channels_last(self.weight.clamp(min=0)))

    def inhibitory(self) -> "Convolution":
        """The excitatory map of the reverse units, whose weights are negated (section 3.3)."""
        return replace(self, weight=channels_last(self.weight.neg().clamp(min=0)))

    def rows(self, units: Tensor) -> "Convolution":
        """The map to some of the outputs."""
        dense = _dense(self)
        return replace(dense, weight=channels_last(dense.weight[units]))

    def scaled(self, scale: Tensor) -> "Convolution":
        """The map with each output multiplied by a number of its own, ``scale`` (O,)."""
        return replace(self, weight=channels_last(self.weight * scale[:, None, None, None]))

    def _margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Padding (left, right, top, bottom) for an input of this size."""
        if self.padding is not None:
            return self.padding[1], self.padding[1], self.padding[0], self.padding[0]
        margins = []
        for side, kernel, stride, dilation in zip(
            (width, height), self.weight.shape[:1:-1], self.stride[::-1], self.dilation[::-1], strict=True
        ):
            total = max((math.ceil(side / stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            margins += [total // 2, total - total // 2]
        return (margins[0], margins[1], margins[2], margins[3])

    def _unpadded(self, size: torch.Size) -> tuple[Size, Size, tuple[slice, slice]]:
        """The size that a transposed map has to produce, the padding that it removes, and the part to cut out."""
        height, width = size[-2:]
        left, right, top, bottom = self._margins(height, width)
        if left == right and top == bottom:
            return (height, width), (top, left), (slice(None), slice(None))
        target = (height + top + bottom, width + left + right)
        return target, (0, 0), (slice(top, top + height), slice(left, left + width))

    def _padded(self, x: Tensor) -> tuple[Tensor, Size]:
        """Pad the input where its margins are uneven; returns it with the padding that is left to the convolution."""
        left, right, top, bottom = self._margins(*x.shape[-2:])
        if left == right and top == bottom:
            return x, (top, left)
        return F.pad(x, (left, right, top, bottom)), (0, 0)

    def _dilation(self, x: Tensor) -> Size:
        """The dilation to compute with, which means nothing to a kernel of one cell.

        With one thread, torch leaves such kernels to oneDNN only if they are dilated; others take more than twice the
        time, unless there are 16 maps or more. A graph that is exported says what it means.
        """
        has_one_dnn = torch.backends.mkldnn.is_available() and not torch.compiler.is_compiling()  # type: ignore[no-untyped-call]
        is_faster = has_one_dnn and x.device.type == "cpu" and x.dtype == torch.float32
        return (2, 2) if self.is_pointwise and is_faster else self.dilation

    def apply(self, x: Tensor) -> Tensor:
        if self.is_pointwise and x.shape[-2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight.flatten(1))[..., None, None]
        x, padding = self._padded(x)
        return F.conv2d(x, self.weight, None, self.stride, padding, self._dilation(x), self.groups)

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        if self.is_pointwise and size[-2:] == (1, 1):
            return (y.flatten(1) @ self.weight.flatten(1))[..., None, None]
        target, padding, inside = self._unpadded(size)
        margins = [
            dilation * (kernel - 1) - pad
            for dilation, kernel, pad in zip(self.dilation, self.weight.shape[2:], padding, strict=True)
        ]
        if self.is_depthwise and self.stride == (1, 1) and min(margins) >= 0:
            # The convolution with the kernels turned round, which is faster.
            x = F.conv2d(y, self.weight.flip(2, 3), None, 1, margins, self.dilation, self.groups)
            return x[:, :, inside[0], inside[1]]
        extra = [
            side - ((cells - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1)
            for side, cells, stride, pad, dilation, kernel in zip(
                target, y.shape[-2:], self.stride, padding, self.dilation, self.weight.shape[2:], strict=True
            )
        ]
        x = F.conv_transpose2d(y, self.weight, None, self.stride, padding, extra, self.groups, self._dilation(y))
        return x[:, :, inside[0], inside[1]]

    def contributions(self, x: Tensor) -> Tensor:
        """The part of the output from each position of the kernel, (kh·kw, N, O, h', w'); their sum is `apply`."""
        if self.is_pointwise:
            return self.apply(x)[None]
        padded = channels_last(F.pad(x, self._margins(*x.shape[-2:])))
        kernel = self.weight.shape[2:]
        parts = []
        for position in itertools.product(*map(range, kernel)):
            seen = [  # the rows and columns that this position of the kernel meets
                slice(cell * dilation, length - (side - 1 - cell) * dilation)
                for cell, dilation, length, side in zip(position, self.dilation, padded.shape[-2:], kernel, strict=True)
            ]
            weight = self.weight[:, :, position[0], position[1], None, None]
            parts.append(F.conv2d(padded[:, :, seen[0], seen[1]], weight, None, self.stride, groups=self.groups))
        return torch.stack(parts)

    def collect(self, y: Tensor, contributions: Tensor, size: torch.Size) -> Tensor:
        """Compute the channel sum of x ⊙ `transpose`(y), (K, h, w), from the `contributions` of one x.

        Shapes:
            y: (K, O, h', w').
            contributions: (kh·kw, O, h', w').
            size: ends in (h, w).
        """
        if self.is_pointwise:
            return (y * contributions[0]).sum(1)
        shares = torch.einsum("kohw,pohw->kphw", y, contributions)  # one product of matrices a cell
        target, padding, inside = self._unpadded(size)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        folded = F.fold(shares.flatten(2), target, kernel, self.dilation, padding, self.stride)
        return folded[:, 0, inside[0], inside[1]]


def channels_last(weight: Tensor) -> Tensor:
    """Lay out weights in memory as convolutions are fastest with."""
    return weight.contiguous(memory_format=torch.channels_last)


def compose(second: Convolution, first: LinearMap, *, at: str) -> LinearMap:
    """Fold two convolutions in a row into one, if one of them is pointwise (1×1).

    Raises:
        ValueError: neither is pointwise, or the first is an average.
    """
    if isinstance(first, Identity):
        return second
    if not isinstance(first, Convolution):
        raise ValueError(f"cannot compose an average with the convolution {at!r}: choose signed=clamp")
    outer, inner = _dense(second), _dense(first)
    if outer.geometry[0] == (1, 1) and outer.padding in ((0, 0), None):
        weight = torch.einsum("om,mikl->oikl", outer.weight[:, :, 0, 0], inner.weight)
        if inner.padding is None and outer.stride != (1, 1):
            raise ValueError(
                f"cannot compose a stride with the padding of what comes before {at!r}: choose signed=clamp"
            )
        stride = (inner.stride[0] * outer.stride[0], inner.stride[1] * outer.stride[1])
        return replace(inner, weight=channels_last(weight), stride=stride)
    if inner.is_pointwise:
        weight = torch.einsum("omkl,mi->oikl", outer.weight, inner.weight[:, :, 0, 0])
        return replace(outer, weight=channels_last(weight))
    raise ValueError(f"cannot compose the convolution {at!r} with the one before it: choose signed=clamp")


def _dense(convolution: Convolution) -> Convolution:
    """The same map without groups."""
    if convolution.groups == 1:
        return convolution
    groups, (outputs, inputs) = convolution.groups, convolution.weight.shape[:2]
    weight = convolution.weight.new_zeros(outputs, inputs * groups, *convolution.weight.shape[2:])
    for group, rows in enumerate(convolution.weight.chunk(groups)):
        first = group * (outputs // groups)
        weight[first : first + outputs // groups, group * inputs : (group + 1) * inputs] = rows
    return replace(convolution, weight=weight, groups=1)


def add(first: LinearMap, second: LinearMap) -> LinearMap:
    """Add two maps of the same activations.

    Raises:
        ValueError: their strides, dilations or fields do not fit together, or one is an average.
    """
    if isinstance(first, Identity) and isinstance(second, Identity):
        return Average(partial(torch.mul, other=2.0))
    if isinstance(first, Identity):
        first, second = second, first
    if not isinstance(first, Convolution):
        raise ValueError("cannot add an average to another map of the same activations: choose signed=clamp")
    first = _dense(first)
    if isinstance(second, Identity):
        eye = torch.eye(len(first.weight), dtype=first.weight.dtype, device=first.weight.device)
        second = Convolution(eye[:, :, None, None])
    if not isinstance(second, Convolution):
        raise ValueError("cannot add an average to another map of the same activations: choose signed=clamp")
    second = _dense(second)
    if first.weight[0, 0].numel() < second.weight[0, 0].numel():
        first, second = second, first
    if first.padding is None or second.padding is None:
        raise ValueError("cannot add convolutions with TensorFlow's padding: choose signed=clamp")
    kh, kw = second.weight.shape[2:]
    rows, row_rest = divmod(first.padding[0] - second.padding[0], first.dilation[0])
    columns, column_rest = divmod(first.padding[1] - second.padding[1], first.dilation[1])
    is_same_grid = first.stride == second.stride and (first.dilation == second.dilation or (kh, kw) == (1, 1))
    is_inside = 0 <= rows <= first.weight.shape[2] - kh and 0 <= columns <= first.weight.shape[3] - kw
    if row_rest or column_rest or not is_same_grid or not is_inside:
        raise ValueError("cannot add two convolutions of different strides or fields: choose signed=clamp")
    weight = first.weight.clone()
    weight[:, :, rows : rows + kh, columns : columns + kw] += second.weight
    return replace(first, weight=channels_last(weight))
