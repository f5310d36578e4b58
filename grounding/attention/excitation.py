"""Excitation Backprop: the marginal winning probability of neurons, for many words in one top-down pass.

The paper's Eq. 18, P_n = A_n ⊙ W⁺(P_{n-1} ⊘ W⁺ᵀA_n), is computed here with the *evidence* Z = P ⊘ A of a neuron:

    Z_n = W⁺(Z_{n-1} ⊙ R_{n-1}),    R_{n-1} = A_{n-1} ⊘ W⁺ᵀA_n,    P_n = A_n ⊙ Z_n

The ratios R depend on the photo alone and are computed once; what is left for each word is plain backpropagation with
one product a layer. Max pooling, concatenation and reshaping pass Z on as they pass P.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from grounding.attention.links import (
    Circuit,
    Concatenation,
    Convolution,
    Excitation,
    Flattening,
    Identity,
    LinearMap,
    Maximum,
    Signed,
    Term,
    derive_circuit,
)
from grounding.attention.trace import trace_network

Confidence = Literal["softmax", "sigmoid"]


class ExcitationBackprop:
    """Top-down attention maps of a network's output units (MWP and c-MWP; paper, section 3).

    Args:
        network: a classifier that ``torch.fx`` can trace. It is left as found; its weights are read now, once.
        layer: where attention stops: the path of a module whose outputs are activation neurons, such as ``maxpool2``.
        contrastive: subtract the map of the reverse unit at the input of the classifier (Eq. 9), and keep what is
            positive at the end (c-MWP). Otherwise the marginal winning probability (MWP, Eq. 7).
        signed: what to do where negative values enter a link: ``raise``, ``carry``, ``clamp`` or ``compose``
            (see `grounding.attention.links.derive_circuit`).
        window: None, and the classifier sees the whole photo. A number, and it runs at every position of a window of
            so many cells; the unit's own confidence over positions is then the top-down signal (6.1.1).
        confidence: over positions: the ``softmax`` of a unit's responses, or their ``sigmoid``, normalised.
        renormalise: scale every map to sum 1. Without, an MWP map sums to the probability that reached the layer: units
            that only their bias keeps alive lose theirs.
        words_per_pass: how many maps are computed together at most; bounds the memory.

    Raises:
        ValueError: the network cannot be traced, lacks the layer, or has an operation without a rule above it.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        contrastive: bool = True,
        signed: Signed = "raise",
        window: int | None = None,
        confidence: Confidence = "softmax",
        renormalise: bool = False,
        words_per_pass: int = 16,
    ) -> None:
        if confidence not in ("softmax", "sigmoid"):
            raise ValueError(f"confidence must be softmax or sigmoid, got {confidence!r}")
        if words_per_pass < 1:
            raise ValueError(f"words_per_pass must be at least 1, got {words_per_pass}")
        self.layer = layer
        self.contrastive = contrastive
        self.confidence = confidence
        self.renormalise = renormalise
        self.words_per_pass = words_per_pass
        trace = trace_network(network, window=window)
        self._network = trace.module
        self._circuit = derive_circuit(trace, layer, signed=signed)
        self.signed = signed
        self._classifier = _classifier(self._circuit)
        self._children = _children(self._circuit, self._classifier)

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image.

        Shapes:
            images: (B, 3, H, W), as the network wants them.
            targets: B tensors, either (K_b,) of output units, or (K_b, units) of prior distributions P(A0).
            returns: B tensors (K_b, h, w), non-negative, at the resolution of the layer.

        Raises:
            ValueError: shapes do not fit, a unit does not exist, a prior is negative, a negative value enters a link
                with ``signed="raise"``, or a value is not a number.
        """
        maps = [attention.clamp(min=0) for attention in self.unclipped(images, targets)]
        return [_normalised(attention) for attention in maps] if self.renormalise else maps

    @torch.no_grad()
    def unclipped(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """The maps before negative values are clipped; they are linear in the prior. Arguments as in `__call__`."""
        if images.ndim != 4 or len(images) != len(targets):
            raise ValueError(
                f"expected images (B, C, H, W) and as many targets, got {tuple(images.shape)} and {len(targets)} targets"
            )
        if len(images) == 0:
            return []
        photos = self._look(images, targets)
        size = photos.activations[self._circuit.layer].shape[-2:]
        maps = [signal.new_empty(len(signal), *size) for signal in photos.signals]
        for words in _passes([len(signal) for signal in photos.signals], self.words_per_pass):
            attention = _Descent(self._circuit, self._classifier, self._children, photos, words).run()
            for photo, part, rows in words:
                maps[photo][part] = attention[rows]
        if not all(attention.isfinite().all() for attention in maps):
            raise ValueError("attention is not a number: the image or the network's weights hold NaN or infinity")
        return maps

    def _look(self, images: Tensor, targets: Sequence[Tensor]) -> "_Photos":
        """Bottom up: run the network, and compute all that no word changes."""
        circuit, classifier = self._circuit, self._classifier
        parameter = next(self._network.parameters(), images)
        images = images.to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
        neurons = _neurons(circuit)
        values = _Recorder(self._network, {*neurons, circuit.units}).record(images)
        if values[circuit.layer].ndim != 4:
            raise ValueError(f"layer {self.layer!r} is a vector, not a map: choose one below the pooling")
        values = {node: _as_map(value) for node, value in values.items()}
        self._check_signs(values)
        responses = values[circuit.units]
        units, priors = _priors(targets, responses, keep_all=classifier is not circuit.units)
        photos = _Photos(
            signals=[_signal(p, r, self.confidence) for p, r in zip(priors, responses[:, units], strict=True)]
        )
        normalisers: dict[fx.Node, Tensor] = {}
        for node in neurons:  # children first
            activation = self._activation(node, values, photos)
            photos.activations[node] = activation
            if node in normalisers:
                photos.ratios[node] = _ratio(activation, normalisers.pop(node))
            link = circuit.links[node]
            if isinstance(link, Maximum) and node in circuit.descent:
                photos.winners[node] = _winners(link, values[link.source])
            for bundle in self._children.bundles[node]:
                if node is circuit.layer:
                    photos.contributions[bundle] = bundle.map.contributions(activation)
                    excitation = photos.contributions[bundle].sum(0)
                else:
                    excitation = bundle.map.apply(activation)
                for parent, channels in bundle.parents:
                    _accumulate(normalisers, parent, excitation[:, channels])
            for parent, linear in self._children.plain[node]:
                _accumulate(normalisers, parent, linear.apply(activation))
        photos.top = self._look_at_classifier(units, photos)
        return photos

    def _activation(self, node: fx.Node, values: dict[fx.Node, Tensor], photos: "_Photos") -> Tensor:
        """The responses of a node's neurons, counted from the least that they can be (Eq. 20)."""
        lowest, link = self._circuit.lowest[node], self._circuit.links[node]
        if isinstance(link, Concatenation) and len({self._circuit.lowest[source] for source in link.sources}) > 1:
            return torch.cat([photos.activations[source] for source in link.sources], 1)
        if lowest > -math.inf:
            return values[node] if lowest == 0 else values[node] - lowest
        return values[node] if self.signed == "carry" else values[node].clamp(min=0)

    def _check_signs(self, values: dict[fx.Node, Tensor]) -> None:
        """Raise where a neuron would share its probability among negative values and no treatment is chosen."""
        if self.signed in ("carry", "clamp"):
            return
        for node in self._circuit.descent:
            link = self._circuit.links[node]
            if isinstance(link, Excitation) and not link.is_passing:
                for source in link.sources:
                    if self._circuit.lowest[source] == -math.inf and (values[source] < 0).any():
                        cure = "signed=clamp" if self.signed == "compose" else "signed=clamp or signed=compose"
                        raise ValueError(
                            f"negative values of {source.name} (least {values[source].min():.3g}) enter {node.name}, "
                            f"where they would be negative probabilities: choose {cure}"
                        )

    def _look_at_classifier(self, units: Tensor, photos: "_Photos") -> "_Top":
        """The classifier's excitatory links and, with contrast, those of the reverse units (Eq. 9)."""
        link = self._circuit.links[self._classifier]
        assert isinstance(link, Excitation)
        is_top = self._classifier is self._circuit.units
        activation = photos.activations[self._classifier]
        sides = []
        for sign in (1, -1) if self.contrastive else (1,):
            terms = []
            normaliser: dict[fx.Node, Tensor] = {}
            for term in link.terms:
                linear = term.map
                if isinstance(linear, Convolution):
                    linear = linear.rows(units) if is_top else linear
                    linear = linear.excitatory() if sign > 0 else linear.inhibitory()
                elif sign < 0:
                    continue  # a skip excites; its reverse does not
                terms.append(Term(term.source, linear))
                _accumulate(normaliser, self._classifier, linear.apply(photos.activations[term.source]))
            numerator = torch.ones((), dtype=activation.dtype, device=activation.device) if is_top else activation
            sides.append(_Side(sign, tuple(terms), _ratio(numerator, normaliser[self._classifier])))
        return tuple(sides)


