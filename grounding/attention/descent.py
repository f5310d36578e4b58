"""The top-down pass: from the output units to the layer, for some words of some photos together."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from grounding.attention.linear import Convolution, LinearMap
from grounding.attention.links import Circuit, Concatenation, Excitation, Flattening, Maximum, Term

# What depends on the network alone.


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


def find_children(circuit: Circuit, classifiers: set[fx.Node]) -> Children:
    """Gather the links on the way from the units to the layer; convolutions of equal geometry are stacked."""
    siblings: dict[fx.Node, dict[Any, list[tuple[fx.Node, Convolution]]]] = defaultdict(lambda: defaultdict(list))
    children = Children(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list))
    on_the_way = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        link = circuit.links[node]
        if not isinstance(link, Excitation) or node in classifiers:
            continue
        for term in link.terms:
            if isinstance(term.map, Convolution):
                stack = term.map.geometry if term.map.groups == 1 else term
                siblings[term.source][stack].append((node, term.map.excitatory()))
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
    stack = replace(members[0][1], weight=weight.contiguous(memory_format=torch.channels_last))
    return Bundle(stack, tuple(parents))


# What depends on the photos, and on no word.


@dataclass(frozen=True, eq=False)
class Side:
    """The links from the output units, or from the reverse units, to the classifier's input."""

    sign: int
    terms: tuple[Term, ...]
    ratio: Tensor  # (B, units, h, w): what a unit's signal is multiplied with, activation / normaliser


@dataclass(eq=False)
class Photos:
    """Some photos of equal size, as the network saw them."""

    signals: list[Tensor]  # of each photo, the top-down signal of its words over units and positions (K_b, units, h, w)
    activations: dict[fx.Node, Tensor] = field(default_factory=dict)
    ratios: dict[fx.Node, Tensor] = field(default_factory=dict)  # R = activation / normaliser
    winners: dict[fx.Node, Tensor] = field(default_factory=dict)  # of max pooling: places below, in `flat` order
    contributions: dict[Bundle, Tensor] = field(default_factory=dict)  # of the layer's neurons, place by place
    sides: dict[fx.Node, tuple[Side, ...]] = field(default_factory=dict)  # of the classifiers


def ratio_of(activation: Tensor, normaliser: Tensor) -> Tensor:
    """activation / normaliser; Z_i is 0 by definition where nothing excites (Eq. 6)."""
    return activation / normaliser.masked_fill(normaliser == 0, math.inf)


