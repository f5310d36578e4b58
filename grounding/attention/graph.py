"""A traced network as a graph of operations, and the ways to change that graph."""

from dataclasses import dataclass

from torch import fx, nn


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


def module_of(node: object, trace: Trace) -> nn.Module | None:
    """The module that a node calls, None for other nodes."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return trace.module.get_submodule(str(node.target))
    return None


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


def ancestors(node: fx.Node) -> set[fx.Node]:
    """A node and every node that its value depends on."""
    found = {node}
    waiting = [node]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def redirect(trace: Trace, old: fx.Node, new: fx.Node) -> None:
    """Let everything that read ``old`` read ``new`` instead."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    for path, node in trace.layers.items():
        if node is old:
            trace.layers[path] = new


def replace_node(trace: Trace, old: fx.Node, new: fx.Node) -> None:
    """Let everything that read ``old`` read ``new`` instead, and take ``old`` out of the graph."""
    redirect(trace, old, new)
    trace.module.graph.erase_node(old)


def call_after(trace: Trace, node: fx.Node, module: nn.Module, source: fx.Node) -> fx.Node:
    """A new node, placed after ``node``, that calls a new module on ``source``."""
    name = f"{node.name}_{type(module).__name__.lower()}"
    trace.module.add_submodule(name, module)
    with trace.module.graph.inserting_after(node):
        return trace.module.graph.call_module(name, (source,))