# What depends on the network alone.


@dataclass(frozen=True, eq=False)
class _Bundle:
    """The excitatory weights of one or several convolutions of the same activations, stacked into one."""

    map: Convolution
    parents: tuple[tuple[fx.Node, slice], ...]  # the neurons above, and their channels in the stack


@dataclass(frozen=True, eq=False)
class _Children:
    """The links of all neurons but the classifier's, seen from below (by child) and from above (by parent)."""

    bundles: dict[fx.Node, list[_Bundle]]  # child -> the stacks of what it excites through weights
    plain: dict[fx.Node, list[tuple[fx.Node, LinearMap]]]  # child -> parents through sums and averages
    bundles_of: dict[fx.Node, list[tuple[_Bundle, slice]]]  # parent -> its places in the stacks
    plain_of: dict[fx.Node, list[tuple[fx.Node, LinearMap]]]  # parent -> children through sums and averages


def _classifier(circuit: Circuit) -> fx.Node:
    """The uppermost neurons with weights: where contrast enters."""
    for node in circuit.descent:
        link = circuit.links[node]
        if isinstance(link, Excitation) and link.has_weights:
            return node
    raise ValueError("the network has no classifier: no convolution or linear layer above the layer of attention")


def _children(circuit: Circuit, classifier: fx.Node) -> _Children:
    siblings: dict[fx.Node, dict[Any, list[tuple[fx.Node, Convolution]]]] = defaultdict(lambda: defaultdict(list))
    children = _Children(*(defaultdict(list) for _ in range(4)))
    on_the_way = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        link = circuit.links[node]
        if not isinstance(link, Excitation) or node is classifier:
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


