"""Find the activation neurons of a traced network and the links between them (paper, section 3.2)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from grounding.attention.linear import Average, Convolution, Identity, LinearMap, add, compose
from grounding.attention.links import Circuit, Concatenation, Excitation, Flattening, Link, Maximum, Term, Unknown
from grounding.attention.operations import (
    argument,
    average_of,
    convolution_of,
    is_batch_norm,
    is_final,
    is_flatten,
    is_linear_module,
    is_rectifier,
    is_sum,
    lowest_value,
    maximum_of,
    passes,
)
from grounding.attention.trace import Trace, descendants, module_of

Signed = Literal["raise", "carry", "clamp", "compose"]
SIGNED_TREATMENTS = ("raise", "carry", "clamp", "compose")


def derive_circuit(trace: Trace, layer: str, *, signed: Signed) -> Circuit:
    """Find the activation neurons of a traced network and the linear maps between them.

    Args:
        trace: the network.
        layer: where attention stops: the path of a module, or the name of a node.
        signed: what to do with signed values that enter a link (linear bottlenecks, residual sums):
            ``raise`` (as soon as one is negative), ``carry`` (a negative value carries its sign into its share, as in
            the paper's Eq. 19 and its released code), ``clamp`` (share by the positive part), ``compose`` (fold linear
            maps that follow each other into the one map that they are).

    Raises:
        ValueError: the layer is unknown or no layer of activation neurons; an operation between the layer and the
            output units has no rule.
    """
    if signed not in SIGNED_TREATMENTS:
        raise ValueError(f"signed must be one of {', '.join(SIGNED_TREATMENTS)}, got {signed!r}")
    analysis = _Analysis(trace, signed)
    for node in trace.module.graph.nodes:
        if node.op != "output":
            analysis.visit(node)
    units = analysis.as_neurons(logits_node(trace.output, trace))
    analysis.unfold_sum(units)
    bottom = _layer_node(layer, trace, analysis)
    descent = _descent(units, bottom, analysis.links)
    if not descent:
        raise ValueError(f"layer {layer!r} does not lead to the output units; {_layers_there_are(trace, analysis)}")
    return Circuit(analysis.links, analysis.lowest, units, bottom, descent)


def logits_node(node: fx.Node, trace: Trace) -> fx.Node:
    """The node of the logits, where the network ends in a softmax or sigmoid of them, or makes a vector of one cell."""
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
        node = activations[0]  # a convolution names the neurons that it feeds, as where the two share their memory
    if node not in analysis.links or (analysis.lowest[node] == -math.inf and node.op != "placeholder"):
        raise ValueError(f"layer {layer!r} is signed: no activation neurons; {_layers_there_are(trace, analysis)}")
    return node


def _layers_there_are(trace: Trace, analysis: "_Analysis") -> str:
    found = [path for path, node in trace.layers.items() if analysis.lowest.get(node, -math.inf) > -math.inf]
    return f"layers of activation neurons are: {', '.join(found)}"


def _descent(units: fx.Node, layer: fx.Node, links: dict[fx.Node, Link]) -> tuple[fx.Node, ...]:
    """The neurons through which probability flows from the units to the layer, parents first; the layer not among them.

    Raises:
        ValueError: on the way lies an operation without a rule.
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
    """Walks the graph once; afterwards ``links`` knows every neuron's children."""

    trace: Trace
    signed: Signed
    links: dict[fx.Node, Link] = field(default_factory=dict)
    lowest: dict[fx.Node, float] = field(default_factory=dict)
    pending: dict[fx.Node, tuple[Term, ...]] = field(default_factory=dict)  # linear so far, no neuron yet
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)  # dropout and its like: the node that it repeats

    def resolve(self, node: fx.Node) -> fx.Node:
        return self.same.get(node, node)

    def as_neurons(self, node: fx.Node) -> fx.Node:
        """Make sure that a node holds neurons; a linear one without activation then holds signed ones."""
        node = self.resolve(node)
        if node not in self.links:
            self._add(node, Excitation(self.pending[node]), -math.inf)
        return node

    def terms(self, node: fx.Node) -> tuple[Term, ...]:
        """What enters a node: its linear terms, or the node itself where it holds activation neurons."""
        node = self.resolve(node)
        return self.pending.get(node, (Term(node, Identity()),))

    def unfold_sum(self, units: fx.Node) -> None:
        """A sum of several classifiers is one classifier, whatever the treatment of signed values."""
        link = self.links[units]
        if isinstance(link, Excitation) and all(isinstance(term.map, Identity) for term in link.terms):
            terms = [inner for term in link.terms for inner in self.terms(term.source)]
            self.links[units] = Excitation(merge_terms(terms))

    def visit(self, node: fx.Node) -> None:
        module = module_of(node, self.trace)
        lowest = lowest_value(node, module)
        if node.op == "placeholder":
            self._add(node, Unknown(f"{node.name} is the image"), -math.inf)
        elif not node.all_input_nodes:
            self._add(node, Unknown(f"{node.name} is a constant"), -math.inf)
        elif is_linear_module(module) or is_batch_norm(module):
            self._visit_weighted(node, module)  # type: ignore[arg-type]
        elif lowest is not None:
            self._visit_activation(node, lowest)
        elif is_sum(node):
            self._visit_sum(node)
        elif passes(node, module):
            self.same[node] = self.resolve(node.all_input_nodes[0])
        elif (maximum := maximum_of(node, module)) is not None:
            source = self.as_neurons(node.all_input_nodes[0])
            self._add(node, Maximum(source, maximum), self.lowest[source])
        elif (average := average_of(node, module)) is not None:
            source = self.as_neurons(node.all_input_nodes[0])
            self._add(node, Excitation((Term(source, Average(average)),)), self.lowest[source])
        elif node.target in (torch.cat, torch.concat) and argument(node, 1, "dim", 0) in (1, -3):
            sources = tuple(self.as_neurons(part) for part in argument(node, 0, "tensors", ()))
            self._add(node, Concatenation(sources), min(self.lowest[source] for source in sources))
        elif is_flatten(node, module):
            source = self.as_neurons(node.all_input_nodes[0])
            self._add(node, Flattening(source), self.lowest[source])
        elif type(module) is nn.LocalResponseNorm or node.target is F.local_response_norm:
            source = self.as_neurons(node.all_input_nodes[0])  # 5.5: each neuron has one child
            self._add(node, Excitation((Term(source, Identity()),), is_activated=True), self.lowest[source])
        else:
            self._add(node, Unknown(self._no_rule(node, module)), -math.inf)

    def _add(self, node: fx.Node, link: Link, lowest: float) -> None:
        self.links[node] = link
        self.lowest[node] = lowest

    def _no_rule(self, node: fx.Node, module: nn.Module | None) -> str:
        path = next((path for path, known in self.trace.layers.items() if known is node), node.name)
        operation = type(module).__name__ if module else getattr(node.target, "__name__", str(node.target))
        return (
            f"no rule for {operation} at {path!r}: attention passes convolution, linear, batch norm, pooling (average, "
            "adaptive, max), sum, concat, flatten, mean over space, dropout, LRN and activations with a lower bound"
        )

    def _visit_weighted(self, node: fx.Node, module: nn.Module) -> None:
        convolution = convolution_of(module)
        source = self.resolve(node.all_input_nodes[0])
        terms = self.pending.get(source, ())
        if is_batch_norm(module) and terms and all(isinstance(term.map, Convolution) for term in terms):
            scale = convolution.weight.flatten()
            self.pending[node] = tuple(Term(t.source, t.map.scaled(scale)) for t in terms)  # type: ignore[attr-defined]
        elif self.signed == "compose" and terms:
            self.pending[node] = tuple(Term(t.source, compose(convolution, t.map, at=node.name)) for t in terms)
        else:
            self.pending[node] = (Term(self.as_neurons(source), convolution),)

    def _visit_activation(self, node: fx.Node, lowest: float) -> None:
        source = self.resolve(node.all_input_nodes[0])
        if self.lowest.get(source, -math.inf) >= 0 and is_rectifier(node, module_of(node, self.trace)):
            self.same[node] = source
        else:
            self._add(node, Excitation(self.terms(source), is_activated=True), lowest)

    def _visit_sum(self, node: fx.Node) -> None:
        branches = [self.resolve(part) for part in node.args if isinstance(part, fx.Node) and part.op != "get_attr"]
        has_bias = len(branches) < 2  # a number or parameter, which takes no part
        if self.signed == "compose":
            terms = [term for branch in branches for term in self.terms(branch)]
        else:
            terms = [Term(self.as_neurons(branch), Identity()) for branch in branches]
        lowest = sum(self.lowest.get(branch, -math.inf) for branch in branches)
        if lowest > -math.inf and (not has_bias or 0 in node.args):  # a sum of activations is an activation
            self._add(node, Excitation(merge_terms(terms)), lowest)
        else:
            self.pending[node] = merge_terms(terms)


def merge_terms(terms: list[Term]) -> tuple[Term, ...]:
    """Add up the maps that a sum takes from one source, since only their sum says what excites and what inhibits."""
    merged: dict[fx.Node, LinearMap] = {}
    for term in terms:
        merged[term.source] = add(merged[term.source], term.map) if term.source in merged else term.map
    return tuple(Term(source, linear) for source, linear in merged.items())