def _empty(count: int, channels: int, *, like: Tensor) -> Tensor:
    """Room for (count, channels, h, w), channels together in memory."""
    size = (count, channels, *like.shape[-2:])
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def flat(x: Tensor) -> Tensor:
    """(N, C, h, w) as (N, h·w·C): a view, as long as channels lie together in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


Words = list[tuple[int, slice, slice]]  # a photo, some of its words, and their rows in the pass


def deal_out(counts: list[int], limit: int) -> Iterator[Words]:
    """Deal the words of all photos out to passes of at most ``limit`` words, and about as many in each."""
    total = sum(counts)
    limit = math.ceil(total / max(math.ceil(total / limit), 1))
    words: Words = []
    filled = 0
    for photo, count in enumerate(counts):
        start = 0
        while start < count:
            taken = min(count - start, limit - filled)
            words.append((photo, slice(start, start + taken), slice(filled, filled + taken)))
            start, filled = start + taken, filled + taken
            if filled == limit:
                yield words
                words, filled = [], 0
    if words:
        yield words


@dataclass(eq=False)
class Descent:
    """One top-down pass of some words; what has reached a node and is not yet summed up waits in these tables."""

    circuit: Circuit
    children: Children
    photos: Photos
    words: Words
    waiting: dict[fx.Node, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    won: dict[fx.Node, list[tuple[Tensor, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    bundled: dict[Bundle, Tensor] = field(default_factory=dict)

    def run(self) -> Tensor:
        """The channel sum of the winning probability at the layer, (K, h, w)."""
        circuit, photos = self.circuit, self.photos
        # The units' probability is given: their activation counts as 1, and evidence and probability are the same.
        signals = [photos.signals[photo][part] for photo, part, _ in self.words]
        self.waiting[circuit.units].append(torch.cat(signals))
        for node in circuit.descent:
            link = circuit.links[node]
            if node in photos.sides:
                self._contrast(node, self._evidence(node))
            elif isinstance(link, Excitation):
                self._share(node, self._evidence(node))
            elif isinstance(link, Maximum):
                self.won[link.source].append((photos.winners[node], self._evidence(node)))
            elif isinstance(link, Concatenation):
                sizes = [photos.activations[source].shape[1] for source in link.sources]
                for source, part in zip(link.sources, torch.split(self._evidence(node), sizes, 1), strict=True):
                    self.waiting[source].append(part)
            elif isinstance(link, Flattening):
                size = photos.activations[link.source].shape[1:]
                self.waiting[link.source].append(self._evidence(node).reshape(-1, *size))
        return self._channel_sum(circuit.layer)

    def _scaled(self, z: Tensor, ratio: Tensor, out: Tensor | None = None) -> Tensor:
        """The rows of each photo times the photo's ratio."""
        if len(self.words) == 1:
            return torch.mul(z, ratio[self.words[0][0]], out=out)
        if out is None:
            out = _empty(len(z), ratio.shape[1], like=ratio)
        for photo, _, rows in self.words:
            torch.mul(z[rows], ratio[photo], out=out[rows])
        return out

    def _contrast(self, node: fx.Node, z: Tensor) -> None:
        """From the units of a classifier to its input, less the reverse units' share (Eq. 9)."""
        for side in self.photos.sides[node]:
            y = self._scaled(z, side.ratio)
            for term in side.terms:
                size = self.photos.activations[term.source].shape
                self.waiting[term.source].append(side.sign * term.map.transpose(y, size))

    def _share(self, node: fx.Node, z: Tensor) -> None:
        """Hand the evidence of neurons, times their ratio, to all that excites them."""
        ratio = self.photos.ratios[node]
        plain, bundles = self.children.plain_of[node], self.children.bundles_of[node]
        y = self._scaled(z, ratio) if plain or len(bundles) > 1 else None
        for source, linear in plain:
            assert y is not None
            self.waiting[source].append(linear.transpose(y, self.photos.activations[source].shape))
        for bundle, channels in bundles:
            if bundle not in self.bundled:
                self.bundled[bundle] = _empty(len(z), len(bundle.map.weight), like=ratio)
            place = self.bundled[bundle][:, channels]
            if y is None:
                self._scaled(z, ratio, out=place)
            else:
                place.copy_(y)

    def _evidence(self, node: fx.Node) -> Tensor:
        """The sum of all that has reached a node."""
        size = self.photos.activations[node].shape
        ours = [
            bundle.map.transpose(self.bundled.pop(bundle), size)
            for bundle in self.children.bundles[node]
            if bundle in self.bundled
        ]
        lent = self.waiting.pop(node, [])  # may be parts of other tensors, not to be changed
        routes = self.won.pop(node, [])
        if len(lent) == 1 and not ours and not routes:
            return lent[0]
        if not ours:
            zeros = _empty(self.words[-1][2].stop, size[1], like=self.photos.activations[node]).zero_()
            ours = [zeros.copy_(lent.pop()) if lent else zeros]
        total = ours[0]
        for part in ours[1:] + lent:
            total = total.add_(part)
        if routes:
            total = total.contiguous(memory_format=torch.channels_last)
        for winners, z in routes:
            for photo, _, rows in self.words:
                flat(total[rows]).index_add_(1, winners[photo], flat(z[rows]))
        return total

    def _channel_sum(self, node: fx.Node) -> Tensor:
        """The map of the layer: the probability of its neurons summed over channels."""
        photos = self.photos
        size = photos.activations[node].shape
        count = self.words[-1][2].stop
        attention = photos.activations[node].new_zeros(count, *size[-2:])
        for bundle in self.children.bundles[node]:
            y = self.bundled.pop(bundle)
            for photo, _, rows in self.words:
                attention[rows] += bundle.map.collect(y[rows], photos.contributions[bundle][:, photo], size)
        if node in self.waiting or node in self.won:
            attention += self._scaled(self._evidence(node), photos.activations[node]).sum(1)
        return attention