def _stacked(members: list[tuple[fx.Node, Convolution]]) -> _Bundle:
    weight = torch.cat([convolution.weight for _, convolution in members])
    parents = []
    first = 0
    for node, convolution in members:
        parents.append((node, slice(first, first + len(convolution.weight))))
        first += len(convolution.weight)
    stack = replace(members[0][1], weight=weight.contiguous(memory_format=torch.channels_last))
    return _Bundle(stack, tuple(parents))


def _neurons(circuit: Circuit) -> list[fx.Node]:
    """The nodes whose activations count, children first."""
    needed = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        needed.update(circuit.links[node].sources)
    return [node for node in circuit.links if node in needed]


# What depends on the photos, and on no word.


@dataclass(frozen=True, eq=False)
class _Side:
    """The links from the output units, or from the reverse units, to the classifier's input."""

    sign: int
    terms: tuple[Term, ...]
    ratio: Tensor  # (B, units, h, w): what a unit's signal is multiplied with, activation / normaliser


@dataclass(eq=False)
class _Photos:
    signals: list[Tensor]  # of each photo, the top-down signal of its words over units and positions (K_b, units, h, w)
    activations: dict[fx.Node, Tensor] = field(default_factory=dict)
    ratios: dict[fx.Node, Tensor] = field(default_factory=dict)  # R = activation / normaliser
    winners: dict[fx.Node, Tensor] = field(default_factory=dict)  # of max pooling: places below, in `_flat` order
    contributions: dict[_Bundle, Tensor] = field(default_factory=dict)  # of the layer's neurons, place by place
    top: tuple[_Side, ...] = ()


