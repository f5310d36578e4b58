"""Choose the layer where attention stops, for a network whose layer nobody has chosen."""

import torch
from torch import fx

from grounding.attention.circuit import activation_layers, derive_circuit
from grounding.attention.graph import Trace
from grounding.attention.signals import record

FINER = 1.5  # how much finer than the last map the chosen one is; twice as fine ones may differ by a rounded cell


def choose_layer(trace: Trace, side: int) -> str:
    """Name the last layer of activation neurons whose map is finer than the last map, for most networks twice as fine.

    Its map tells places apart better than the last one does, and its neurons respond to parts of things. Most models in
    ``conf/model`` have such a layer. In a network whose maps are all of one size, the middle one of its layers is
    chosen. Where an operation without a rule lies above the layer, it is the next layer that fits. Layers within a
    branch, such as that of a residual block, are left out, since only a part of the probability passes through them.

    Args:
        trace: the network.
        side: side of a square image, in pixels, that the network is tried with.

    Raises:
        ValueError: the network cannot be run on such an image, has no map of activation neurons, or has an operation
            without a rule above each of them.
    """
    image = next(node for node in trace.module.graph.nodes if node.op == "placeholder")
    layers = {name: node for name, node in activation_layers(trace).items() if _carries_all(node, image, trace.output)}
    values = record(trace, set(layers.values()), torch.zeros(1, 3, side, side))
    shapes = {name: values[node].shape for name, node in layers.items()}
    sides = {name: min(shape[2:]) for name, shape in shapes.items() if len(shape) == 4 and min(shape[2:]) > 1}
    if not sides:
        derive_circuit(trace, image.name, signed="clamp")  # raises if an operation without a rule is the reason
        raise ValueError("the network has no map of activation neurons, where attention could stop")
    names, last = list(sides), list(sides.values())[-1]
    finer = [index for index, name in enumerate(names) if sides[name] >= FINER * last]
    first = finer[-1] if finer else (len(names) - 1) // 2
    reason = ""
    for name in names[first:]:
        try:
            if derive_circuit(trace, name, signed="clamp").classifiers:
                return name
        except ValueError as error:
            reason = str(error)
    raise ValueError(f"attention can stop at none of the network's layers: {reason}")


def _carries_all(node: fx.Node, image: fx.Node, output: fx.Node) -> bool:
    """Whether every path from the image to the output leads through a node."""
    reached, waiting = {node, image}, [image]
    while waiting:
        for user in waiting.pop().users:
            if user not in reached:
                reached.add(user)
                waiting.append(user)
    return output not in reached
