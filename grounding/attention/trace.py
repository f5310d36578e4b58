"""Trace a network once into a graph that runs forward: batch norm folded, optionally fully convolutional."""

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from grounding.attention.graph import Trace, call_after, module_of, redirect, replace_node
from grounding.attention.operations import (
    DROPOUTS,
    argument,
    is_batch_norm,
    is_global_average,
    is_linear_module,
    is_same_padded,
    is_spatial_mean,
    sliding_average,
)
from grounding.attention.sliding import make_convolutional


def trace_network(network: nn.Module, *, window: int | None) -> Trace:
    """Trace a copy of the network, in evaluation mode and full precision, and fold batch norm.

    Args:
        network: any module that ``torch.fx`` can trace; it is left as it was.
        window: the side of the sliding classifier's window, in cells (see `make_convolutional`), or None.

    Raises:
        ValueError: ``torch.fx`` cannot trace the network.
    """
    try:
        network = copy.deepcopy(network).eval().requires_grad_(False)
    except RuntimeError as error:
        raise ValueError(f"{type(network).__name__} cannot be copied: {error}") from error
    for path, module in network.named_modules():
        if module._forward_pre_hooks and is_linear_module(module):  # such as weight norm: its weights may be stale
            raise ValueError(f"a hook may change the weights of {path!r} in its forward pass: remove it first")
    if next(network.parameters(), torch.empty(0)).dtype in (torch.float16, torch.bfloat16):
        network = network.float()  # normalisers underflow in half precision
    network = network.to(memory_format=torch.channels_last)
    tracer = Tracer()
    try:
        graph = tracer.trace(network)
    except Exception as error:
        raise ValueError(f"torch.fx cannot trace {type(network).__name__}: {error}") from error
    trace = Trace(fx.GraphModule(network, graph), tracer.layers)
    _rewrite_in_place(trace)
    _split_activations_from_batch_norm(trace)
    _fold_batch_norm(trace)
    if window is None:
        _pool_before_pointwise(trace)
    else:
        make_convolutional(trace, window)
    trace.module.graph.lint()
    trace.module.recompile()
    return trace


class Tracer(fx.Tracer):
    """Keeps modules that have rules of their own whole, and remembers the node of each module's output."""

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


def _rewrite_in_place(trace: Trace) -> None:
    """Replace operations in place by those that return a new value, which all later readers get.

    Attention needs the old values, too.
    """
    order = {node: place for place, node in enumerate(trace.module.graph.nodes)}
    for node in trace.module.graph.nodes:
        if _is_in_place(node, module_of(node, trace)):
            overwritten = node.all_input_nodes[0]
            overwritten.replace_all_uses_with(node, delete_user_cb=lambda user, n=node: order[user] > order[n])
        if node.op == "call_method" and (node.target.endswith("_") and not node.target.endswith("__")):
            node.target = node.target.removesuffix("_")
        elif node.op == "call_method" and node.target == "view":
            node.target = "reshape"  # channels lie together in memory, where a view may not do
        elif node.target in _NOT_IN_PLACE:
            node.target = _NOT_IN_PLACE[node.target]
        elif node.op == "call_function" and "inplace" in _parameters(node.target):
            place = _parameters(node.target).index("inplace")
            node.args, node.kwargs = node.args[:place], {**node.kwargs, "inplace": False}
        if node.target in DROPOUTS:
            node.args, node.kwargs = node.args[:1], {**node.kwargs, "training": False}
    for module in trace.module.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]


_NOT_IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, torch.relu_: torch.relu}


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a built-in function
        return []


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_module":
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op != "call_function":
        return False
    if node.target in _NOT_IN_PLACE:
        return True
    parameters = _parameters(node.target)
    return "inplace" in parameters and bool(argument(node, parameters.index("inplace"), "inplace", False))


def _split_activations_from_batch_norm(trace: Trace) -> None:
    activations: dict[nn.Module, Any] = {}
    for node in list(trace.module.graph.nodes):
        module: Any = module_of(node, trace)
        if is_batch_norm(module) and type(module).__name__ == "BatchNormAct2d":
            activation = activations.setdefault(module, module.act)  # a module may be called twice
            module.act = nn.Identity()
            if not isinstance(activation, nn.Identity):
                redirect(trace, node, call_after(trace, node, activation, node))


def _fold_batch_norm(trace: Trace) -> None:
    """Fold each batch norm into the convolution or fully connected layer before it, if nothing else reads that."""
    calls = [node.target for node in trace.module.graph.nodes if node.op == "call_module"]
    for node in list(trace.module.graph.nodes):
        norm = module_of(node, trace)
        if norm is None or not is_batch_norm(norm) or norm.running_mean is None:
            continue
        before = node.all_input_nodes[0]
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
            torch.ones_like(statistics.running_var) if statistics.weight is None else statistics.weight,
            torch.zeros_like(statistics.running_var) if statistics.bias is None else statistics.bias,
        )
        linear.weight, linear.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        replace_node(trace, node, before)


def _pool_before_pointwise(trace: Trace) -> None:
    """Move a global average before the 1×1 convolution that it follows, which gives the same result.

    Probability is then never shared among the signed responses of that convolution.
    """
    for node in list(trace.module.graph.nodes):
        module = module_of(node, trace)
        is_global = is_spatial_mean(node, module) or is_global_average(node, module)
        if not is_global or not node.all_input_nodes:
            continue
        before = node.all_input_nodes[0]
        linear: Any = module_of(before, trace)
        is_pointwise = type(linear) is nn.Conv2d and (linear.kernel_size, linear.stride) == ((1, 1), (1, 1))
        if not is_pointwise or len(before.users) > 1 or linear.padding not in ((0, 0), "valid", "same"):
            continue
        with trace.module.graph.inserting_after(node):
            pooled = trace.module.graph.call_function(sliding_average, (before.all_input_nodes[0], None))
        with trace.module.graph.inserting_after(pooled):
            answer = trace.module.graph.call_module(str(before.target), (pooled,))
        if is_spatial_mean(node, module) and not argument(node, 2, "keepdim", False):
            with trace.module.graph.inserting_after(answer):
                answer = trace.module.graph.call_method("flatten", (answer, 1))
        replace_node(trace, node, answer)
        trace.module.graph.erase_node(before)