class _Recorder(fx.Interpreter):
    """Runs a traced network and keeps the values of some nodes."""

    def __init__(self, module: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(module)
        self._nodes = nodes
        self._values: dict[fx.Node, Tensor] = {}

    def record(self, images: Tensor) -> dict[fx.Node, Tensor]:
        self.run(images)
        return self._values

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._nodes:
            self._values[n] = value
        return value


def _as_map(value: Tensor) -> Tensor:
    """A vector (N, C) as a map of one cell (N, C, 1, 1); a map as it is."""
    return value[..., None, None] if value.ndim == 2 else value


def _ratio(activation: Tensor, normaliser: Tensor) -> Tensor:
    """activation / normaliser; Z_i is 0 by definition where nothing excites (Eq. 6)."""
    return activation / normaliser.masked_fill(normaliser == 0, math.inf)


def _empty(count: int, channels: int, *, like: Tensor) -> Tensor:
    """Room for (count, channels, h, w), channels together in memory."""
    size = (count, channels, *like.shape[-2:])
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _flat(x: Tensor) -> Tensor:
    """(N, C, h, w) as (N, h·w·C): a view, as long as channels lie together in memory."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def _winners(link: Maximum, x: Tensor) -> Tensor:
    """Where in ``_flat(x)`` each pooled neuron's winner is, in the order of `_flat`: (N, h'·w'·C)."""
    _, cells = link.pool(x)
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return _flat(cells * x.shape[1] + channels)


def _accumulate(sums: dict[fx.Node, Tensor], node: fx.Node, value: Tensor) -> None:
    sums[node] = sums[node] + value if node in sums else value


def _priors(targets: Sequence[Tensor], responses: Tensor, *, keep_all: bool) -> tuple[Tensor, list[Tensor]]:
    """The output units that targets speak of (U,), and each photo's prior distributions over them, (K_b, U)."""
    count = responses.shape[1]
    full = [_prior(torch.as_tensor(target).to(responses.device), count, responses.dtype) for target in targets]
    used = torch.cat(full).ne(0).any(0) if not keep_all else torch.ones(count, dtype=torch.bool, device=responses.device)
    return used.nonzero().flatten(), [prior[:, used] for prior in full]


def _prior(target: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    if target.ndim == 1 and not target.is_floating_point():
        if len(target) and not (0 <= int(target.min()) and int(target.max()) < units):
            raise ValueError(f"output units are 0 to {units - 1}, got {target.tolist()}")
        return torch.nn.functional.one_hot(target.long(), units).to(dtype)
    if target.ndim == 1 and len(target) == 0:
        return target.new_zeros(0, units, dtype=dtype)
    if target.ndim != 2 or target.shape[1] != units:
        raise ValueError(f"targets are units (K,) or distributions (K, {units}), got {tuple(target.shape)}")
    if not target.isfinite().all() or (target < 0).any():
        raise ValueError("a prior distribution over output units holds negative values or NaN")
    return target.to(dtype)


def _signal(prior: Tensor, responses: Tensor, confidence: Confidence) -> Tensor:
    """Spread the prior (K, U) of a photo's words over positions by confidence, from responses (U, h, w): (K, U, h, w)."""
    flat = responses.flatten(1)
    share = flat.softmax(1) if confidence == "softmax" else torch.nn.functional.normalize(flat.sigmoid(), p=1, dim=1)
    return prior[:, :, None, None] * share.view_as(responses)


def _normalised(attention: Tensor) -> Tensor:
    total = attention.sum((1, 2), keepdim=True)
    return attention / total.masked_fill(total == 0, 1)


Words = list[tuple[int, slice, slice]]  # a photo, some of its words, and their rows in the pass


def _passes(counts: list[int], limit: int) -> Iterator[Words]:
    """Deal the words of all photos out to passes of at most ``limit`` words."""
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
class _Descent:
    """One top-down pass of some words; what has reached a node and is not yet summed up waits in these tables."""

    circuit: Circuit
    classifier: fx.Node
    children: _Children
    photos: _Photos
    words: Words
    waiting: dict[fx.Node, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    won: dict[fx.Node, list[tuple[Tensor, Tensor]]] = field(default_factory=lambda: defaultdict(list))
    bundled: dict[_Bundle, Tensor] = field(default_factory=dict)

    def run(self) -> Tensor:
        """The channel sum of the winning probability at the layer, (K, h, w)."""
        circuit, photos = self.circuit, self.photos
        signal = torch.cat([photos.signals[photo][part] for photo, part, _ in self.words])
        if self.classifier is not circuit.units:
            activation = photos.activations[circuit.units]
            self.waiting[circuit.units].append(self._scaled(signal, _ratio(torch.ones_like(activation), activation)))
        for node in circuit.descent:
            link = circuit.links[node]
            if node is self.classifier:
                self._contrast(signal if node is circuit.units else self._evidence(node))
            elif isinstance(link, Excitation):
                self._share(node, self._evidence(node))
            elif isinstance(link, Maximum):
                self.won[link.source].append((photos.winners[node], self._evidence(node)))
            elif isinstance(link, Concatenation):
                sizes = [photos.activations[source].shape[1] for source in link.sources]
                for source, part in zip(link.sources, self._evidence(node).split(sizes, 1), strict=True):
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

    def _contrast(self, z: Tensor) -> None:
        """From the output units to the input of the classifier, less the reverse units' share (Eq. 9)."""
        for side in self.photos.top:
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
        for winners, z in routes:
            cells = _flat(total)
            for photo, _, rows in self.words:
                cells[rows].index_add_(1, winners[photo], _flat(z[rows]))
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
