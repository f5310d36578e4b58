"""Cut a network in two: below, weights that are kept; above, weights that are trained."""

from copy import deepcopy

import torch
from torch import fx, nn

from grounding.attention.trace import Tracer


def split(network: nn.Module, layer: str) -> tuple[nn.Module, nn.Module]:
    """The network as two, ``upper(lower(images))``; ``upper`` begins with the module ``layer``. Weights are shared.

    Raises:
        ValueError: there is no such module, ``torch.fx`` cannot trace the network, or there are ways around it.
    """
    if layer not in dict(network.named_modules()) or not layer:
        names = ", ".join(name for name, _ in network.named_children())
        raise ValueError(f"training.trained={layer}: no such module; there are all, head, and parts of {names}")
    try:
        graph = Tracer().trace(network)
    except Exception as error:  # whatever the network's own code raises on a tracer's proxies
        raise ValueError(f"training.trained={layer}: torch.fx cannot trace the network: {error}") from None
    first = next((node for node in graph.nodes if _is_in(node, layer)), None)
    if first is None or not first.all_input_nodes:
        raise ValueError(f"training.trained={layer}: the network does not use this module")
    boundary = first.all_input_nodes[0].name
    return _module(network, _below(graph, boundary)), _module(network, _above(graph, boundary, layer))


def _is_in(node: fx.Node, layer: str) -> bool:
    return node.op == "call_module" and (node.target == layer or str(node.target).startswith(f"{layer}."))


def _below(graph: fx.Graph, boundary: str) -> fx.Graph:
    graph = deepcopy(graph)
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = (_named(graph, boundary),)
    _drop_unused(graph)
    return graph


def _above(graph: fx.Graph, boundary: str, layer: str) -> fx.Graph:
    graph = deepcopy(graph)
    (photos,) = (node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_before(photos):
        features = graph.placeholder("features")
    _named(graph, boundary).replace_all_uses_with(features)
    _drop_unused(graph)
    if photos.users:
        raise ValueError(f"training.trained={layer}: something below this module is used above it, too; choose another")
    graph.erase_node(photos)
    return graph


def _drop_unused(graph: fx.Graph) -> None:
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("output", "placeholder"):
            graph.erase_node(node)


def _named(graph: fx.Graph, name: str) -> fx.Node:
    node: fx.Node = next(node for node in graph.nodes if node.name == name)
    return node


def _module(network: nn.Module, graph: fx.Graph) -> nn.Module:
    graph.lint()
    module = torch.fx.GraphModule(network, graph)
    module.train(network.training)
    return module
