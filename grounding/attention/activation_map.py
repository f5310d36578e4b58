"""Class activation maps: the classifier above a global average pooling, applied at every cell below it."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from grounding.attention.graph import Trace, module_of
from grounding.attention.operations import (
    convolution_of,
    has_fixed_field,
    has_weights,
    is_average_pooling,
    is_batch_norm,
    is_final,
    is_flatten,
    passes,
)
from grounding.attention.precision import full_precision
from grounding.attention.signals import as_input, check_call, check_finite, device_type, prior_of
from grounding.attention.trace import trace_network


class CAM:
    """Class activation maps (Zhou et al. 2016; paper, Eq. 16), for networks whose classifier averages a map.

    A map is Σ_i w_i a_ij over the channels i of the last map before the pooling, at every cell j, without bias, clipped
    at 0.

    Args:
        network: a classifier that ``torch.fx`` can trace: linear above a global average pooling. It is left as it was;
            its weights are read once, here.
        layer: not used, since maps are those of the last layer before the pooling; all methods take it.
        window: not used, since the classifier is applied at every cell.
        reverse: whether the units are replaced by their reverse units, whose weights are negated (Table 3).

    Raises:
        ValueError: the network cannot be traced, or has another kind of classifier.
    """

    def __init__(self, network: nn.Module, layer: str, *, window: int | None = None, reverse: bool = False) -> None:
        self.layer = layer
        with full_precision(device_type(network)):
            trace = trace_network(network, window=None)
            node, weight = classifier_above_average(trace)
        self._weight = -weight if reverse else weight
        self._network = network_up_to(node, trace)

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image.

        Shapes:
            images: (B, 3, H, W), as the network wants them.
            targets: B tensors, either (K_b,) of output units, or (K_b, units) of weights of the units.
            returns: B tensors (K_b, h, w), non-negative, at the resolution of the last layer.

        Raises:
            ValueError: shapes do not fit, a unit does not exist, a prior is negative, or a value is not a number.
        """
        check_call(images, targets)
        if len(images) == 0:
            return []
        with full_precision(device_type(self._network)):
            cells = self._network(as_input(images, self._network))
            if cells.shape[1] != self._weight.shape[1]:
                raise ValueError(_no_cam(f"it has {self._weight.shape[1]} inputs for {cells.shape[1]} channels"))
            weight = self._weight.to(cells.device)
            maps = []
            for cell, target in zip(cells, targets, strict=True):
                prior = prior_of(torch.as_tensor(target).to(cells.device), len(weight), cells.dtype)
                maps.append(torch.einsum("kc,chw->khw", prior @ weight, cell).clamp(min=0))
        check_finite(maps)
        return maps


def classifier_above_average(trace: Trace) -> tuple[fx.Node, Tensor]:
    """Find the map that a global average pools, and the weights of the classifier above it, (units, channels).

    Linear layers and batch norm above the pooling are multiplied into one linear map; biases are left out.

    Raises:
        ValueError: something else lies between the pooling and the output units.
    """
    node, weight = trace.output, None
    while node.all_input_nodes:
        module = module_of(node, trace)
        below = node.all_input_nodes[0]
        if is_average_pooling(node, module) and not has_fixed_field(node, module) and weight is not None:
            return below, weight
        if module is not None and has_weights(node, module):
            linear = convolution_of(module)
            matrix = linear.weight.flatten(1)
            if is_batch_norm(module):
                matrix = torch.diag(matrix[:, 0])
            elif not linear.is_pointwise:
                break
            weight = matrix if weight is None else _composed(weight, matrix)
        elif not (is_flatten(node, module) or passes(node, module) or (weight is None and is_final(node, module))):
            break
        node = below
    raise ValueError(_no_cam(f"here it comes down to {node.name!r}"))


def _composed(weight: Tensor, matrix: Tensor) -> Tensor:
    if weight.shape[1] != len(matrix):
        raise ValueError(_no_cam("here it mixes cells"))
    return weight @ matrix


def _no_cam(reason: str) -> str:
    return f"CAM needs a linear classifier right above a global average pooling, but {reason}: choose attention=cmwp"


def network_above(node: fx.Node, trace: Trace) -> fx.GraphModule:
    """Cut off the traced network below one of its nodes, whose value it then takes."""
    graph = trace.module.graph
    image = next(other for other in graph.nodes if other.op == "placeholder")
    with graph.inserting_before(node):
        node.replace_all_uses_with(graph.placeholder("value"))
    graph.eliminate_dead_code()
    graph.erase_node(image)
    trace.module.delete_all_unused_submodules()
    trace.module.recompile()
    return trace.module


def network_up_to(node: fx.Node, trace: Trace) -> fx.GraphModule:
    """Cut off the traced network above one of its nodes, whose value it then returns."""
    output = next(other for other in trace.module.graph.nodes if other.op == "output")
    output.args = (node,)
    trace.module.graph.eliminate_dead_code()
    trace.module.delete_all_unused_submodules()
    trace.module.recompile()
    return trace.module
