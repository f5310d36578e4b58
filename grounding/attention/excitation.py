"""Excitation Backprop: the marginal winning probability of neurons, for many words in one top-down pass.

The paper's Eq. 18, P_n = A_n ⊙ W⁺(P_{n-1} ⊘ W⁺ᵀA_n), is computed here with the *evidence* Z = P ⊘ A of a neuron:

    Z_n = W⁺(Z_{n-1} ⊙ R_{n-1}),    R_{n-1} = A_{n-1} ⊘ W⁺ᵀA_n,    P_n = A_n ⊙ Z_n

The ratios R depend on the photo alone and are computed once; what is left for each word is plain backpropagation with
one product a layer. Max pooling, concatenation and reshaping pass Z on as they pass P.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from grounding.attention.descent import Descent, Photos, Side, deal_out, find_children, flat, ratio_of
from grounding.attention.linear import Convolution
from grounding.attention.links import (
    Circuit,
    Concatenation,
    Excitation,
    Flattening,
    Maximum,
    Signed,
    Term,
    derive_circuit,
)
from grounding.attention.signals import (
    Confidence,
    Recorder,
    as_input,
    as_map,
    check_call,
    check_confidence,
    check_finite,
    check_units,
    read_targets,
    spread,
)
from grounding.attention.trace import trace_network


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
        check_confidence(confidence)
        if not isinstance(words_per_pass, int) or words_per_pass < 1:
            raise ValueError(f"words_per_pass must be a number of words, at least 1, got {words_per_pass!r}")
        if not isinstance(contrastive, bool) or not isinstance(renormalise, bool):
            raise ValueError(f"contrastive and renormalise are true or false, got {contrastive!r} and {renormalise!r}")
        self.layer = layer
        self.contrastive = contrastive
        self.confidence = confidence
        self.renormalise = renormalise
        self.words_per_pass = words_per_pass
        self.signed = signed
        trace = trace_network(network, window=window)
        self._network = trace.module
        self._circuit = derive_circuit(trace, layer, signed=signed)
        self._given = _given(self._circuit)
        self._classifiers = _classifiers(self._circuit)
        self._children = find_children(self._circuit, self._classifiers)

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

    @torch.inference_mode(False)
    @torch.no_grad()
    def unclipped(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """The maps before negative values are clipped; they are linear in the prior. Arguments as in `__call__`."""
        check_call(images, targets)
        if len(images) == 0:
            return []
        with torch.autocast(images.device.type, enabled=False):
            maps = self._attend(images, targets)
        check_finite(maps)
        return maps

    def _attend(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        photos = self._look(images, targets)
        size = photos.activations[self._circuit.layer].shape[-2:]
        maps = [signal.new_empty(len(signal), *size) for signal in photos.signals]
        for words in deal_out([len(signal) for signal in photos.signals], self.words_per_pass):
            attention = Descent(self._circuit, self._children, photos, words).run()
            for photo, part, rows in words:
                maps[photo][part] = attention[rows]
        return maps

    def _look(self, images: Tensor, targets: Sequence[Tensor]) -> Photos:
        """Bottom up: run the network, and compute all that no word changes."""
        circuit = self._circuit
        neurons = _neurons(circuit)
        recorder = Recorder(self._network, {*neurons, circuit.units})
        output = recorder.run(as_input(images, self._network))
        values = recorder.values
        if values[circuit.layer].ndim != 4:
            raise ValueError(f"layer {self.layer!r} is a vector, not a map: choose one below the pooling")
        values = {node: as_map(value) for node, value in values.items()}
        _check_vectors(circuit, values)
        check_units(values[circuit.units], output)
        self._check_signs(values)
        responses = values[circuit.units]
        units, priors = read_targets(targets, responses, keep_all=not self._selects_units)
        photos = Photos(
            signals=[spread(p, r, self.confidence) for p, r in zip(priors, responses[:, units], strict=True)]
        )
        normalisers: dict[fx.Node, Tensor] = {}
        for node in neurons:  # children first
            link, normaliser = circuit.links[node], normalisers.pop(node, None)
            if isinstance(link, Maximum) and node in circuit.descent:
                photos.winners[node] = _winners(link, values[link.source])
            activation = self._activation(node, values, photos, normaliser)
            photos.activations[node] = activation
            if normaliser is not None:
                photos.ratios[node] = ratio_of(activation, normaliser)
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
        for node in self._classifiers:
            photos.sides[node] = self._look_at_classifier(node, units, photos)
        return photos

    @property
    def _selects_units(self) -> bool:
        """Whether units that nobody asks for can be left out: they have weights of their own, and only weights."""
        link = self._circuit.links[self._circuit.units]
        return isinstance(link, Excitation) and all(isinstance(term.map, Convolution) for term in link.terms)

    def _activation(
        self, node: fx.Node, values: dict[fx.Node, Tensor], photos: Photos, normaliser: Tensor | None
    ) -> Tensor:
        """The responses of a node's neurons, counted from the least that they can be (Eq. 20)."""
        value, lowest, link = values[node], self._circuit.lowest[node], self._circuit.links[node]
        if node in self._given:
            return torch.ones_like(value)  # the probability of output units is given, whatever their response
        if lowest == -math.inf:
            return value if self.signed == "carry" else value.clamp(min=0)
        if lowest == 0:
            return value
        # Neurons without an activation function of their own follow those that they are made of.
        parts = [photos.activations[source] for source in link.sources if source in photos.activations]
        if isinstance(link, Concatenation):
            return torch.cat(parts, 1)
        if isinstance(link, Flattening):
            return parts[0].reshape(value.shape)
        if isinstance(link, Maximum) and node in photos.winners:
            won = flat(parts[0]).gather(1, photos.winners[node])
            return won.view(len(value), *value.shape[-2:], -1).permute(0, 3, 1, 2)
        if isinstance(link, Excitation) and not link.is_activated and normaliser is not None:
            return normaliser
        return value - lowest

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

    def _look_at_classifier(self, node: fx.Node, units: Tensor, photos: Photos) -> tuple[Side, ...]:
        """A classifier's excitatory links and, with contrast, those of the reverse units (Eq. 9)."""
        link = self._circuit.links[node]
        assert isinstance(link, Excitation)
        activation = photos.activations[node]
        if self._selects_units:
            activation = activation[:, units]
        sides = []
        for sign in (1, -1) if self.contrastive else (1,):
            terms = []
            normaliser: dict[fx.Node, Tensor] = {}
            for term in link.terms:
                linear = term.map
                if isinstance(linear, Convolution):
                    linear = linear.rows(units) if self._selects_units else linear
                    linear = linear.excitatory() if sign > 0 else linear.inhibitory()
                elif sign < 0:
                    continue  # a skip excites; its reverse does not
                terms.append(Term(term.source, linear))
                _accumulate(normaliser, node, linear.apply(photos.activations[term.source]))
            sides.append(Side(sign, tuple(terms), ratio_of(activation, normaliser[node])))
        return tuple(sides)


