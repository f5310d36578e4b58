"""Where attention stops: at a layer of the network, at the last map below the classifier, or at the pixels."""

from typing import Literal

from torch import fx

from grounding.attention.activation_map import classifier_above_average
from grounding.attention.circuit import find_layer
from grounding.attention.graph import Trace

Place = Literal["layer", "last_map", "pixels"]
PLACES = ("layer", "last_map", "pixels")


def check_place(at: object, *, allowed: tuple[str, ...] = PLACES) -> None:
    """Raise ValueError if a setting is none of the allowed places."""
    if at not in allowed:
        raise ValueError(f"at must be {', '.join(allowed[:-1])} or {allowed[-1]}, got {at!r}")


def last_map(trace: Trace) -> fx.Node:
    """The map that the global average pooling below the classifier averages, to which CAM applies the classifier.

    Raises:
        ValueError: the network has no such pooling.
    """
    try:
        return classifier_above_average(trace)[0]
    except ValueError:
        raise ValueError(
            "at=last_map needs a linear classifier right above a global average pooling: choose at=layer"
        ) from None


def find_last_map(trace: Trace) -> fx.Node | None:
    """The result of `last_map`; None where the network has no such pooling."""
    try:
        return last_map(trace)
    except ValueError:
        return None


def place_of(trace: Trace, layer: str, at: Place) -> fx.Node:
    """The node whose value a place names, the image for ``pixels``.

    Raises:
        ValueError: the layer is unknown or holds no activation neurons, or there is no last map.
    """
    if at == "pixels":
        image: fx.Node = next(node for node in trace.module.graph.nodes if node.op == "placeholder")
        return image
    return find_layer(trace, layer) if at == "layer" else last_map(trace)
