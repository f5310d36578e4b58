"""The head of a network applied at every place of the last map, and its responses pooled, instead of the map's mean.

It is for networks of the form features, global average pooling, flattening, dropout or none, and a linear head, as timm
and torchvision build EfficientNet, ResNet, MobileNetV2 and GoogLeNet.
"""

from collections.abc import Callable

import torch
from torch import fx, nn

from grounding.attention.operations import is_flatten, is_global_average, is_spatial_mean, operation_name, passes
from grounding.models import Pooling
from grounding.pooling import pool_responses


def respond_at_places(network: nn.Module, head: str, pooling: Pooling, learned: int) -> Callable[[fx.Graph], None]:
    """A change of a network's graph, for `train.split`: its head runs at every place, and then responses are pooled.

    Below the head is then a map (B, C, h, w), and dropout drops channels of each place on its own.

    Args:
        network: the network that was traced.
        head: the path of its linear head.
        pooling: the pooling of the first ``learned`` units.
        learned: number of units with this pooling; the others are averaged.

    Raises:
        ValueError: when the change is made: the network is not of the form above.
    """

    def change(graph: fx.Graph) -> None:
        output = next(node for node in graph.nodes if node.op == "output")
        linear = output.args[0]
        if not (isinstance(linear, fx.Node) and linear.op == "call_module" and linear.target == head):
            raise ValueError(_refusal(network, pooling, f"something follows its head {head!r}"))
        if not isinstance(network.get_submodule(head), nn.Linear):
            raise ValueError(_refusal(network, pooling, f"its head {head!r} is no linear layer"))
        _skip_pooling(network, graph, linear, pooling)
        # Both are part of the head, so that the network is cut below them.
        with graph.inserting_before(linear):
            channels_last = graph.call_function(torch.movedim, (linear.args[0], 1, 3))
        linear.args, channels_last.meta = (channels_last,), linear.meta
        with graph.inserting_after(linear):
            responses = graph.call_function(torch.movedim, (linear, 3, 1))
        with graph.inserting_after(responses):
            pooled = graph.call_function(pool_responses, (responses, pooling.kind, float(pooling.sharpness), learned))
        output.args = (pooled,)

    return change


def _skip_pooling(network: nn.Module, graph: fx.Graph, linear: fx.Node, pooling: Pooling) -> None:
    """Let the head's input be the last map, through dropout, where it was the vector of its means."""
    modules = dict(network.named_modules())
    node = linear.all_input_nodes[0]
    while node.all_input_nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        below = node.all_input_nodes[0]
        if is_global_average(node, module) or is_spatial_mean(node, module):
            node.replace_all_uses_with(below)
            return
        if is_flatten(node, module):
            node.replace_all_uses_with(below)
        elif not passes(node, module):
            name = operation_name(node, module)
            raise ValueError(_refusal(network, pooling, f"{name} at {node.name!r} lies below its head"))
        node = below
    raise ValueError(_refusal(network, pooling, "nothing is pooled below its head"))


def _refusal(network: nn.Module, pooling: Pooling, reason: str) -> str:
    return (
        f"training.pooling={pooling.kind} needs a linear head right above a global average pooling, "
        f"but in {type(network).__name__} {reason}: use training.pooling=average"
    )
