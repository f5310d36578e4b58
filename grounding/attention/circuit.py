"""Find the activation neurons of a traced network and the links between them (paper, section 3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import fx, nn

from grounding.attention.graph import Trace, ancestors, descendants, module_of
from grounding.attention.linear import Average, Convolution, Identity, LinearMap, add, compose
from grounding.attention.links import Circuit, Concatenation, Excitation, Flattening, Link, Maximum, Term, Unknown
from grounding.attention.operations import (
    argument,
    average_of,
    convolution_of,
    has_weights,
    is_activation,
    is_average_pooling,
    is_batch_norm,
    is_concatenation,
    is_final,
    is_flatten,
    is_input,
    is_lrn,
    is_max_pooling,
    is_rectifier,
    is_sum,
    lowest_value,
    maximum_of,
    operation_name,
    passes,
)

Signed = Literal["raise", "carry", "clamp", "compose", "skip_ignored"]
SIGNED_TREATMENTS = ("raise", "carry", "clamp", "compose", "skip_ignored")


def derive_circuit(trace: Trace, layer: str, *, signed: Signed) -> Circuit:
    """Find the activation neurons of a traced network and the linear maps between them.

    Args:
        trace: the network.
        layer: where attention stops: the path of a module, or the name of a node.
        signed: the treatment of signed values that enter a link (linear bottlenecks, residual sums):
            ``raise`` an error as soon as one is negative; ``carry`` the sign of a negative value into its share, as in
            the paper's Eq. 19 and its released code; ``clamp``, so that shares are in proportion to the positive part;
            ``compose`` linear maps that follow each other into one; ``skip_ignored``, so that a residual sum has the
            children of its longer branch alone (section 6.1.3, Fig. 7), and all other shares are as with ``clamp``.

    Raises:
        ValueError: the layer is unknown or holds no activation neurons, or an operation between the layer and the
            output units has no rule.
    """
    if signed not in SIGNED_TREATMENTS:
        raise ValueError(f"signed must be one of {', '.join(SIGNED_TREATMENTS)}, got {signed!r}")
    analysis = _analyse(trace, signed)
    units = analysis.as_neurons(logits_node(trace.output, trace))
    analysis.unfold_sum(units)
    bottom = _layer_node(layer, trace, analysis)
    descent = _descent(units, bottom, analysis.links)
    if not descent:
        raise ValueError(f"layer {layer!r} does not lead to the output units; {_layers_there_are(trace, analysis)}")
    return Circuit(analysis.links, analysis.lowest, units, bottom, descent)


def activation_layers(trace: Trace) -> dict[str, fx.Node]:
    """Find the nodes that hold activation neurons, children before their parents.

    The key is the name under which `derive_circuit` knows the layer: the shortest path of a module with this output, or
    the name of the node where no module has it.
    """
    analysis = _analyse(trace, "clamp")
    paths = {trace.layers[path]: path for path in sorted(trace.layers, key=len, reverse=True)}
    return {
        paths.get(node, node.name): node
        for node in analysis.links
        if analysis.lowest[node] > -math.inf and (node in paths or node.name not in trace.layers)
    }


def find_layer(trace: Trace, layer: str) -> fx.Node:
    """The node of the activation neurons of a layer, whether or not every operation above it has a rule.

    Raises:
        ValueError: the layer is unknown or holds no activation neurons.
    """
    return _layer_node(layer, trace, _analyse(trace, "clamp"))


def logits_node(node: fx.Node, trace: Trace) -> fx.Node:
    """The node of the logits, below a final softmax, sigmoid or flattening."""
    module = module_of(node, trace)
    if is_final(node, module) or is_flatten(node, module) or passes(node, module):
        return logits_node(node.all_input_nodes[0], trace)
    return node


def _layer_node(layer: str, trace: Trace, analysis: "_Analysis") -> fx.Node:
    names = {node.name: node for node in trace.module.graph.nodes}
    node = trace.layers.get(layer, names.get(layer))
    if node is None:
        raise ValueError(f"no layer {layer!r} in the network; {_layers_there_are(trace, analysis)}")
    node = analysis.resolve(node)
    activations = [user for user in node.users if user in analysis.links]
    if node not in analysis.links and len(activations) == 1 and node in analysis.pending:
        node = activations[0]  # the name of a convolution stands for the activation function above it
    if node not in analysis.links or (analysis.lowest[node] == -math.inf and node.op != "placeholder"):
        raise ValueError(f"layer {layer!r} is signed: no activation neurons; {_layers_there_are(trace, analysis)}")
    return node


def _layers_there_are(trace: Trace, analysis: "_Analysis") -> str:
    found = [path for path, node in trace.layers.items() if analysis.lowest.get(node, -math.inf) > -math.inf]
    return f"layers of activation neurons are: {', '.join(found)}"


def _descent(units: fx.Node, layer: fx.Node, links: dict[fx.Node, Link]) -> tuple[fx.Node, ...]:
    """The neurons through which probability flows from the units down to the layer, which is left out; parents first.

    Raises:
        ValueError: an operation on the way has no rule.
    """
    above = descendants(layer)
    leads_down = {layer}
    for node, link in links.items():  # children come before their parents
        if leads_down.intersection(link.sources) or (isinstance(link, Unknown) and node in above):
            leads_down.add(node)
    reached = {units}
    order: list[fx.Node] = []
    for node in reversed(links):
        link = links[node]
        if node in reached and node in leads_down and node is not layer:
            if isinstance(link, Unknown):
                raise ValueError(link.reason)
            order.append(node)
            reached.update(link.sources)
    return tuple(order)


@dataclass(eq=False)
class _Analysis:
    """Reads the graph once, node by node; ``links`` then holds every neuron's children."""

    trace: Trace
    signed: Signed
    links: dict[fx.Node, Link] = field(default_factory=dict)
    lowest: dict[fx.Node, float] = field(default_factory=dict)
    pending: dict[fx.Node, tuple[Term, ...]] = field(
        default_factory=dict
    )  # of nodes that are linear so far, and hold no neurons yet
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)  # of nodes that repeat another one, such as dropout

    def resolve(self, node: fx.Node) -> fx.Node:
        """The node whose value a node repeats, or the node itself."""
        return self.same.get(node, node)

    def as_neurons(self, node: fx.Node) -> fx.Node:
        """Make sure that a node holds neurons; those of a linear node without an activation function are signed."""
        node = self.resolve(node)
        if node not in self.links:
            self.add(node, Excitation(self.pending[node]), -math.inf)
        return node

    def terms(self, node: fx.Node) -> tuple[Term, ...]:
        """The linear terms of a node; for one that holds activation neurons, the identity of these."""
        node = self.resolve(node)
        return self.pending.get(node, (Term(node, Identity()),))

    def unfold_sum(self, units: fx.Node) -> None:
        """Make one classifier of a sum of several, whatever the treatment of signed values."""
        link = self.links[units]
        if isinstance(link, Excitation) and all(isinstance(term.map, Identity) for term in link.terms):
            terms = [inner for term in link.terms for inner in self.terms(term.source)]
            self.links[units] = Excitation(merge_terms(terms))

    def visit(self, node: fx.Node) -> None:
        """Read a node by the first rule of `RULES` whose condition holds."""
        module = module_of(node, self.trace)
        rule = next(rule for condition, rule in RULES if condition(node, module))
        rule(self, node, module)

    def add(self, node: fx.Node, link: Link, lowest: float) -> None:
        self.links[node] = link
        self.lowest[node] = lowest

    def source(self, node: fx.Node) -> fx.Node:
        """The neurons that a node with one input reads."""
        return self.as_neurons(node.all_input_nodes[0])


