"""The bottom-up pass: everything about the photos that attention needs and that is the same for every word."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from grounding.attention.children import Bundle, Children, excitatory_terms
from grounding.attention.linear import Convolution
from grounding.attention.links import Circuit, Excitation, Link, Maximum, OneChild, Term, flat


@dataclass(frozen=True, eq=False)
class Side:
    """The links from the output units, or from the reverse units, to the classifier's input."""

    sign: int
    terms: tuple[Term, ...]
    ratio: Tensor  # (B, units, h, w), activation / normaliser: the factor of a unit's signal


@dataclass(eq=False)
class Photos:
    """Some photos of equal size, as the network saw them."""

    signals: list[Tensor]  # of each photo, the top-down signal of its words over units and positions (K_b, units, h, w)
    responses: Tensor  # of the units (B, units, h, w)
    last_map: Tensor | None = None  # what is averaged below the classifier (B, C, h, w), if there is such a map
    activations: dict[fx.Node, Tensor] = field(default_factory=dict)
    ratios: dict[fx.Node, Tensor] = field(default_factory=dict)  # R = activation / normaliser
    winners: dict[fx.Node, Tensor] = field(default_factory=dict)  # of max pooling: places in the map below (`flat`)
    contributions: dict[Bundle, Tensor] = field(default_factory=dict)  # of the layer's neurons, place by place
    sides: dict[fx.Node, tuple[Side, ...]] = field(default_factory=dict)  # of the classifiers


def ratio_of(activation: Tensor, normaliser: Tensor) -> Tensor:
    """activation / normaliser, and 0 for neurons that nothing excites: there Z_i is 0 by definition (Eq. 6).

    A normaliser below the smallest normal number, or below that times the activation, counts as 0. So neither this
    ratio nor a probability divided by the normaliser overflows.
    """
    least = activation.abs().clamp_(min=1).mul_(torch.finfo(activation.dtype).tiny)
    return activation / normaliser.masked_fill(normaliser.abs() < least, math.inf)


@dataclass(eq=False)
class Ascent:
    """One bottom-up pass, which fills in a record of photos from the values that the network computed."""

    circuit: Circuit
    children: Children
    values: dict[fx.Node, Tensor]  # (B, C, h, w), of all neurons of the circuit
    photos: Photos
    keeps_signs: bool  # whether negative values of activations without a lower bound are kept, or count as 0
    normalised: bool = True  # whether a neuron's shares sum to 1

    def run(self, units: Tensor, *, contrastive: bool, reverse: bool = False) -> None:
        """Compute activations, ratios and the classifiers' sides; ``units`` are those that words ask for."""
        circuit, photos = self.circuit, self.photos
        normalisers: dict[fx.Node, Tensor] = {}
        for node in circuit.neurons:  # children first
            link, normaliser = circuit.links[node], normalisers.pop(node, None)
            if isinstance(link, Maximum) and node in circuit.descent:
                photos.winners[node] = _winners(link, self.values[link.source])
            photos.activations[node] = activation = self._activation(node, normaliser)
            if normaliser is not None:
                photos.ratios[node] = self._ratio(link, activation, normaliser)
            if node is circuit.layer:
                for bundle in self.children.bundles[node]:
                    photos.contributions[bundle] = bundle.map.contributions(activation)
            _excite(node, activation, self.circuit, self.children, photos, normalisers)
        for node in circuit.classifiers:
            photos.sides[node] = self._sides(node, units, contrastive=contrastive, reverse=reverse)

    def _ratio(self, link: Link, activation: Tensor, normaliser: Tensor) -> Tensor:
        """The factor of evidence; without Z_i it is the activation, but for neurons of one child, which they copy."""
        has_one_child = isinstance(link, Excitation) and link.is_passing
        return ratio_of(activation, normaliser) if self.normalised or has_one_child else activation

    def _activation(self, node: fx.Node, normaliser: Tensor | None) -> Tensor:
        """The responses of a node's neurons, counted from the least value that they can have (Eq. 20)."""
        value, lowest, link = self.values[node], self.circuit.lowest[node], self.circuit.links[node]
        if node in self.circuit.given:
            return torch.ones_like(value)  # the probability of output units is given, whatever their response
        if lowest == -math.inf:
            return value if self.keeps_signs else value.clamp(min=0)
        if lowest == 0:
            return value
        # Neurons without an activation function of their own follow those that they are made of.
        parts = [self.photos.activations[source] for source in link.sources if source in self.photos.activations]
        if isinstance(link, OneChild) and (node in self.photos.winners or not isinstance(link, Maximum)):
            return link.lift(parts, value.shape, self.photos.winners.get(node))
        if isinstance(link, Excitation) and not link.is_activated and normaliser is not None:
            return normaliser
        return value - lowest

    def _sides(self, node: fx.Node, units: Tensor, *, contrastive: bool, reverse: bool) -> tuple[Side, ...]:
        """The excitatory links of a classifier's units and, with contrast, of the reverse units (Eq. 9).

        With ``reverse`` the reverse units are asked for, and the units are what they are contrasted with.
        """
        link = self.circuit.links[node]
        assert isinstance(link, Excitation)
        activation = self.photos.activations[node]
        if self.circuit.has_separate_units:
            rows = [Term(t.source, t.map.rows(units)) for t in link.terms if isinstance(t.map, Convolution)]
            link, activation = Excitation(tuple(rows)), activation[:, units]
        sides = []
        for sign in (1, -1) if contrastive else (1,):
            of_reverse = (sign < 0) != reverse
            terms = excitatory_terms(link, of_reverse=of_reverse, scaled_up=self.normalised)
            normaliser: dict[fx.Node, Tensor] = {}
            for term in terms:
                _accumulate(normaliser, node, term.map.apply(self.photos.activations[term.source]))
            sides.append(Side(sign, tuple(terms), self._ratio(link, activation, normaliser[node])))
        return tuple(sides)


