"""Trace a network once into a graph that runs forward: batch norm folded, optionally fully convolutional."""

import copy
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from grounding.attention.operations import (
    is_adaptive_average,
    is_batch_norm,
    is_flatten,
    is_linear_module,
    is_same_padded,
    is_spatial_mean,
    sliding_average,
)


@dataclass(frozen=True, eq=False)
class Trace:
    """A network as a graph of operations, ready to run on a batch of images."""

    module: fx.GraphModule
    layers: dict[str, fx.Node]  # a module's path in the network -> the node of its (last) output

    @property
    def output(self) -> fx.Node:
        """The node of the network's answer, its output units."""
        returned = next(node for node in self.module.graph.nodes if node.op == "output").args[0]
        if not isinstance(returned, fx.Node):
            raise ValueError("the network returns a structure; wrap it so that it returns one tensor of output units")
        return returned


def trace_network(network: nn.Module, *, window: int | None) -> Trace:
    """Trace a copy of the network, in evaluation mode and full precision, and fold batch norm.

    Args:
        network: any module that ``torch.fx`` can trace; it is left as found.
        window: None keeps the classifier as it is; a number makes it fully convolutional (see `make_convolutional`).

    Raises:
        ValueError: ``torch.fx`` cannot trace the network.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    if next(network.parameters(), torch.empty(0)).dtype in (torch.float16, torch.bfloat16):
        network = network.float()  # normalisers underflow in half precision
    network = network.to(memory_format=torch.channels_last)
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception as error:
        raise ValueError(f"torch.fx cannot trace {type(network).__name__}: {error}") from error
    trace = Trace(fx.GraphModule(network, graph), tracer.layers)
    _forbid_in_place(trace)
    _split_activations_from_batch_norm(trace)
    _fold_batch_norm(trace)
    if window is not None:
        make_convolutional(trace, window)
    trace.module.graph.lint()
    trace.module.recompile()
    return trace


class _Tracer(fx.Tracer):
    """Keeps whole the modules that have rules of their own, and remembers where each module's output is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_batch_norm(m) or is_same_padded(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            self.layers[self.path_of_module(m)] = output.node
        return output


def module_of(node: object, trace: Trace) -> nn.Module | None:
    """The module that a node calls, None for other nodes."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return trace.module.get_submodule(str(node.target))
    return None


def _forbid_in_place(trace: Trace) -> None:
    """Attention reads values that an operation in place would overwrite."""
    for module in trace.module.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    for node in trace.module.graph.nodes:
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
        if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
            node.target = node.target.removesuffix("_")
        elif node.op == "call_function":
            node.target = {operator.iadd: operator.add, operator.imul: operator.mul}.get(node.target, node.target)


def _redirect(trace: Trace, old: fx.Node, new: fx.Node) -> None:
    """Let everything that read ``old`` read ``new`` instead."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    for path, node in trace.layers.items():
        if node is old:
            trace.layers[path] = new


def _replace(trace: Trace, old: fx.Node, new: fx.Node) -> None:
    _redirect(trace, old, new)
    trace.module.graph.erase_node(old)


def _call_after(trace: Trace, node: fx.Node, module: nn.Module, source: fx.Node) -> fx.Node:
    """A new node, placed after ``node``, that calls a new module on ``source``."""
    name = f"{node.name}_{type(module).__name__.lower()}"
    trace.module.add_submodule(name, module)
    with trace.module.graph.inserting_after(node):
        return trace.module.graph.call_module(name, (source,))


def _split_activations_from_batch_norm(trace: Trace) -> None:
    for node in list(trace.module.graph.nodes):
        module = module_of(node, trace)
        if is_batch_norm(module) and type(module).__name__ == "BatchNormAct2d":
            activation: Any = module.act  # type: ignore[union-attr]
            module.act = nn.Identity()  # type: ignore[union-attr]
            if not isinstance(activation, nn.Identity):
                _redirect(trace, node, _call_after(trace, node, activation, node))