def _check_vectors(circuit: Circuit, values: dict[fx.Node, Tensor]) -> None:
    """Raise where a reshape does something else than making a vector of each map."""
    for node in circuit.descent:
        link = circuit.links[node]
        if isinstance(link, Flattening):
            vector, of = values[node].shape, values[link.source].shape
            if vector != (of[0], of[1] * of[2] * of[3], 1, 1):
                raise ValueError(f"no rule for the reshape {node.name} from {tuple(of)} to {tuple(vector[:2])}")


def _winners(link: Maximum, x: Tensor) -> Tensor:
    """Where in ``flat(x)`` each pooled neuron's winner is, in the order of `flat`: (N, h'·w'·C)."""
    _, cells = link.pool(x)
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return flat(cells * x.shape[1] + channels)


def _normalised(attention: Tensor) -> Tensor:
    total = attention.sum((1, 2), keepdim=True)
    return attention / total.masked_fill(total == 0, 1)


def _given(circuit: Circuit) -> set[fx.Node]:
    """The output units and the nodes whose neurons they are: side by side, or behind an activation function."""
    given = {circuit.units}
    for node in circuit.descent:
        link = circuit.links[node]
        hands_on = isinstance(link, Concatenation | Flattening) or (isinstance(link, Excitation) and link.is_passing)
        if node in given and hands_on:
            given.update(link.sources)
    return given


def _classifiers(circuit: Circuit) -> set[fx.Node]:
    """The uppermost neurons with weights, several where the network has several heads: there contrast enters."""
    found = set()
    above = {circuit.units}
    for node in circuit.descent:
        if node in above:
            link = circuit.links[node]
            if isinstance(link, Excitation) and link.has_weights:
                found.add(node)
            else:
                above.update(link.sources)
    if not found:
        raise ValueError("the network has no classifier: no convolution or linear layer above the layer of attention")
    return found


def _neurons(circuit: Circuit) -> list[fx.Node]:
    """The nodes whose activations count, children first."""
    needed = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        needed.update(circuit.links[node].sources)
    return [node for node in circuit.links if node in needed]


def _accumulate(sums: dict[fx.Node, Tensor], node: fx.Node, value: Tensor) -> None:
    if node in sums and sums[node].shape != value.shape:
        raise ValueError(
            f"no rule for the sum at {node.name}: {tuple(sums[node].shape)} and {tuple(value.shape)} differ"
        )
    sums[node] = sums[node] + value if node in sums else value
