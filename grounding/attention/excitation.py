"""Excitation Backprop: the marginal winning probability of neurons, for many words in one top-down pass.

The paper's Eq. 18, P_n = A_n ⊙ W⁺(P_{n-1} ⊘ W⁺ᵀA_n), is computed here with the *evidence* Z = P ⊘ A of a neuron:

    Z_n = W⁺(Z_{n-1} ⊙ R_{n-1}),    R_{n-1} = A_{n-1} ⊘ W⁺ᵀA_n,    P_n = A_n ⊙ Z_n

The ratios R depend on the photo alone and are computed once, bottom up. What is left for each word is plain
backpropagation with one product per layer. Max pooling, concatenation and flattening pass Z on as they pass P.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from grounding.attention.ascent import Ascent, Photos, reached_mass
from grounding.attention.attended import Attended
from grounding.attention.children import find_children
from grounding.attention.circuit import Signed, derive_circuit
from grounding.attention.descent import Descent, deal_out
from grounding.attention.links import Circuit, Excitation, Flattening
from grounding.attention.precision import full_precision
from grounding.attention.signals import (
    Confidence,
    Recorder,
    as_input,
    as_map,
    check_call,
    check_confidence,
    check_finite,
    check_units,
    device_type,
    read_targets,
    spread,
)
from grounding.attention.trace import trace_network


class ExcitationBackprop:
    """Top-down attention maps of a network's output units (MWP and c-MWP; paper, section 3).

    Args:
        network: a classifier that ``torch.fx`` can trace. It is left as it was; its weights are read once, here.
        layer: where attention stops: the path of a module whose outputs are activation neurons, such as ``maxpool2``.
        contrastive: True for c-MWP: the share of the reverse unit is subtracted at the input of the classifier (Eq. 9),
            and the positive part is kept at the end. False for the marginal winning probability (MWP, Eq. 7).
        signed: the treatment of negative values that enter a link: ``raise``, ``carry``, ``clamp`` or ``compose``
            (see `grounding.attention.circuit.derive_circuit`).
        window: side in cells of a window that slides over the last map. The classifier is applied at every position,
            and the unit's confidence over positions is the top-down signal (6.1.1). None applies it to the whole photo.
        confidence: how a unit's responses become its confidence over positions: by their ``softmax``, or by their
            ``sigmoid``, normalised.
        renormalise: whether every map is scaled to sum 1. If not, an MWP map sums to the probability that reached the
            layer (see `attend_with_mass`).
        words_per_pass: the greatest number of maps that are computed together; it bounds the memory.

    Raises:
        ValueError: the network cannot be traced, lacks the layer, or has an operation without a rule above the layer;
            or a setting makes no sense.

    In this example, a unit weighs two neurons by 3 and 1. Both respond with 1 at the first pixel and 2 at the second:

    >>> stem, classifier = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 1)
    >>> stem.weight.data = torch.ones(2, 1, 1, 1)
    >>> classifier.weight.data = torch.tensor([[3.0, 1.0]])
    >>> network = nn.Sequential(stem, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)
    >>> attend = ExcitationBackprop(network, layer="1", contrastive=False)
    >>> attend(torch.tensor([[[[1.0, 2.0]]]]), targets=[torch.tensor([0])])
    [tensor([[[0.3333, 0.6667]]])]
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
        with full_precision(device_type(network)):
            trace = trace_network(network, window=window)
            self._network = trace.module
            self._circuit = derive_circuit(trace, layer, signed=signed)
            self._children = find_children(self._circuit)

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
        return [self._finished(attention) for attention in self.unclipped(images, targets)]

    def attend_with_mass(self, images: Tensor, targets: Sequence[Tensor]) -> list[Attended]:
        """Attention maps as those of a call, with the share of each word's probability that reached the layer.

        The share is the sum of the unclipped MWP map, for c-MWP as well, before a map is renormalised. With
        ``signed=carry`` it counts negative shares, and can be below 0 or above 1. It costs one more pass up through the
        excitatory weights above the layer, for all words of a photo together (``benchmarks/attention.py`` times it).

        Arguments and errors are those of `__call__`; the maps are the same to the bit.
        """
        maps, reached = self._attend(images, targets, with_mass=True)
        return [Attended(self._finished(attention), mass) for attention, mass in zip(maps, reached, strict=True)]

    def unclipped(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Maps as those of `__call__`, but before negative values are clipped; these are linear in the prior."""
        return self._attend(images, targets)[0]

    def _finished(self, attention: Tensor) -> Tensor:
        attention = attention.clamp(min=0)
        return _normalised(attention) if self.renormalise else attention

    @torch.inference_mode(False)
    @torch.no_grad()
    def _attend(
        self, images: Tensor, targets: Sequence[Tensor], *, with_mass: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The unclipped maps and, if asked for, the probability that reached the layer."""
        check_call(images, targets)
        if len(images) == 0:
            return [], []
        with full_precision(device_type(self._network)):
            photos = self._look(images, targets)
            reached = reached_mass(self._circuit, self._children, photos) if with_mass else []
            maps = self._descend(photos)
        check_finite([*maps, *reached])
        return maps, reached

    def _look(self, images: Tensor, targets: Sequence[Tensor]) -> Photos:
        """Run the network, and compute bottom up everything that is the same for all words."""
        circuit = self._circuit
        recorder = Recorder(self._network, {*circuit.neurons, circuit.units})
        output = recorder.run(as_input(images, self._network))
        if recorder.values[circuit.layer].ndim != 4:
            raise ValueError(f"layer {self.layer!r} is a vector, not a map: choose one below the pooling")
        values = {node: as_map(value) for node, value in recorder.values.items()}
        responses = values[circuit.units]
        _check_vectors(circuit, values)
        check_units(responses, output)
        self._check_signs(values)
        units, priors = read_targets(targets, responses, keep_all=not circuit.has_separate_units)
        signals = [spread(p, r, self.confidence) for p, r in zip(priors, responses[:, units], strict=True)]
        photos = Photos(signals)
        ascent = Ascent(circuit, self._children, values, photos, keeps_signs=self.signed == "carry")
        ascent.run(units, contrastive=self.contrastive)
        return photos

    def _descend(self, photos: Photos) -> list[Tensor]:
        """Compute the maps of all words of all photos top down, (K_b, h, w) each."""
        size = photos.activations[self._circuit.layer].shape[-2:]
        maps = [signal.new_empty(len(signal), *size) for signal in photos.signals]
        for words in deal_out([len(signal) for signal in photos.signals], self.words_per_pass):
            attention = Descent(self._circuit, self._children, photos, words).run()
            for photo, part, rows in words:
                maps[photo][part] = attention[rows]
        return maps

    def _check_signs(self, values: dict[fx.Node, Tensor]) -> None:
        """Raise if a neuron would share its probability among negative values and no treatment of them is chosen."""
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


def _check_vectors(circuit: Circuit, values: dict[fx.Node, Tensor]) -> None:
    """Raise if a reshape does anything but flatten each map into a vector."""
    for node in circuit.descent:
        link = circuit.links[node]
        if isinstance(link, Flattening):
            vector, size = values[node].shape, values[link.source].shape
            if vector != (size[0], size[1] * size[2] * size[3], 1, 1):
                raise ValueError(f"no rule for the reshape {node.name} from {tuple(size)} to {tuple(vector[:2])}")


def _normalised(attention: Tensor) -> Tensor:
    total = attention.sum((1, 2), keepdim=True)
    return attention / total.masked_fill(total == 0, 1)
