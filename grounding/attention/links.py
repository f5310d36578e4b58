"""The links between activation neurons, along which winning probability passes down (paper, section 3.2).

Between two activation neurons lies a linear map: a convolution, several summed, an average, the identity. An
`Excitation` holds these maps and shares a neuron's probability among many children (Eq. 6). Max pooling, concatenation
and flattening hand the probability of each neuron to the one child that it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from grounding.attention.linear import Convolution, Identity, LinearMap


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of what enters a neuron: a linear map of the activations at a node."""

    source: fx.Node
    map: LinearMap


@dataclass(frozen=True, eq=False)
class Excitation:
    """A neuron shares its probability among its children in proportion to excitatory weight × activation (Eq. 6)."""

    terms: tuple[Term, ...]
    is_activated: bool = False  # an activation function or LRN follows; otherwise the neuron is the sum that enters it

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return tuple(term.source for term in self.terms)

    @property
    def has_weights(self) -> bool:
        return any(isinstance(term.map, Convolution) for term in self.terms)

    @property
    def has_only_weights(self) -> bool:
        return all(isinstance(term.map, Convolution) for term in self.terms)

    @property
    def is_passing(self) -> bool:
        """Whether each neuron has one child alone, as under an activation function or LRN."""
        return len(self.terms) == 1 and isinstance(self.terms[0].map, Identity)


@dataclass(frozen=True, eq=False)
class Maximum:
    """Max pooling: the whole probability goes to the winner of the window (5.4)."""

    source: fx.Node
    pool: Callable[[Tensor], Any]  # returns the values, and their places in the flattened map

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return (self.source,)

    def lift(self, parts: Sequence[Tensor], size: torch.Size, winners: Tensor | None) -> Tensor:
        assert winners is not None
        won = flat(parts[0]).gather(1, winners)
        return won.view(size[0], *size[-2:], -1).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Neurons of several nodes side by side in one, along the channels."""

    sources: tuple[fx.Node, ...]

    def lift(self, parts: Sequence[Tensor], size: torch.Size, winners: Tensor | None) -> Tensor:
        return torch.cat(list(parts), 1)


@dataclass(frozen=True, eq=False)
class Flattening:
    """Neurons of a map as a vector."""

    source: fx.Node

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return (self.source,)

    def lift(self, parts: Sequence[Tensor], size: torch.Size, winners: Tensor | None) -> Tensor:
        return parts[0].reshape(size)


@dataclass(frozen=True, eq=False)
class Unknown:
    """An operation without a rule, which does no harm below the layer where attention stops."""

    reason: str

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return ()


# Links of neurons that have one child each. Their ``lift`` gives each neuron its child's value: ``parts`` holds the
# values at the link's sources, (N, C, h, w) each, ``size`` is that of the result, and ``winners`` are those of max
# pooling, as places in `flat` of the source (N, h'·w'·C').
OneChild = Maximum | Concatenation | Flattening
Link = Excitation | OneChild | Unknown


def flat(x: Tensor) -> Tensor:
    """View (N, C, h, w) as (N, h·w·C), as long as channels lie together in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


@dataclass(frozen=True, eq=False)
class Circuit:
    """The activation neurons of a network and the links between them, children before their parents.

    Nodes are those of the trace; ``units`` is the node of the output units, ``layer`` the one where attention stops.
    """

    links: dict[fx.Node, Link]
    lowest: dict[fx.Node, float]  # the least value of a node's activations (λ of Eq. 20), -inf where there is none
    units: fx.Node
    layer: fx.Node
    descent: tuple[fx.Node, ...]  # from the units down to the layer, every node before its children

    @cached_property
    def neurons(self) -> list[fx.Node]:
        """The nodes whose activations count, children first."""
        needed = {self.layer, *self.descent}
        for node in self.descent:
            needed.update(self.links[node].sources)
        return [node for node in self.links if node in needed]

    @cached_property
    def has_separate_units(self) -> bool:
        """Whether each output unit has weights of its own and nothing else, so that the others can be left out."""
        link = self.links[self.units]
        return isinstance(link, Excitation) and link.has_only_weights

    @cached_property
    def given(self) -> set[fx.Node]:
        """The output units and the nodes whose neurons they are: side by side, or behind an activation function."""
        given = {self.units}
        for node in self.descent:
            link = self.links[node]
            is_same = isinstance(link, Concatenation | Flattening) or (isinstance(link, Excitation) and link.is_passing)
            if node in given and is_same:
                given.update(link.sources)
        return given

    @cached_property
    def classifiers(self) -> set[fx.Node]:
        """The uppermost neurons with weights, several where the network has several heads: contrast enters there.

        Raises:
            ValueError: no weights lie between the layer and the output units.
        """
        found = set()
        above = {self.units}
        for node in self.descent:
            if node in above:
                link = self.links[node]
                if isinstance(link, Excitation) and link.has_weights:
                    found.add(node)
                else:
                    above.update(link.sources)
        if not found:
            raise ValueError(
                "the network has no classifier: no convolution or linear layer above the layer of attention"
            )
        return found
