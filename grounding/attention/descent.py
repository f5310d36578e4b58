"""The top-down pass, from the output units to the layer, for some words of some photos together."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from grounding.attention.ascent import Photos
from grounding.attention.children import Bundle, Children
from grounding.attention.links import Circuit, Concatenation, Excitation, Flattening, Link, Maximum, flat

Words = list[tuple[int, slice, slice]]  # the index of a photo, some of its words, and their rows in the pass


def deal_out(counts: list[int], limit: int) -> Iterator[Words]:
    """Deal the words of all photos out to passes of at most ``limit`` words, about as many in each.

    >>> [[(photo, part.start, part.stop) for photo, part, _ in words] for words in deal_out([3, 2], limit=3)]
    [[(0, 0, 3)], [(1, 0, 2)]]
    """
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


def _empty(count: int, channels: int, *, like: Tensor) -> Tensor:
    """An uninitialised tensor (count, channels, h, w), with channels together in memory."""
    size = (count, channels, *like.shape[-2:])
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def add_in_order(sums: Tensor, places: Tensor, values: Tensor) -> None:
    """Add values (K, N) to sums (K, M) in place, at places (N,) that may repeat, in the same order every time.

    ``index_add_`` sums in order on a CPU, but not on a GPU, where threads race. There, ``index_put_`` sorts first.
    """
    if sums.device.type == "cpu":
        sums.index_add_(1, places, values)
    else:
        sums.T.index_put_((places,), values.T, accumulate=True)


@dataclass(eq=False)
class Descent:
    """One top-down pass of some words. Evidence that has reached a node waits in the tables until it is summed."""

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
            if node in photos.sides:
                self._contrast(node, self._evidence(node))
            else:
                self._hand_down(node, circuit.links[node], self._evidence(node))
        return self._channel_sum(circuit.layer)

    def _hand_down(self, node: fx.Node, link: Link, z: Tensor) -> None:
        """Let the evidence of a node's neurons wait at their children."""
        if isinstance(link, Excitation):
            self._share(node, z)
        elif isinstance(link, Maximum):
            self.won[link.source].append((self.photos.winners[node], z))
        elif isinstance(link, Concatenation):
            sizes = [self.photos.activations[source].shape[1] for source in link.sources]
            for source, part in zip(link.sources, torch.split(z, sizes, 1), strict=True):
                self.waiting[source].append(part)
        elif isinstance(link, Flattening):
            self.waiting[link.source].append(z.reshape(-1, *self.photos.activations[link.source].shape[1:]))

    def _scaled(self, z: Tensor, ratio: Tensor, out: Tensor | None = None) -> Tensor:
        """Multiply the rows of each photo by the photo's ratio."""
        if len(self.words) == 1:
            return torch.mul(z, ratio[self.words[0][0]], out=out)
        if out is None:
            out = _empty(z.shape[0], ratio.shape[1], like=ratio)
        for photo, _, rows in self.words:
            torch.mul(z[rows], ratio[photo], out=out[rows])
        return out

    def _contrast(self, node: fx.Node, z: Tensor) -> None:
        """Hand evidence from a classifier's units to its input, less the share of the reverse units (Eq. 9)."""
        for side in self.photos.sides[node]:
            y = self._scaled(z, side.ratio)
            for term in side.terms:
                size = self.photos.activations[term.source].shape
                self.waiting[term.source].append(side.sign * term.map.transpose(y, size))

    def _share(self, node: fx.Node, z: Tensor) -> None:
        """Hand the evidence of neurons, times their ratio, to all neurons that excite them."""
        ratio = self.photos.ratios[node]
        plain, bundles = self.children.plain_of[node], self.children.bundles_of[node]
        y = self._scaled(z, ratio) if plain or len(bundles) > 1 else None
        for source, linear in plain:
            assert y is not None
            self.waiting[source].append(linear.transpose(y, self.photos.activations[source].shape))
        for bundle, channels in bundles:
            if bundle not in self.bundled:
                self.bundled[bundle] = _empty(z.shape[0], len(bundle.map.weight), like=ratio)
            place = self.bundled[bundle][:, channels]
            if y is None:
                self._scaled(z, ratio, out=place)
            else:
                place.copy_(y)

    def _evidence(self, node: fx.Node) -> Tensor:
        """Sum all evidence that has reached a node."""
        size = self.photos.activations[node].shape
        own = [
            bundle.map.transpose(self.bundled.pop(bundle), size)
            for bundle in self.children.bundles[node]
            if bundle in self.bundled
        ]
        shared = self.waiting.pop(node, [])  # may be parts of other tensors, not to be changed
        routes = self.won.pop(node, [])
        if len(shared) == 1 and not own and not routes:
            return shared[0]
        if not own:
            zeros = _empty(self.words[-1][2].stop, size[1], like=self.photos.activations[node]).zero_()
            own = [zeros.copy_(shared.pop()) if shared else zeros]
        total = own[0]
        for part in own[1:] + shared:
            total = total.add_(part)
        if routes:
            total = total.contiguous(memory_format=torch.channels_last)
        for winners, z in routes:
            for photo, _, rows in self.words:
                add_in_order(flat(total[rows]), winners[photo], flat(z[rows]))
        return total

    def _channel_sum(self, node: fx.Node) -> Tensor:
        """Compute the map of the layer: the probability of its neurons, summed over channels."""
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
