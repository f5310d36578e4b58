"""The excitatory links of a circuit, by child and by parent, with the weights of siblings stacked."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from grounding.attention.linear import Convolution, LinearMap, channels_last
from grounding.attention.links import Circuit, Excitation, Term


@dataclass(frozen=True, eq=False)
class Bundle:
    """The excitatory weights of one or several convolutions of the same activations, stacked into one."""

    map: Convolution
    parents: tuple[tuple[fx.Node, slice], ...]  # the neurons above, and their channels in the stack


@dataclass(frozen=True, eq=False)
class Children:
    """The links of all neurons but the classifiers', seen from below (by child) and from above (by parent)."""

    bundles: dict[fx.Node, list[Bundle]]  # child -> the stacks of what it excites through weights
    plain: dict[fx.Node, list[tuple[fx.Node, LinearMap]]]  # child -> parents through sums and averages
    bundles_of: dict[fx.Node, list[tuple[Bundle, slice]]]  # parent -> its places in the stacks
    plain_of: dict[fx.Node, list[tuple[fx.Node, LinearMap]]]  # parent -> children through sums and averages


def find_children(circuit: Circuit, *, scaled_up: bool = True) -> Children:
    """Gather the links on the way from the units to the layer, and stack convolutions of equal geometry.

    Args:
        circuit: the neurons and links.
        scaled_up: whether small weights are scaled up (see `excitatory_terms`).
    """
    siblings: dict[fx.Node, dict[Any, list[tuple[fx.Node, Convolution]]]] = defaultdict(lambda: defaultdict(list))
    children = Children(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list))
    classifiers = circuit.classifiers
    on_the_way = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        link = circuit.links[node]
        if not isinstance(link, Excitation) or node in classifiers:
            continue
        for term in excitatory_terms(link, scaled_up=scaled_up):
            if isinstance(term.map, Convolution):
                stack = term.map.geometry if term.map.groups == 1 else term
                siblings[term.source][stack].append((node, term.map))
            else:
                children.plain[term.source].append((node, term.map))
                if term.source in on_the_way:
                    children.plain_of[node].append((term.source, term.map))
    for source, stacks in siblings.items():
        for members in stacks.values():
            bundle = _stacked(members)
            children.bundles[source].append(bundle)
            for parent, channels in bundle.parents:
                if source in on_the_way:
                    children.bundles_of[parent].append((bundle, channels))
    return children


def _stacked(members: list[tuple[fx.Node, Convolution]]) -> Bundle:
    weight = torch.cat([convolution.weight for _, convolution in members])
    parents = []
    first = 0
    for node, convolution in members:
        parents.append((node, slice(first, first + len(convolution.weight))))
        first += len(convolution.weight)
    return Bundle(replace(members[0][1], weight=channels_last(weight)), tuple(parents))


def excitatory_terms(link: Excitation, *, of_reverse: bool = False, scaled_up: bool = True) -> list[Term]:
    """The terms of a link with only the weights that excite a neuron (Eq. 6), or its reverse unit (section 3.3).

    A skip, being positive, excites the neuron and not the reverse unit. Where a neuron has nothing but weights, small
    ones are scaled up by a power of two (see `_scaled_up`), unless shares are not to be normalised.
    """
    terms = []
    for term in link.terms:
        if isinstance(term.map, Convolution):
            terms.append(Term(term.source, term.map.inhibitory() if of_reverse else term.map.excitatory()))
        elif not of_reverse:
            terms.append(term)
    return _scaled_up(terms) if scaled_up and link.has_only_weights else terms


def _scaled_up(terms: list[Term]) -> list[Term]:
    """Scale the weights of each neuron so that the largest is at least one half.

    A neuron's shares do not change if all its weights are multiplied by one number. Without the scaling, activation /
    normaliser would overflow for a neuron that its bias keeps active and whose weights are near the smallest number
    there is. Powers of two change no digit of any result, and nothing is scaled down, so no weight underflows.
    """
    maps = [term.map for term in terms if isinstance(term.map, Convolution)]
    if not maps:
        return terms
    tiny = torch.finfo(maps[0].weight.dtype).tiny
    largest = torch.stack([linear.weight.flatten(1).amax(1) for linear in maps]).amax(0).clamp(min=tiny)
    scale = (torch.frexp(largest).mantissa / largest).clamp(min=1)
    return [Term(term.source, linear.scaled(scale)) for term, linear in zip(terms, maps, strict=True)]