def _fold_batch_norm(trace: Trace) -> None:
    """Fold batch norm into the convolution before it, as the network's activation neurons see it."""
    calls = [node.target for node in trace.module.graph.nodes if node.op == "call_module"]
    for node in list(trace.module.graph.nodes):
        norm = module_of(node, trace)
        if norm is None or not is_batch_norm(norm) or norm.running_mean is None:
            continue
        before = node.args[0]
        linear = module_of(before, trace)
        if linear is None or len(before.users) > 1 or calls.count(before.target) > 1:
            continue
        fuse: Callable[..., tuple[nn.Parameter, nn.Parameter]]
        if type(linear) is nn.Linear:
            fuse = fuse_linear_bn_weights
        elif type(linear) is nn.Conv2d or is_same_padded(linear):
            fuse = fuse_conv_bn_weights
        else:
            continue
        statistics: Any = norm
        weight, bias = fuse(
            linear.weight,  # type: ignore[arg-type]
            linear.bias,  # type: ignore[arg-type]
            statistics.running_mean,
            statistics.running_var,
            statistics.eps,
            statistics.weight,
            statistics.bias,
        )
        linear.weight, linear.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        _replace(trace, node, before)


# The fully convolutional form (paper, section 6.1.1): the classifier runs at every position.


def make_convolutional(trace: Trace, window: int) -> None:
    """Rewrite the graph so that the classifier runs at every position of the feature map.

    Global average pooling becomes a sliding window of ``window`` cells (7 for networks trained at 224 pixels with
    stride 32), a fully connected layer a convolution with the kernel that it was trained for. A pooling above the
    classifier goes, since its positions are what we want.

    Raises:
        ValueError: a fully connected layer does not fit a square field of the channels below it.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 cell, got {window}")
    graph = trace.module.graph
    for node in list(graph.nodes):
        module = module_of(node, trace)
        if is_adaptive_average(node, module) or is_spatial_mean(node):
            size = node.kwargs.get("output_size", node.args[1] if len(node.args) > 1 else 1)
            size = module.output_size if type(module) is nn.AdaptiveAvgPool2d else size
            is_global = is_spatial_mean(node) or size in (1, (1, 1), [1, 1])
            if is_global and any(is_linear_module(module_of(later, trace)) for later in descendants(node)):
                with graph.inserting_after(node):
                    sliding = graph.call_function(sliding_average, (node.args[0], window))
                _replace(trace, node, sliding)
            else:
                _replace(trace, node, node.args[0])
        elif is_flatten(node, module):
            _replace(trace, node, node.args[0])
        elif type(module) is nn.Linear:
            convolution = _as_convolution(module, _channels(node.args[0], trace))
            _replace(trace, node, _call_after(trace, node, convolution, node.args[0]))


def _as_convolution(linear: nn.Linear, channels: int) -> nn.Conv2d:
    side = math.isqrt(linear.in_features // channels)
    if side * side * channels != linear.in_features:
        raise ValueError(
            f"a fully connected layer of {linear.in_features} inputs over {channels} channels has no square field: "
            "use window=null"
        )
    with torch.device("meta"):
        convolution = nn.Conv2d(channels, linear.out_features, side, bias=linear.bias is not None)
    weight = linear.weight.detach().view(linear.out_features, channels, side, side)
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = linear.bias
    return convolution


def descendants(node: fx.Node) -> set[fx.Node]:
    """Every node whose value depends on this one."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in found:
                found.add(user)
                waiting.append(user)
    return found


def _channels(node: Any, trace: Trace) -> int:
    """How many channels the value of a node has."""
    module = module_of(node, trace)
    if is_linear_module(module):
        return int(getattr(module, "out_channels", None) or module.out_features)  # type: ignore[union-attr, arg-type]
    if node.target is torch.cat:
        return sum(_channels(part, trace) for part in node.args[0])
    if node.target in (operator.add, torch.add, operator.iadd) or node.args:
        return _channels(node.args[0], trace)
    raise ValueError(f"cannot tell the channels below the classifier at {node.name}: use window=null")