def reached_mass(circuit: Circuit, children: Children, photos: Photos) -> list[Tensor]:
    """The probability of each word that arrives at the layer, (K_b,) of each photo; with contrast, of the unit itself.

    The way down is linear: a word's map sums to ⟨A, D s⟩, where s is its signal at the units, D s the evidence that
    arrives, and A the activations of the layer. That equals ⟨Dᵀ A, s⟩, and Dᵀ A depends on the photo alone: one more
    pass up through the same ratios and weights, G = R ⊙ W⁺ᵀG', serves all words.
    """
    arriving = {circuit.layer: photos.activations[circuit.layer]}  # G of each node
    sums: dict[fx.Node, Tensor] = {}
    for node in reversed((*circuit.descent, circuit.layer)):
        link = circuit.links[node]
        if node in photos.sides:
            side = photos.sides[node][0]
            for term in side.terms:
                if term.source in arriving:
                    _accumulate(sums, node, term.map.apply(arriving[term.source]))
            arriving[node] = sums[node] * side.ratio
        elif node in sums:
            arriving[node] = sums[node] * photos.ratios[node]
        elif node is not circuit.layer and isinstance(link, OneChild):
            below = [arriving.get(s, torch.zeros_like(photos.activations[s])) for s in link.sources]
            arriving[node] = link.lift(below, photos.activations[node].shape, photos.winners.get(node))
        _excite(node, arriving[node], circuit, children, photos, sums)
    whole = arriving[circuit.units]
    return [(signal * share).sum((1, 2, 3)) for signal, share in zip(photos.signals, whole, strict=True)]


def _excite(
    node: fx.Node,
    activation: Tensor,
    circuit: Circuit,
    children: Children,
    photos: Photos,
    sums: dict[fx.Node, Tensor],
) -> None:
    """Add what a node's neurons give to each of their parents (W⁺ᵀA of Eq. 18) to the parents' sums."""
    for bundle in children.bundles[node]:
        excitation = bundle.map.apply(activation)
        for parent, channels in bundle.parents:
            _accumulate(sums, parent, excitation[:, channels])
    for parent, linear in children.plain[node]:
        _accumulate(sums, parent, linear.apply(activation))


def _accumulate(sums: dict[fx.Node, Tensor], node: fx.Node, value: Tensor) -> None:
    if node in sums and sums[node].shape != value.shape:
        raise ValueError(
            f"no rule for the sum at {node.name}: {tuple(sums[node].shape)} and {tuple(value.shape)} differ"
        )
    sums[node] = sums[node] + value if node in sums else value


def _winners(link: Maximum, x: Tensor) -> Tensor:
    """The place in ``flat(x)`` of each pooled neuron's winner, in the order of `flat`: (N, h'·w'·C)."""
    _, cells = link.pool(x)
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return flat(cells * x.shape[1] + channels)
