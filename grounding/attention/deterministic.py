"""Deterministic winner-take-all: one path of winners from an output unit down (Tsotsos et al. 1995; paper, 6.1.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from grounding.attention.ascent import Photos
from grounding.attention.children import excitatory_terms
from grounding.attention.circuit import Signed
from grounding.attention.excitation import ExcitationBackprop
from grounding.attention.links import Circuit, Concatenation, Excitation, Flattening, Maximum, Term, flat
from grounding.attention.places import Place
from grounding.attention.precision import full_precision
from grounding.attention.signals import check_call, device_type


class DeterministicWTA:
    """The neuron at which a path of winners arrives: d-WTA, which the paper compares with (section 6.1.3, Table 4).

    The path starts at the greatest response of the units that are asked for, at the position where it is. From each
    neuron it goes on to the child that wins all: the one with the greatest excitatory weight × activation, whose
    probability Eq. 6 makes the greatest. A map is 1 at the cell of the neuron where the path ends, and 0 elsewhere.
    It is empty where the path comes to a neuron that nothing excites. Among equal children, the first one wins.

    Arguments and errors are those of `ExcitationBackprop`.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        at: Place = "layer",
        signed: Signed = "raise",
        window: int | None = None,
        words_per_pass: int = 16,
    ) -> None:
        self._excitation = ExcitationBackprop(
            network, layer, at=at, contrastive=False, signed=signed, window=window, words_per_pass=words_per_pass
        )
        self.layer = self._excitation.layer
        links = self._excitation.circuit.links
        self._terms = {
            node: excitatory_terms(link)
            for node in self._excitation.circuit.descent
            if isinstance(link := links[node], Excitation)
        }

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image, (K_b, h, w), at the resolution of the layer.

        Arguments and errors are those of `ExcitationBackprop`. Of a prior distribution over output units, it matters
        alone which units have any.
        """
        check_call(images, targets)
        if len(images) == 0:
            return []
        excitation = self._excitation
        with full_precision(device_type(excitation.network)):
            photos = excitation.look(images, targets)
            return [
                torch.cat(
                    [
                        _winners_of(_Paths(excitation.circuit, self._terms, photos, index), part)
                        for part in torch.split(signals, excitation.words_per_pass)
                    ]
                )
                for index, signals in enumerate(photos.signals)
            ]


def _winners_of(paths: "_Paths", signals: Tensor) -> Tensor:
    """The maps (K, h, w) of some words of a photo, whose signals are (K, units, h, w)."""
    circuit, photos = paths.circuit, paths.photos
    asked = signals.flatten(2).amax(2) > 0  # (K, units)
    responses = photos.responses[paths.photo].masked_fill(~asked[:, :, None, None], -torch.inf)
    words = asked.any(1).nonzero()[:, 0]
    paths.arrive(circuit.units, words, flat(responses).argmax(1)[words])
    for node in circuit.descent:
        if node in paths.words:
            paths.descend(node)
    size = photos.activations[circuit.layer].shape[1:]
    maps = signals.new_zeros(len(signals), size[1] * size[2])
    if circuit.layer in paths.words:
        words, places = paths.at(circuit.layer)
        maps[words, places // size[0]] = 1
    return maps.view(-1, *size[1:])


@dataclass(eq=False)
class _Paths:
    """Where the paths of some words of a photo are: at one neuron each, by its node and its place in `flat`."""

    circuit: Circuit
    terms: dict[fx.Node, list[Term]]  # the excitatory maps from each node's neurons to their children
    photos: Photos
    photo: int
    words: dict[fx.Node, list[Tensor]] = field(default_factory=dict)
    places: dict[fx.Node, list[Tensor]] = field(default_factory=dict)

    def arrive(self, node: fx.Node, words: Tensor, places: Tensor) -> None:
        """Bring some words (n,) to places (n,) of a node."""
        if len(words):
            self.words.setdefault(node, []).append(words)
            self.places.setdefault(node, []).append(places)

    def at(self, node: fx.Node) -> tuple[Tensor, Tensor]:
        """The words that are at a node, and their places."""
        return torch.cat(self.words[node]), torch.cat(self.places[node])

    def descend(self, node: fx.Node) -> None:
        """Let all words that are at a node go on to the winners among its children."""
        link, (words, places) = self.circuit.links[node], self.at(node)
        channels = self._values(node).shape[1]
        if isinstance(link, Excitation):
            self._choose(node, words, places)
        elif isinstance(link, Maximum):
            self.arrive(link.source, words, self.photos.winners[node][self.photo, places])
        elif isinstance(link, Flattening):
            _, inner, height, width = self.photos.activations[link.source].shape  # a vector's channels are C, h, w
            channel, cell = places // (height * width), places % (height * width)
            self.arrive(link.source, words, cell * inner + channel)
        elif isinstance(link, Concatenation):
            first, cell, channel = 0, places // channels, places % channels
            for source in link.sources:
                count = self.photos.activations[source].shape[1]
                here = (channel >= first) & (channel < first + count)
                self.arrive(source, words[here], cell[here] * count + channel[here] - first)
                first += count

    def _choose(self, node: fx.Node, words: Tensor, places: Tensor) -> None:
        """Go on to the child with the greatest excitatory weight × activation, if there is one."""
        terms = self.photos.sides[node][0].terms if node in self.photos.sides else self.terms[node]
        best, chosen = (
            places.new_zeros(len(words), dtype=self.photos.responses.dtype),
            places.new_full((len(words),), -1),
        )
        found = places.clone()
        for index, term in enumerate(terms):
            greatest, place = self._strongest(node, term, places)
            better = greatest > best
            best, found = torch.where(better, greatest, best), torch.where(better, place, found)
            chosen = chosen.masked_fill(better, index)
        for index, term in enumerate(terms):
            self.arrive(term.source, words[chosen == index], found[chosen == index])

    def _strongest(self, node: fx.Node, term: Term, places: Tensor) -> tuple[Tensor, Tensor]:
        """The greatest excitatory weight × activation among the children at a term's source, and its place."""
        above, below = self._values(node), self.photos.activations[term.source][[self.photo]]
        _, channels, height, width = above.shape
        neurons = above.new_zeros(len(places), height * width * channels)
        neurons.scatter_(1, places[:, None], 1)
        neurons = neurons.view(-1, height, width, channels).permute(0, 3, 1, 2)
        greatest, place = flat(term.map.transpose(neurons, below.shape) * below).max(1)
        return greatest, place

    def _values(self, node: fx.Node) -> Tensor:
        """The neurons of a node; of the output units, only those that words ask for."""
        return self.photos.responses if node is self.circuit.units else self.photos.activations[node]
