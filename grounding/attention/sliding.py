"""The fully convolutional form of a network: its classifier runs at every position (paper, section 6.1.1)."""

import math
from typing import Any

import torch
from torch import fx, nn

from grounding.attention.graph import Trace, call_after, module_of, replace_node
from grounding.attention.operations import (
    argument,
    has_fixed_field,
    is_activation,
    is_average_pooling,
    is_batch_norm,
    is_final,
    is_flatten,
    is_linear_module,
    is_max_pooling,
    passes,
    sliding_average,
)

ELEMENTWISE = (is_activation, is_final, passes)


def make_convolutional(trace: Trace, window: int) -> None:
    """Rewrite the head of the graph so that the classifier runs at every position of the feature map.

    The head reaches from the output down to the last pooling. That pooling becomes a sliding window of ``window``
    cells (7 for networks trained at 224 pixels with stride 32), and a fully connected layer becomes a convolution with
    the kernel that it was trained for. A pooling above the classifier is removed, since its positions are wanted.

    Raises:
        ValueError: the head is no chain of layers, ends in max pooling, or a fully connected layer does not fit a
            square field of the channels below it.
    """
    if not isinstance(window, int) or window < 1:
        raise ValueError(f"window must be a number of cells, at least 1, or null; got {window!r}")
    node, has_classifier = trace.output, False
    while node.op != "placeholder":
        module = module_of(node, trace)
        below = node.all_input_nodes[0]
        if is_average_pooling(node, module):
            _slide(trace, node, window if has_classifier else None)
            return
        if is_max_pooling(node, module):
            raise ValueError(f"the classifier's head has max pooling at {node.name}, it cannot slide: use window=null")
        if is_flatten(node, module):
            replace_node(trace, node, below)
        elif type(module) is nn.Linear:
            convolution = _as_convolution(module, _channels(below, trace))
            replace_node(trace, node, call_after(trace, node, convolution, below))
            has_classifier = True
        elif is_linear_module(module) and module.kernel_size == (1, 1):  # type: ignore[union-attr]
            has_classifier = True
        elif type(module) is nn.BatchNorm1d:
            replace_node(trace, node, call_after(trace, node, _of_maps(module), below))
        elif len(node.all_input_nodes) > 1 and not has_classifier:
            raise ValueError(f"the classifier's head branches at {node.name}, it cannot slide: use window=null")
        elif not (is_batch_norm(module) or any(condition(node, module) for condition in ELEMENTWISE)):
            return
        node = below


def _slide(trace: Trace, node: fx.Node, window: int | None) -> None:
    """Let a pooling slide; remove it above the classifier, or where a fully connected layer needs its field."""
    below = node.all_input_nodes[0]
    if window is None or has_fixed_field(node, module_of(node, trace)):
        replace_node(trace, node, below)
        return
    with trace.module.graph.inserting_after(node):
        sliding = trace.module.graph.call_function(sliding_average, (below, window))
    replace_node(trace, node, sliding)


def _of_maps(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    """The same batch norm for maps instead of vectors."""
    with torch.device("meta"):
        twin = nn.BatchNorm2d(norm.num_features, norm.eps, affine=norm.affine).eval()
    twin.weight, twin.bias = norm.weight, norm.bias
    twin.running_mean, twin.running_var = norm.running_mean, norm.running_var
    return twin


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


def _channels(node: Any, trace: Trace) -> int:
    """The number of channels in the value of a node."""
    module = module_of(node, trace)
    if is_linear_module(module):
        return int(getattr(module, "out_channels", None) or module.out_features)  # type: ignore[union-attr, arg-type]
    if node.target in (torch.cat, torch.concat):
        return sum(_channels(part, trace) for part in argument(node, 0, "tensors", ()))
    if node.all_input_nodes:
        return _channels(node.all_input_nodes[0], trace)
    raise ValueError(f"cannot tell the channels below the classifier at {node.name}: use window=null")
