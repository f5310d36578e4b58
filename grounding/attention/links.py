"""The links between activation neurons: which neurons excite which, and by what linear map (paper, Eq. 6).

Between two activation neurons lies a linear map: a convolution, several summed, an average, the identity. A neuron's
`Excitation` holds these maps; pooling by maximum, concatenation and reshaping hand a neuron's probability to the one
child that it has.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.trace import (
    PASSING_FUNCTIONS,
    PASSING_METHODS,
    PASSING_MODULES,
    Trace,
    descendants,
    is_adaptive_average,
    is_batch_norm,
    is_flatten,
    is_linear_module,
    is_same_padded,
    is_spatial_mean,
    module_of,
    sliding_average,
)

Signed = Literal["raise", "carry", "clamp", "compose"]
SIGNED_TREATMENTS = ("raise", "carry", "clamp", "compose")

Size = tuple[int, int]


# Linear maps: from neurons (N, C, h, w) to neurons (N, C', h', w'), without bias. Vectors are maps of one cell.


class LinearMap(Protocol):
    def apply(self, x: Tensor) -> Tensor:
        """The map."""

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        """The transposed map, from (K, C', h', w') to (K, C, h, w), where ``size`` ends in (C, h, w)."""


@dataclass(frozen=True)
class Identity:
    """Every neuron is linked with the one at its own place."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        return y


@dataclass(frozen=True, eq=False)
class Average:
    """Pooling by averages of any kind; the transpose comes from autograd, since pooling is linear."""

    pool: Callable[[Tensor], Tensor]

    def apply(self, x: Tensor) -> Tensor:
        return self.pool(x)

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        with torch.enable_grad():
            x = y.new_zeros(()).expand(len(y), *size[1:]).requires_grad_()
            (transposed,) = torch.autograd.grad(self.pool(x), x, y)
        return transposed


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, or a fully connected layer as a 1×1 convolution; ``padding`` None is TensorFlow's SAME."""

    weight: Tensor  # (O, I / groups, kh, kw)
    stride: Size = (1, 1)
    padding: Size | None = (0, 0)
    dilation: Size = (1, 1)
    groups: int = 1

    @property
    def geometry(self) -> tuple[Any, ...]:
        """Convolutions of one input and equal geometry can be stacked into one."""
        return (tuple(self.weight.shape[2:]), self.stride, self.padding, self.dilation)

    @property
    def is_pointwise(self) -> bool:
        """Whether the map mixes the channels of each cell, and nothing else."""
        is_unpadded = self.padding in ((0, 0), None)
        return self.geometry[0] == (1, 1) and self.stride == (1, 1) and is_unpadded and self.groups == 1

    def excitatory(self) -> "Convolution":
        return replace(self, weight=_kept_layout(self.weight.clamp(min=0)))

    def inhibitory(self) -> "Convolution":
        """The excitatory part of the reverse unit, whose weights are negated (section 3.3)."""
        return replace(self, weight=_kept_layout(self.weight.neg().clamp(min=0)))

    def rows(self, units: Tensor) -> "Convolution":
        """The map to some of the outputs alone."""
        return self if self.groups > 1 else replace(self, weight=_kept_layout(self.weight[units]))

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
        """For a transposed map: the size to produce, the padding that it takes off itself, and what to cut out of it."""
        height, width = size[-2:]
        left, right, top, bottom = self._margins(height, width)
        if left == right and top == bottom:
            return (height, width), (top, left), (slice(None), slice(None))
        target = (height + top + bottom, width + left + right)
        return target, (0, 0), (slice(top, top + height), slice(left, left + width))

    def _padded(self, x: Tensor) -> tuple[Tensor, Size]:
        """The input as the convolution wants it, and the padding that is left to do."""
        left, right, top, bottom = self._margins(*x.shape[-2:])
        if left == right and top == bottom:
            return x, (top, left)
        return F.pad(x, (left, right, top, bottom)), (0, 0)

    def apply(self, x: Tensor) -> Tensor:
        if self.is_pointwise and x.shape[-2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight.flatten(1))[..., None, None]
        x, padding = self._padded(x)
        return F.conv2d(x, self.weight, None, self.stride, padding, self.dilation, self.groups)

    def transpose(self, y: Tensor, size: torch.Size) -> Tensor:
        if self.is_pointwise and size[-2:] == (1, 1):
            return (y.flatten(1) @ self.weight.flatten(1))[..., None, None]
        target, padding, inside = self._unpadded(size)
        extra = [
            side - ((cells - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1)
            for side, cells, stride, pad, dilation, kernel in zip(
                target, y.shape[-2:], self.stride, padding, self.dilation, self.weight.shape[2:], strict=True
            )
        ]
        x = F.conv_transpose2d(y, self.weight, None, self.stride, padding, extra, self.groups, self.dilation)
        return x[:, :, inside[0], inside[1]]

    def contributions(self, x: Tensor) -> Tensor:
        """What each place of the kernel adds to the output: (kh·kw, N, O, h', w'), whose sum over places is `apply`."""
        if self.is_pointwise:
            return self.apply(x)[None]
        padded, padding = self._padded(x)
        outputs, _, kh, kw = self.weight.shape
        columns = F.unfold(padded, (kh, kw), self.dilation, padding, self.stride)
        columns = columns.unflatten(1, (self.groups, -1, kh * kw))  # (N, groups, I / groups, places, cells)
        weight = self.weight.flatten(2).unflatten(0, (self.groups, -1))  # (groups, O / groups, I / groups, places)
        parts = torch.einsum("goip,ngipl->pngol", weight, columns)
        rows, _ = (
            (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for side, pad, dilation, kernel, stride in zip(
                padded.shape[-2:], padding, self.dilation, (kh, kw), self.stride, strict=True
            )
        )
        parts = parts.reshape(kh * kw * len(x), outputs, rows, -1).contiguous(memory_format=torch.channels_last)
        return parts.unflatten(0, (kh * kw, len(x)))

    def collect(self, y: Tensor, contributions: Tensor, size: torch.Size) -> Tensor:
        """The channel sum of x ⊙ `transpose`(y), (K, h, w), from the `contributions` of one x: no sum over inputs is left.

        Shapes:
            y: (K, O, h', w').
            contributions: (kh·kw, O, h', w').
            size: ends in (h, w).
        """
        shares = torch.stack([(y * part).sum(1) for part in contributions], 1)  # (K, places, h', w')
        if self.is_pointwise:
            return shares[:, 0]
        target, padding, inside = self._unpadded(size)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        folded = F.fold(shares.flatten(2), target, kernel, self.dilation, padding, self.stride)
        return folded[:, 0, inside[0], inside[1]]


def _kept_layout(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


# Links: how a neuron hands its probability to its children.


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of what enters a neuron: a linear map of the activations at a node."""

    source: fx.Node
    map: LinearMap


@dataclass(frozen=True, eq=False)
class Excitation:
    """Eq. 6: a neuron shares its probability among its children in proportion to excitatory weight × activation."""

    terms: tuple[Term, ...]

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return tuple(term.source for term in self.terms)

    @property
    def has_weights(self) -> bool:
        return any(isinstance(term.map, Convolution) for term in self.terms)

    @property
    def is_passing(self) -> bool:
        """Whether each neuron has one child alone, as under an activation function or LRN."""
        return len(self.terms) == 1 and isinstance(self.terms[0].map, Identity)


@dataclass(frozen=True, eq=False)
class Maximum:
    """Max pooling: the whole probability goes to the winner of the window (5.4)."""

    source: fx.Node
    pool: Callable[[Tensor], tuple[Tensor, Tensor]]  # values, and their places in the flattened map

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Neurons of several nodes side by side in one, along the channels."""

    sources: tuple[fx.Node, ...]


@dataclass(frozen=True, eq=False)
class Flattening:
    """The same neurons as a vector."""

    source: fx.Node

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Unknown:
    """An operation without a rule; harmless below the layer where attention stops."""

    reason: str

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return ()


Link = Excitation | Maximum | Concatenation | Flattening | Unknown


@dataclass(frozen=True, eq=False)
class Circuit:
    """The activation neurons of a network and the links between them.

    Nodes are those of the trace; ``units`` is the node of the output units, ``layer`` the one where attention stops.
    """

    links: dict[fx.Node, Link]
    lowest: dict[fx.Node, float]  # the least value of a node's activations (λ of Eq. 20), -inf where there is none
    units: fx.Node
    layer: fx.Node
    descent: tuple[fx.Node, ...]  # from the units down to the layer, every node before its children


def derive_circuit(trace: Trace, layer: str, *, signed: Signed) -> Circuit:
    """Find the activation neurons of a traced network and the linear maps between them.

    Args:
        trace: the network.
        layer: where attention stops: the path of a module, or the name of a node.
        signed: what to do with signed values that enter a link (linear bottlenecks, residual sums):
            ``raise`` (as soon as one is negative), ``carry`` (a negative value carries its sign into its share, as in
            the paper's Eq. 19 and its released code), ``clamp`` (share by the positive part), ``compose`` (fold linear
            maps that follow each other into the one map that they are).

    Raises:
        ValueError: the layer is unknown or no layer of activation neurons; an operation between the layer and the
            output units has no rule.
    """
    if signed not in SIGNED_TREATMENTS:
        raise ValueError(f"signed must be one of {', '.join(SIGNED_TREATMENTS)}, got {signed!r}")
    analysis = _Analysis(trace, signed)
    for node in trace.module.graph.nodes:
        if node.op != "output":
            analysis.visit(node)
    units = analysis.resolve(_below_final_activation(trace.output, trace))
    units = analysis.neuron(units)
    bottom = _layer_node(layer, trace, analysis)
    descent = _descent(units, bottom, analysis.links)
    if not descent:
        raise ValueError(f"layer {layer!r} does not lead to the output units; {_layers_there_are(trace, analysis)}")
    return Circuit(analysis.links, analysis.lowest, units, bottom, descent)


def _below_final_activation(node: fx.Node, trace: Trace) -> fx.Node:
    """The node of the logits, where the network ends in a softmax or sigmoid of them."""
    module = module_of(node, trace)
    final_modules = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid, nn.LogSigmoid)
    final_functions = (torch.softmax, F.softmax, F.log_softmax, torch.log_softmax, torch.sigmoid, F.logsigmoid)
    is_method = node.op == "call_method" and node.target in ("softmax", "log_softmax", "sigmoid")
    if isinstance(module, final_modules) or node.target in final_functions or is_method:
        return _below_final_activation(node.args[0], trace)  # type: ignore[arg-type]
    return node


def _layer_node(layer: str, trace: Trace, analysis: "_Analysis") -> fx.Node:
    names = {node.name: node for node in trace.module.graph.nodes}
    node = trace.layers.get(layer, names.get(layer))
    if node is None:
        raise ValueError(f"no layer {layer!r} in the network; {_layers_there_are(trace, analysis)}")
    node = analysis.resolve(node)
    activations = [user for user in node.users if user in analysis.links]
    if node not in analysis.links and len(activations) == 1 and node in analysis.pending:
        node = activations[0]  # a convolution names the neurons that it feeds, as where the two share their memory
    if node not in analysis.links or (analysis.lowest[node] == -math.inf and node.op != "placeholder"):
        raise ValueError(f"layer {layer!r} is signed: no activation neurons; {_layers_there_are(trace, analysis)}")
    return node


def _layers_there_are(trace: Trace, analysis: "_Analysis") -> str:
    found = [path for path, node in trace.layers.items() if analysis.lowest.get(node, -math.inf) > -math.inf]
    return f"layers of activation neurons are: {', '.join(found)}"


def _descent(units: fx.Node, layer: fx.Node, links: dict[fx.Node, Link]) -> tuple[fx.Node, ...]:
    """The neurons through which probability flows from the units to the layer, parents first; the layer not among them.

    Raises:
        ValueError: on the way lies an operation without a rule.
    """
    above = descendants(layer)
    leads_down = {layer}
    for node, link in links.items():  # children come before their parents
        if leads_down.intersection(link.sources) or (isinstance(link, Unknown) and node in above):
            leads_down.add(node)
    reached = {units}
    order: list[fx.Node] = []
    for node in reversed(links):
        link = links[node]
        if node in reached and node in leads_down and node is not layer:
            if isinstance(link, Unknown):
                raise ValueError(link.reason)
            order.append(node)
            reached.update(link.sources)
    return tuple(order)


@dataclass(eq=False)
class _Analysis:
    """Walks the graph once; afterwards ``links`` knows every neuron's children."""

    trace: Trace
    signed: Signed
    links: dict[fx.Node, Link] = field(default_factory=dict)
    lowest: dict[fx.Node, float] = field(default_factory=dict)
    pending: dict[fx.Node, tuple[Term, ...]] = field(default_factory=dict)  # linear so far, no neuron yet
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)  # dropout and its like: the node that it repeats

    def resolve(self, node: fx.Node) -> fx.Node:
        return self.same.get(node, node)

    def neuron(self, node: fx.Node) -> fx.Node:
        """The node as neurons of its own; a linear one without activation becomes signed neurons."""
        node = self.resolve(node)
        if node not in self.links:
            self._add(node, Excitation(self.pending[node]), -math.inf)
        return node

    def terms(self, node: fx.Node) -> tuple[Term, ...]:
        """What enters a node: its linear terms, or itself."""
        node = self.resolve(node)
        if node in self.links:
            return (Term(node, Identity()),)
        return self.pending[node]

    def visit(self, node: fx.Node) -> None:
        module = module_of(node, self.trace)
        lowest = _lowest_value(node, module)
        if node.op == "placeholder":
            self._add(node, Unknown(f"{node.name} is the image"), -math.inf)
        elif not node.all_input_nodes:
            self._add(node, Unknown(f"{node.name} is a constant"), -math.inf)
        elif is_linear_module(module) or is_batch_norm(module):
            self._visit_weighted(node, module)  # type: ignore[arg-type]
        elif lowest is not None:
            self._visit_activation(node, lowest)
        elif _is_sum(node):
            self._visit_sum(node)
        elif _passes(node, module):
            self.same[node] = self.resolve(node.all_input_nodes[0])
        elif (maximum := _maximum_of(node, module)) is not None:
            source = self.neuron(node.all_input_nodes[0])
            self._add(node, Maximum(source, maximum), self.lowest[source])
        elif (average := _average_of(node, module)) is not None:
            source = self.neuron(node.all_input_nodes[0])
            self._add(node, Excitation((Term(source, Average(average)),)), self.lowest[source])
        elif node.target in (torch.cat, torch.concat) and _argument(node, 1, "dim", 0) in (1, -3):
            sources = tuple(self.neuron(part) for part in node.args[0])  # type: ignore[arg-type, union-attr]
            self._add(node, Concatenation(sources), min(self.lowest[source] for source in sources))
        elif is_flatten(node, module):
            source = self.neuron(node.all_input_nodes[0])
            self._add(node, Flattening(source), self.lowest[source])
        elif type(module) is nn.LocalResponseNorm or node.target is F.local_response_norm:
            source = self.neuron(node.all_input_nodes[0])  # 5.5: each neuron has one child
            self._add(node, Excitation((Term(source, Identity()),)), self.lowest[source])
        else:
            self._add(node, Unknown(self._no_rule(node, module)), -math.inf)

    def _add(self, node: fx.Node, link: Link, lowest: float) -> None:
        self.links[node] = link
        self.lowest[node] = lowest

    def _no_rule(self, node: fx.Node, module: nn.Module | None) -> str:
        path = next((path for path, known in self.trace.layers.items() if known is node), node.name)
        operation = type(module).__name__ if module else getattr(node.target, "__name__", str(node.target))
        return (
            f"no rule for {operation} at {path!r}: attention passes convolution, linear, batch norm, pooling (average, "
            "adaptive, max), sum, concat, flatten, mean over space, dropout, LRN and activations with a lower bound"
        )

    def _visit_weighted(self, node: fx.Node, module: nn.Module) -> None:
        convolution = _convolution_of(module)
        source = self.resolve(node.all_input_nodes[0])
        if self.signed == "compose" and source in self.pending:
            self.pending[node] = tuple(
                Term(term.source, compose(convolution, term.map, at=node.name)) for term in self.pending[source]
            )
        else:
            self.pending[node] = (Term(self.neuron(source), convolution),)

    def _visit_activation(self, node: fx.Node, lowest: float) -> None:
        source = self.resolve(node.all_input_nodes[0])
        if source in self.links and self.lowest[source] >= 0 and _is_rectifier(node, module_of(node, self.trace)):
            self.same[node] = source
        else:
            self._add(node, Excitation(self.terms(source)), lowest)

    def _visit_sum(self, node: fx.Node) -> None:
        branches = [self.resolve(branch) for branch in node.args if isinstance(branch, fx.Node)]
        if self.signed != "compose":
            branches = [self.neuron(branch) for branch in branches]
        self.pending[node] = merge_terms([term for branch in branches for term in self.terms(branch)])
        if all(branch in self.links and self.lowest[branch] >= 0 for branch in branches):
            self._add(node, Excitation(self.pending.pop(node)), 0.0)


def compose(second: Convolution, first: LinearMap, *, at: str) -> LinearMap:
    """The one convolution that two in a row are, where one of them is pointwise (1×1).

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
            raise ValueError(f"cannot compose a stride with the padding of what comes before {at!r}: choose signed=clamp")
        stride = (inner.stride[0] * outer.stride[0], inner.stride[1] * outer.stride[1])
        return replace(inner, weight=_kept_layout(weight), stride=stride)
    if inner.is_pointwise:
        weight = torch.einsum("omkl,mi->oikl", outer.weight, inner.weight[:, :, 0, 0])
        return replace(outer, weight=_kept_layout(weight))
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


def merge_terms(terms: list[Term]) -> tuple[Term, ...]:
    """Add up the maps that a sum takes from one source, since only their sum says what excites and what inhibits."""
    merged: dict[fx.Node, LinearMap] = {}
    for term in terms:
        merged[term.source] = _added(merged[term.source], term.map) if term.source in merged else term.map
    return tuple(Term(source, linear) for source, linear in merged.items())


def _added(first: LinearMap, second: LinearMap) -> LinearMap:
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
    if first.stride != second.stride or first.dilation != second.dilation != (1, 1):
        raise ValueError("cannot add two convolutions of different strides or dilations: choose signed=clamp")
    if first.padding is None or second.padding is None:
        raise ValueError("cannot add convolutions with TensorFlow's padding: choose signed=clamp")
    if first.weight.shape[-1] < second.weight.shape[-1]:
        first, second = second, first
    rows, columns = first.padding[0] - second.padding[0], first.padding[1] - second.padding[1]
    weight = first.weight.clone()
    kh, kw = second.weight.shape[2:]
    if rows < 0 or columns < 0 or rows + kh > weight.shape[2] or columns + kw > weight.shape[3]:
        raise ValueError("cannot add two convolutions of different fields: choose signed=clamp")
    weight[:, :, rows : rows + kh, columns : columns + kw] += second.weight
    return replace(first, weight=_kept_layout(weight))


# What a node does, read off its module or function.


def _pair(value: Any) -> Size:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value), int(value))


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def _convolution_of(module: nn.Module) -> Convolution:
    if isinstance(module, nn.Linear):
        return Convolution(_kept_layout(module.weight[:, :, None, None]))
    if isinstance(module, nn.Conv2d):
        padding: Size | None = None if is_same_padded(module) or module.padding == "same" else (0, 0)
        if padding is not None and not isinstance(module.padding, str):
            padding = _pair(module.padding)
        if module.padding_mode != "zeros":
            raise ValueError(f"no rule for a convolution with padding_mode={module.padding_mode!r}")
        return Convolution(module.weight, _pair(module.stride), padding, _pair(module.dilation), module.groups)
    statistics: Any = module  # batch norm that no convolution precedes: one weight for each channel
    scale = (statistics.running_var + statistics.eps).rsqrt()
    if statistics.weight is not None:
        scale = scale * statistics.weight
    return Convolution(scale[:, None, None, None], groups=len(scale))


_LOWEST_OF_MODULE: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda m: 0.0,
    nn.ReLU6: lambda m: 0.0,
    nn.Sigmoid: lambda m: 0.0,
    nn.Hardsigmoid: lambda m: 0.0,
    nn.Softplus: lambda m: 0.0,
    nn.Tanh: lambda m: -1.0,
    nn.Softsign: lambda m: -1.0,
    nn.Hardtanh: lambda m: float(m.min_val),
    nn.ELU: lambda m: -float(m.alpha),
    nn.CELU: lambda m: -float(m.alpha),
    nn.SELU: lambda m: -1.7580993408473766,
    nn.SiLU: lambda m: -0.27846454276107379,
    nn.GELU: lambda m: -0.17004,
    nn.Mish: lambda m: -0.30884,
    nn.Hardswish: lambda m: -0.375,
}
_MODULE_OF_FUNCTION: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), nn.ReLU),
    F.relu6: nn.ReLU6,
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), nn.Sigmoid),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh", "tanh_"), nn.Tanh),
    F.hardsigmoid: nn.Hardsigmoid,
    F.softplus: nn.Softplus,
    F.softsign: nn.Softsign,
    F.selu: nn.SELU,
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
    F.mish: nn.Mish,
    F.hardswish: nn.Hardswish,
}


def _lowest_value(node: fx.Node, module: nn.Module | None) -> float | None:
    """The least value of an activation function (λ of Eq. 20), None for other operations."""
    if module is not None:
        rule = _LOWEST_OF_MODULE.get(type(module))
        return rule(module) if rule else None
    if node.op in ("call_function", "call_method"):
        kind = _MODULE_OF_FUNCTION.get(node.target)
        if kind is not None:
            return _LOWEST_OF_MODULE[kind](None)
        if node.target in (F.elu, F.celu):
            return -float(_argument(node, 1, "alpha", 1.0))
        if node.target is F.hardtanh:
            return float(_argument(node, 1, "min_val", -1.0))
    return None


def _is_rectifier(node: fx.Node, module: nn.Module | None) -> bool:
    return type(module) is nn.ReLU or _MODULE_OF_FUNCTION.get(node.target) is nn.ReLU


def _is_sum(node: fx.Node) -> bool:
    is_function = node.target in (operator.add, operator.iadd, torch.add)
    is_method = node.op == "call_method" and node.target in ("add", "add_")
    are_tensors = len(node.args) == 2 and all(isinstance(part, fx.Node) for part in node.args)
    return (is_function or is_method) and are_tensors and not node.kwargs


def _passes(node: fx.Node, module: nn.Module | None) -> bool:
    is_method = node.op == "call_method" and node.target in PASSING_METHODS
    return isinstance(module, PASSING_MODULES) or node.target in PASSING_FUNCTIONS or is_method


def _maximum_of(node: fx.Node, module: nn.Module | None) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    if type(module) is nn.MaxPool2d:
        return partial(F.max_pool2d, return_indices=True, **{name: getattr(module, name) for name in names})
    if node.target in (F.max_pool2d, torch.max_pool2d):
        defaults = (None, None, 0, 1, False)
        values = {name: _argument(node, i + 1, name, defaults[i]) for i, name in enumerate(names)}
        return partial(F.max_pool2d, return_indices=True, **values)
    if type(module) is nn.AdaptiveMaxPool2d:
        return partial(F.adaptive_max_pool2d, output_size=module.output_size, return_indices=True)
    if node.target is F.adaptive_max_pool2d:
        return partial(F.adaptive_max_pool2d, output_size=_argument(node, 1, "output_size", 1), return_indices=True)
    return None


def _average_of(node: fx.Node, module: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    if is_spatial_mean(node):
        return partial(torch.mean, dim=(2, 3), keepdim=True)
    if type(module) in (nn.AvgPool2d, nn.AdaptiveAvgPool2d):
        return module
    if is_adaptive_average(node, module):
        return partial(F.adaptive_avg_pool2d, output_size=_argument(node, 1, "output_size", 1))
    if node.target is sliding_average:
        return partial(sliding_average, window=_argument(node, 1, "window", 1))
    if node.target is F.avg_pool2d:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        defaults = (None, None, 0, False, True, None)
        values = {name: _argument(node, i + 1, name, defaults[i]) for i, name in enumerate(names)}
        return partial(F.avg_pool2d, **values)
    return None
