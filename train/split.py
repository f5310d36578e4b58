"""Cut a network in two parts: the lower one is frozen, and the upper one is trained."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from grounding.attention.trace import Tracer
from grounding.messages import one_line

GraphChange = Callable[[fx.Graph], None]


def split(network: nn.Module, layer: str, change: GraphChange | None = None) -> tuple[nn.Module, nn.Module]:
    """Cut a network where the module ``layer`` begins; returns its lower and its upper part.

    The network computes ``upper(lower(images))``. The parts share its weights, and follow ``train()`` and ``eval()`` as
    it does.

    Args:
        network: any network that ``torch.fx`` can trace.
        layer: the path of the module.
        change: changes the traced graph before it is cut (see `train.places`).

    Raises:
        ValueError: there is no such module, ``torch.fx`` cannot trace the network, or a path leads around the module.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    >>> lower, upper = split(network, "2")
    >>> [name for name, _ in lower.named_parameters()], [name for name, _ in upper.named_parameters()]
    (['0.weight', '0.bias'], ['2.weight', '2.bias'])
    """
    where = f"training.trained={layer}"
    if not layer or layer not in dict(network.named_modules()):
        names = ", ".join(name for name, _ in network.named_children())
        raise ValueError(f"{where}: no such module; there are all, head, and parts of {names}")
    graph = _trace(network, where, change)
    photos, answer = _ends(graph, where)
    inside = {node for node in graph.nodes if _is_in(node, layer)}
    entries = (outer for node in graph.nodes if node in inside for outer in node.all_input_nodes if outer not in inside)
    boundary = next(entries, None)
    above = set() if boundary is None else _between(graph, boundary, answer)
    if boundary is None or not above & inside:
        raise ValueError(f"{where}: the network does not use this module")
    if photos in above - {boundary} or _has_weights_beside(network, graph, above - {boundary}, inside):
        raise ValueError(f"{where}: there are ways around this module; choose one that all goes through")
    below = _between(graph, photos, boundary)
    return _part(network, graph, below, photos, boundary), _part(network, graph, above, boundary, answer)


def changed_network(network: nn.Module, change: GraphChange) -> nn.Module:
    """A network with a change of its graph, whole; it shares the network's weights, and follows its mode.

    Raises:
        ValueError: ``torch.fx`` cannot trace the network, or the change is refused.
    """
    graph = _trace(network, "training.trained=all", change)
    photos, answer = _ends(graph, "training.trained=all")
    return _part(network, graph, _between(graph, photos, answer), photos, answer)


def _trace(network: nn.Module, where: str, change: GraphChange | None) -> fx.Graph:
    try:
        graph = _Tracer().trace(network)
    except Exception as error:  # whatever the network's own code raises on a tracer's proxies
        raise ValueError(f"{where}: torch.fx cannot trace the network: {one_line(error)}") from None
    _follow_the_mode(graph)
    if change is not None:
        change(graph)
    return graph


def _ends(graph: fx.Graph, where: str) -> tuple[fx.Node, fx.Node]:
    """The nodes of the photos and of the network's answer."""
    photos = next(node for node in graph.nodes if node.op == "placeholder")
    answer = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(answer, fx.Node):
        raise ValueError(f"{where}: the network returns a structure, not one tensor of output units")
    return photos, answer


class _Tracer(Tracer):
    """Traces through modules that have parts, and leaves others whole, since their operation may depend on the mode."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not list(m.children()) or super().is_leaf_module(m, module_qualified_name)


def _follow_the_mode(graph: fx.Graph) -> None:
    """Make functions such as dropout follow the module's mode; the tracer recorded its value as a constant."""
    for node in list(graph.nodes):
        if node.op == "call_function" and "training" in _parameters(node.target):
            with graph.inserting_before(node):
                mode = graph.get_attr("training")
            arguments = inspect.signature(node.target).bind(*node.args, **node.kwargs)
            arguments.arguments["training"] = mode
            node.args, node.kwargs = arguments.args, arguments.kwargs


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a built-in function
        return []


def _is_in(node: fx.Node, layer: str) -> bool:
    """Whether a node belongs to a module or to a part of it."""
    stack = node.meta.get("nn_module_stack", {})
    return any(path == layer for path, _ in stack.values())


def _between(graph: fx.Graph, start: fx.Node, end: fx.Node) -> set[fx.Node]:
    """The nodes that are needed to compute ``end`` from ``start``, both included."""
    needed = {start, end}
    for node in reversed(graph.nodes):
        if node in needed and node is not start:
            needed.update(node.all_input_nodes)
    return needed


def _has_weights_beside(network: nn.Module, graph: fx.Graph, above: set[fx.Node], inside: set[fx.Node]) -> bool:
    """Whether a module above has weights but no input from the layer, such as another branch of an inception module."""
    after: set[fx.Node] = set()
    for node in graph.nodes:
        if node in inside or not after.isdisjoint(node.all_input_nodes):
            after.add(node)
    modules = [network.get_submodule(str(node.target)) for node in above - after if node.op == "call_module"]
    return any(True for module in modules for _ in module.parameters())


def _part(network: nn.Module, graph: fx.Graph, nodes: set[fx.Node], start: fx.Node, end: fx.Node) -> nn.Module:
    """The part of the network between two nodes as a module of its own."""
    part = fx.Graph()
    copies = {start: part.placeholder("inputs")}
    for node in graph.nodes:
        if node in nodes and node is not start:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[end])
    part.lint()
    module = fx.GraphModule(network, part)
    module.train(network.training)
    return module
