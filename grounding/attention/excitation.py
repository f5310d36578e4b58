"""Excitation Backprop: the marginal winning probability of neurons, for many words in one top-down pass.

The paper's Eq. 18, P_n = A_n ⊙ W⁺(P_{n-1} ⊘ W⁺ᵀA_n), is computed here with the *evidence* Z = P ⊘ A of a neuron:

    Z_n = W⁺(Z_{n-1} ⊙ R_{n-1}),    R_{n-1} = A_{n-1} ⊘ W⁺ᵀA_n,    P_n = A_n ⊙ Z_n

The ratios R depend on the photo alone and are computed once; what is left for each word is plain backpropagation with
one product a layer. Max pooling, concatenation and reshaping pass Z on as they pass P.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.descent import Descent, Photos, Side, deal_out, find_children, flat, ratio_of
from grounding.attention.linear import Convolution
from grounding.attention.links import Circuit, Concatenation, Excitation, Maximum, Signed, Term, derive_circuit
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
        self._children = find_children(self._circuit, self._classifier)

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
                f"expected images (B, C, H, W), B targets; got {tuple(images.shape)}, {len(targets)} targets"
            )
        if len(images) == 0:
            return []
        photos = self._look(images, targets)
        size = photos.activations[self._circuit.layer].shape[-2:]
        maps = [signal.new_empty(len(signal), *size) for signal in photos.signals]
        for words in deal_out([len(signal) for signal in photos.signals], self.words_per_pass):
            attention = Descent(self._circuit, self._classifier, self._children, photos, words).run()
            for photo, part, rows in words:
                maps[photo][part] = attention[rows]
        if not all(attention.isfinite().all() for attention in maps):
            raise ValueError("attention is not a number: the image or the network's weights hold NaN or infinity")
        return maps

    def _look(self, images: Tensor, targets: Sequence[Tensor]) -> Photos:
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
        photos = Photos(
            signals=[_signal(p, r, self.confidence) for p, r in zip(priors, responses[:, units], strict=True)]
        )
        normalisers: dict[fx.Node, Tensor] = {}
        for node in neurons:  # children first
            activation = self._activation(node, values, photos)
            photos.activations[node] = activation
            if node in normalisers:
                photos.ratios[node] = ratio_of(activation, normalisers.pop(node))
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

    def _activation(self, node: fx.Node, values: dict[fx.Node, Tensor], photos: Photos) -> Tensor:
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

    def _look_at_classifier(self, units: Tensor, photos: Photos) -> tuple[Side, ...]:
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
            sides.append(Side(sign, tuple(terms), ratio_of(numerator, normaliser[self._classifier])))
        return tuple(sides)


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


def _winners(link: Maximum, x: Tensor) -> Tensor:
    """Where in ``flat(x)`` each pooled neuron's winner is, in the order of `flat`: (N, h'·w'·C)."""
    _, cells = link.pool(x)
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return flat(cells * x.shape[1] + channels)


def _priors(targets: Sequence[Tensor], responses: Tensor, *, keep_all: bool) -> tuple[Tensor, list[Tensor]]:
    """The output units that targets speak of (U,), and each photo's prior distributions over them, (K_b, U)."""
    count = responses.shape[1]
    full = [_prior(torch.as_tensor(target).to(responses.device), count, responses.dtype) for target in targets]
    used = (
        torch.cat(full).ne(0).any(0) if not keep_all else torch.ones(count, dtype=torch.bool, device=responses.device)
    )
    return used.nonzero().flatten(), [prior[:, used] for prior in full]


def _prior(target: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    if target.ndim == 1 and not target.is_floating_point():
        if len(target) and not (int(target.min()) >= 0 and int(target.max()) < units):
            raise ValueError(f"output units are 0 to {units - 1}, got {target.tolist()}")
        return F.one_hot(target.long(), units).to(dtype)
    if target.ndim == 1 and len(target) == 0:
        return target.new_zeros(0, units, dtype=dtype)
    if target.ndim != 2 or target.shape[1] != units:
        raise ValueError(f"targets are units (K,) or distributions (K, {units}), got {tuple(target.shape)}")
    if not target.isfinite().all() or (target < 0).any():
        raise ValueError("a prior distribution over output units holds negative values or NaN")
    return target.to(dtype)


def _signal(prior: Tensor, responses: Tensor, confidence: Confidence) -> Tensor:
    """Spread a prior (K, U) over positions by the confidence that responses (U, h, w) show: (K, U, h, w)."""
    flat = responses.flatten(1)
    share = flat.softmax(1) if confidence == "softmax" else F.normalize(flat.sigmoid(), p=1, dim=1)
    return prior[:, :, None, None] * share.view_as(responses)


def _normalised(attention: Tensor) -> Tensor:
    total = attention.sum((1, 2), keepdim=True)
    return attention / total.masked_fill(total == 0, 1)


def _classifier(circuit: Circuit) -> fx.Node:
    """The uppermost neurons with weights: where contrast enters."""
    for node in circuit.descent:
        link = circuit.links[node]
        if isinstance(link, Excitation) and link.has_weights:
            return node
    raise ValueError("the network has no classifier: no convolution or linear layer above the layer of attention")


def _neurons(circuit: Circuit) -> list[fx.Node]:
    """The nodes whose activations count, children first."""
    needed = {circuit.layer, *circuit.descent}
    for node in circuit.descent:
        needed.update(circuit.links[node].sources)
    return [node for node in circuit.links if node in needed]


def _accumulate(sums: dict[fx.Node, Tensor], node: fx.Node, value: Tensor) -> None:
    sums[node] = sums[node] + value if node in sums else value