def _analyse(trace: Trace, signed: Signed) -> _Analysis:
    """Read the whole graph of a traced network."""
    analysis = _Analysis(trace, signed)
    for node in trace.module.graph.nodes:
        if node.op != "output":
            analysis.visit(node)
    return analysis


def merge_terms(terms: list[Term]) -> tuple[Term, ...]:
    """Add up the maps of each source, since only their sum tells excitatory from inhibitory weights."""
    merged: dict[fx.Node, LinearMap] = {}
    for term in terms:
        merged[term.source] = add(merged[term.source], term.map) if term.source in merged else term.map
    return tuple(Term(source, linear) for source, linear in merged.items())


# The rules, one for each kind of operation.


def _read_weighted(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    assert module is not None
    convolution = convolution_of(module)
    source = analysis.resolve(node.all_input_nodes[0])
    terms = analysis.pending.get(source, ())
    if is_batch_norm(module) and terms and all(isinstance(term.map, Convolution) for term in terms):
        scale = convolution.weight.flatten()
        analysis.pending[node] = tuple(Term(t.source, t.map.scaled(scale)) for t in terms)  # type: ignore[attr-defined]
    elif analysis.signed == "compose" and terms:
        analysis.pending[node] = tuple(Term(t.source, compose(convolution, t.map, at=node.name)) for t in terms)
    else:
        analysis.pending[node] = (Term(analysis.as_neurons(source), convolution),)


def _read_activation(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    source = analysis.resolve(node.all_input_nodes[0])
    if analysis.lowest.get(source, -math.inf) >= 0 and is_rectifier(node, module):
        analysis.same[node] = source
    else:
        lowest = lowest_value(node, module)
        assert lowest is not None
        analysis.add(node, Excitation(analysis.terms(source), is_activated=True), lowest)


def _read_sum(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    branches = [analysis.resolve(part) for part in node.args if isinstance(part, fx.Node) and part.op != "get_attr"]
    has_bias = len(branches) < 2  # a number or parameter, which takes no part
    residual = _residual_branch(branches) if analysis.signed == "skip_ignored" else None
    if residual is not None:
        terms = list(analysis.terms(residual))
    elif analysis.signed == "compose":
        terms = [term for branch in branches for term in analysis.terms(branch)]
    else:
        terms = [Term(analysis.as_neurons(branch), Identity()) for branch in branches]
    lowest = sum(analysis.lowest.get(branch, -math.inf) for branch in branches)
    if lowest > -math.inf and (not has_bias or 0 in node.args):  # a sum of activations is an activation
        analysis.add(node, Excitation(merge_terms(terms)), lowest)
    else:
        analysis.pending[node] = merge_terms(terms)


def _residual_branch(branches: list[fx.Node]) -> fx.Node | None:
    """The branch of a sum that does more operations of its own; the other one is the skip. None where neither does."""
    above = [ancestors(branch) for branch in branches]
    if len(above) != 2:
        return None
    first, second = len(above[0] - above[1]), len(above[1] - above[0])
    return None if first == second else branches[0 if first > second else 1]


def _read_repetition(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    analysis.same[node] = analysis.resolve(node.all_input_nodes[0])


def _read_maximum(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    pool, source = maximum_of(node, module), analysis.source(node)
    assert pool is not None
    analysis.add(node, Maximum(source, pool), analysis.lowest[source])


def _read_average(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    pool, source = average_of(node, module), analysis.source(node)
    assert pool is not None
    analysis.add(node, Excitation((Term(source, Average(pool)),)), analysis.lowest[source])


def _read_concatenation(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    sources = tuple(analysis.as_neurons(part) for part in argument(node, 0, "tensors", ()))
    analysis.add(node, Concatenation(sources), min(analysis.lowest[source] for source in sources))


def _read_flattening(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    source = analysis.source(node)
    analysis.add(node, Flattening(source), analysis.lowest[source])


def _read_normalisation(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    """Read local response normalisation, which scales each neuron, so that a neuron has one child (5.5)."""
    source = analysis.source(node)
    analysis.add(node, Excitation((Term(source, Identity()),), is_activated=True), analysis.lowest[source])


def _read_input(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    kind = "the image" if node.op == "placeholder" else "a constant"
    analysis.add(node, Unknown(f"{node.name} is {kind}"), -math.inf)


def _read_unknown(analysis: _Analysis, node: fx.Node, module: nn.Module | None) -> None:
    path = next((path for path, known in analysis.trace.layers.items() if known is node), node.name)
    reason = (
        f"no rule for {operation_name(node, module)} at {path!r}: attention passes convolution, linear, batch norm, "
        "pooling (average, adaptive, max), sum, concat, flatten, mean over space, dropout, LRN and activations with a "
        "lower bound"
    )
    analysis.add(node, Unknown(reason), -math.inf)


Condition = Callable[[fx.Node, nn.Module | None], bool]
Rule = Callable[[_Analysis, fx.Node, nn.Module | None], None]

RULES: tuple[tuple[Condition, Rule], ...] = (  # the first whose condition holds
    (is_input, _read_input),
    (has_weights, _read_weighted),
    (is_activation, _read_activation),
    (is_sum, _read_sum),
    (passes, _read_repetition),
    (is_max_pooling, _read_maximum),
    (is_average_pooling, _read_average),
    (is_concatenation, _read_concatenation),
    (is_flatten, _read_flattening),
    (is_lrn, _read_normalisation),
    (lambda node, module: True, _read_unknown),
)
