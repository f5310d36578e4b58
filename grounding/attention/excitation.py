"""Excitation Backprop: the marginal winning probability of neurons, for many words in one top-down pass.

The paper's Eq. 18, P_n = A_n ⊙ W⁺(P_{n-1} ⊘ W⁺ᵀA_n), is computed here with the *evidence* Z = P ⊘ A of a neuron:

    Z_n = W⁺(Z_{n-1} ⊙ R_{n-1}),    R_{n-1} = A_{n-1} ⊘ W⁺ᵀA_n,    P_n = A_n ⊙ Z_n

The ratios R depend on the photo alone and are computed once, bottom up. What is left for each word is plain
backpropagation with one product per layer. Max pooling, concatenation and flattening pass Z on as they pass P.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.ascent import Ascent, Photos, reached_mass
from grounding.attention.attended import Attended
from grounding.attention.children import find_children
from grounding.attention.circuit import Signed, derive_circuit
from grounding.attention.descent import Descent, deal_out
from grounding.attention.links import Circuit, Excitation, Flattening
from grounding.attention.places import Place, check_place, find_last_map, last_map
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
    scaled,
    spread,
)
from grounding.attention.trace import trace_network

# Bytes of the greatest block of memory that the C library of Linux keeps for reuse. A larger one is new at every use,
# and the system clears its pages, which takes longer than the arithmetic.
LARGEST_BLOCK = 2**25


class ExcitationBackprop:
    """Top-down attention maps of a network's output units (MWP and c-MWP; paper, section 3).

    Args:
        network: a classifier that ``torch.fx`` can trace. It is left as it was; its weights are read once, here.
        layer: where attention stops: the path of a module whose outputs are activation neurons, such as ``maxpool2``.
        at: ``layer``, or ``last_map`` to stop at the map below the global average pooling instead (c-MWP* of Table 2).
        contrastive: True for c-MWP: the share of the reverse unit is subtracted at the input of the classifier (Eq. 9),
            and the positive part is kept at the end. False for the marginal winning probability (MWP, Eq. 7).
        reverse: whether the units that are asked for and their reverse units, whose weights are negated, change places.
        normalised: whether a neuron's shares sum to 1. False leaves Z_i out of Eq. 6 ("w/o norm" of Table 3):
            probability grows and shrinks from layer to layer, so it is computed in float64 and maps are renormalised.
        signed: the treatment of signed values that enter a link: ``raise``, ``carry``, ``clamp``, ``compose`` or
            ``skip_ignored`` (see `grounding.attention.circuit.derive_circuit`).
        window: side in cells of a window that slides over the last map. The classifier is applied at every position,
            and the unit's confidence over positions is the top-down signal (6.1.1). None applies it to the whole photo.
        confidence: how a unit's responses become its confidence over positions: by their ``softmax``, or by their
            ``sigmoid``, normalised.
        renormalise: whether every map is scaled to sum 1. If not, an MWP map sums to the probability that reached the
            layer (see `attend_with_mass`).
        words_per_pass: the greatest number of maps that are computed together; it bounds the memory. On a CPU there are
            fewer where their evidence at a node would take more than `LARGEST_BLOCK`.

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
        at: Place = "layer",
        contrastive: bool = True,
        reverse: bool = False,
        normalised: bool = True,
        signed: Signed = "raise",
        window: int | None = None,
        confidence: Confidence = "softmax",
        renormalise: bool = False,
        words_per_pass: int = 16,
    ) -> None:
        check_confidence(confidence)
        if not isinstance(words_per_pass, int) or words_per_pass < 1:
            raise ValueError(f"words_per_pass must be a number of words, at least 1, got {words_per_pass!r}")
        switches = {
            "contrastive": contrastive,
            "reverse": reverse,
            "normalised": normalised,
            "renormalise": renormalise,
        }
        if wrong := {name: value for name, value in switches.items() if not isinstance(value, bool)}:
            raise ValueError(f"{' and '.join(switches)} are true or false, got {wrong}")
        check_place(at, allowed=("layer", "last_map"))
        self.contrastive = contrastive
        self.reverse = reverse
        self.normalised = normalised
        self.confidence = confidence
        self.renormalise = renormalise or not normalised
        self.words_per_pass = words_per_pass
        self.signed = signed
        with full_precision(device_type(network)):
            trace = trace_network(network, window=window)
            self.network = trace.module if normalised else trace.module.double()
            self.layer = layer if at == "layer" else last_map(trace).name
            self._last_map = find_last_map(trace)
            self.circuit = derive_circuit(trace, self.layer, signed=signed)
            self._children = find_children(self.circuit, scaled_up=normalised)

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
        ``signed=carry`` it counts negative shares, and can be below 0 or above 1. Without normalisation there is no
        such share, and it is None. It costs one more pass up through the excitatory weights above the layer, for all
        words of a photo together (``benchmarks/attention.py`` times it).

        Arguments and errors are those of `__call__`; the maps are the same to the bit.
        """
        if not self.normalised:
            return [Attended(maps, None) for maps in self(images, targets)]
        maps, reached, last_maps = self._attend(images, targets, with_mass=True)
        return [
            Attended(self._finished(attention), mass, last_map)
            for attention, mass, last_map in zip(maps, reached, last_maps, strict=True)
        ]

    def unclipped(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Maps as those of `__call__`, but before negative values are clipped; these are linear in the prior."""
        return self._attend(images, targets)[0]

    def _finished(self, attention: Tensor) -> Tensor:
        attention = attention.clamp(min=0)
        return scaled(attention) if self.renormalise else attention

    @torch.inference_mode(False)
    @torch.no_grad()
    def _attend(
        self, images: Tensor, targets: Sequence[Tensor], *, with_mass: bool = False
    ) -> tuple[list[Tensor], list[Tensor], Sequence[Tensor | None]]:
        """The unclipped maps; if asked for, the probability that reached the layer; and each photo's last map."""
        check_call(images, targets)
        if len(images) == 0:
            return [], [], []
        with full_precision(device_type(self.network)):
            photos = self.look(images, targets)
            reached = reached_mass(self.circuit, self._children, photos) if with_mass else []
            maps = self._descend(photos)
        check_finite([*maps, *reached])
        return maps, reached, [None] * len(images) if photos.last_map is None else list(photos.last_map)

    def look(self, images: Tensor, targets: Sequence[Tensor]) -> Photos:
        """Run the network, and compute bottom up everything that is the same for all words.

        Arguments and errors are those of `__call__`; there is at least one image.
        """
        values = self._values(images)
        self._check_signs(values)
        responses = values[self.circuit.units]
        units, priors = read_targets(targets, responses, keep_all=not self.circuit.has_separate_units)
        return self._ascend(values, units, priors)

    def attend_to_units(self, image: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of output units in one image, with no step that depends on a value, so that it can be exported.

        The maps are those of `unclipped`, and the probability that reached the layer is that of `attend_with_mass`, but
        nothing is checked. Precision is the caller's, and all units are in one pass.

        Shapes:
            image: (1, 3, H, W), as the network wants it.
            units: (K,), numbers of units.
            returns: maps (K, h, w), and the probability that reached the layer (K,).
        """
        values = self._values(image)
        asked, prior = units, torch.eye(units.shape[0], dtype=image.dtype)
        if not self.circuit.has_separate_units:
            asked = torch.arange(values[self.circuit.units].shape[1])
            prior = F.one_hot(units, len(asked)).to(image.dtype)
        photos = self._ascend(values, asked, [prior])
        every = slice(0, units.shape[0])
        maps = Descent(self.circuit, self._children, photos, [(0, every, every)]).run()
        return maps, reached_mass(self.circuit, self._children, photos)[0]

    def _values(self, images: Tensor) -> dict[fx.Node, Tensor]:
        """Run the network, and return the values of all neurons of the circuit, as maps."""
        circuit = self.circuit
        kept = {*circuit.neurons, circuit.units} | ({self._last_map} if self._last_map else set())
        recorder = Recorder(self.network, kept)
        output = recorder.run(as_input(images, self.network))
        if recorder.values[circuit.layer].ndim != 4:
            raise ValueError(f"layer {self.layer!r} is a vector, not a map: choose one below the pooling")
        values = {node: as_map(value) for node, value in recorder.values.items()}
        _check_vectors(circuit, values)
        check_units(values[circuit.units], output)
        return values

    def _ascend(self, values: dict[fx.Node, Tensor], units: Tensor, priors: list[Tensor]) -> Photos:
        """Compute bottom up what words share, from the network's values, the units asked for, and priors over them."""
        responses = values[self.circuit.units][:, units]
        signals = [spread(p, r, self.confidence) for p, r in zip(priors, responses, strict=True)]
        photos = Photos(signals, responses, None if self._last_map is None else values[self._last_map])
        ascent = Ascent(
            self.circuit,
            self._children,
            values,
            photos,
            keeps_signs=self.signed == "carry",
            normalised=self.normalised,
        )
        ascent.run(units, contrastive=self.contrastive, reverse=self.reverse)
        return photos

    def _descend(self, photos: Photos) -> list[Tensor]:
        """Compute the maps of all words of all photos top down, (K_b, h, w) each."""
        layer = photos.activations[self.circuit.layer]
        maps = [signal.new_empty(len(signal), *layer.shape[-2:]) for signal in photos.signals]
        limit = self.words_per_pass
        if layer.device.type == "cpu":
            widest = max(activation[0].nbytes for activation in photos.activations.values())
            limit = max(min(limit, LARGEST_BLOCK // widest), 1)
        for words in deal_out([len(signal) for signal in photos.signals], limit):
            attention = Descent(self.circuit, self._children, photos, words).run()
            for photo, part, rows in words:
                maps[photo][part] = attention[rows]
        return maps

    def signed_links(self) -> list[tuple[fx.Node, fx.Node]]:
        """The links, as (source, node), where a negative value would be an error: none if a treatment is chosen."""
        if self.signed in ("carry", "clamp", "skip_ignored"):
            return []
        found = []
        for node in self.circuit.descent:
            link = self.circuit.links[node]
            if isinstance(link, Excitation) and not link.is_passing:
                found += [(source, node) for source in link.sources if self.circuit.lowest[source] == -math.inf]
        return found

    def _check_signs(self, values: dict[fx.Node, Tensor]) -> None:
        """Raise if a neuron would share its probability among negative values and no treatment of them is chosen."""
        for source, node in self.signed_links():
            if (values[source] < 0).any():
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
