"""From words to attention maps: a classifier with its attention method, and the mean of a phrase's word maps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from grounding.attention.attended import Attended, MassTracking
from grounding.devices import find_device
from grounding.kinds import kind_of
from grounding.models import Classifier
from grounding.phrases import clothing_phrases
from grounding.records import Phrase
from grounding.understanding import Understanding
from grounding.vocabulary import Vocabulary


class Attention(Protocol):
    """A method that finds the evidence for output units; called as `ExcitationBackprop` is."""

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Maps (K_b, h, w) of images (B, 3, H, W) for targets (K_b,) or (K_b, units)."""


@dataclass(frozen=True, slots=True)
class PhraseWords:
    """The words of a phrase as a vocabulary knows them."""

    known: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    clothing: tuple[str, ...] = ()  # known words of the phrase that names the clothing of this one
    kind: str | None = None  # of the thing that the phrase means, see `grounding.kinds`
    understood: tuple[tuple[str, tuple[str, ...]], ...] = ()  # unknown words, each with known ones that stand for it

    @property
    def attended(self) -> tuple[str, ...]:
        """All words whose maps are part of the phrase's map."""
        return (*self.known, *self.clothing)


@dataclass(frozen=True, eq=False)
class WordMaps:
    """The attention maps of some words in one photo."""

    maps: dict[str, Tensor] = field(default_factory=dict)  # (h, w) float32, non-negative, by word
    # Share of each word's winning probability that reached the layer, in [0, 1]; empty for methods without it.
    reached: dict[str, float] = field(default_factory=dict)
    last_map: Tensor | None = None  # of the photo, see `Attended`


class WordAttention:
    """A classifier with an attention method.

    Args:
        classifier: the network and its words.
        method: makes the attention method from the network, its layer and window, such as `ExcitationBackprop`.
        device: where the network runs; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: the device cannot be used, or the method refuses the network.
    """

    def __init__(self, classifier: Classifier, method: Callable[..., Attention], *, device: str = "auto") -> None:
        self.classifier = classifier
        self.device = find_device(device)
        self.method = method(classifier.network.to(self.device), layer=classifier.layer, window=classifier.window)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.classifier.vocabulary

    def prepare(self, image: Tensor) -> Tensor:
        """A photo (3, H, W) in [0, 1] as the network takes it, (3, h, w)."""
        return self.classifier.prepare(image)

    def __call__(self, prepared: Sequence[Tensor], words: Sequence[Sequence[str]]) -> list[WordMaps]:
        """The attention map of each word in each photo. On a GPU, photos of equal size go through the network together.

        On a CPU each goes alone: several at once are no faster there, and sums in another order would make the last
        digits of a photo's maps depend on the photos beside it.

        Args:
            prepared: photos as `prepare` returns them, of any sizes.
            words: for each photo the words to look for, all of them in the vocabulary; there may be none.
        """
        distinct = [tuple(dict.fromkeys(photo_words)) for photo_words in words]
        together: dict[object, list[int]] = {}
        for index, (image, photo_words) in enumerate(zip(prepared, distinct, strict=True)):
            if photo_words:
                together.setdefault(index if self.device.type == "cpu" else image.shape, []).append(index)
        found = [WordMaps() for _ in distinct]
        for indices in together.values():
            batch = torch.stack([prepared[index] for index in indices]).to(self.device)
            priors = [torch.stack([self.vocabulary.prior(word) for word in distinct[index]]) for index in indices]
            for index, attended in zip(indices, self.attend(batch, priors), strict=True):
                reached = [] if attended.reached is None else attended.reached.tolist()
                found[index] = WordMaps(
                    maps=dict(zip(distinct[index], attended.maps.float().cpu(), strict=True)),
                    reached=dict(zip(distinct[index], reached, strict=bool(reached))),
                    last_map=attended.last_map,
                )
        return found

    def attend(self, batch: Tensor, priors: Sequence[Tensor]) -> list[Attended]:
        """The attention maps of prior distributions of output units, (K_b, units), in each photo of a batch.

        Args:
            batch: (B, 3, h, w), photos as `prepare` returns them, on the device.
            priors: one tensor for each photo.
        """
        targets = [prior.to(self.device) for prior in priors]
        if isinstance(self.method, MassTracking):
            return self.method.attend_with_mass(batch, targets)
        return [Attended(maps, None) for maps in self.method(batch, targets)]


def match_words(
    phrases: Sequence[Phrase], captions: Sequence[str], understanding: Understanding, *, with_clothing: bool
) -> list[PhraseWords]:
    """Match the words of each phrase and, if asked for, those of the phrase that names its clothing; find its kind.

    Args:
        phrases: the noun phrases of the captions, in order.
        captions: texts that the phrases' spans refer to.
        understanding: matches words with those that the classifier knows.
        with_clothing: whether to match the words of clothing, too (see `clothing_phrases`).
    """
    matches = [understanding.match(phrase.words) for phrase in phrases]
    worn = clothing_phrases(phrases, captions) if with_clothing else [None] * len(phrases)
    return [
        PhraseWords(
            known=matched.known,
            skipped=matched.skipped,
            clothing=() if clothing is None else understanding.match(clothing.words).known,
            kind=kind_of(phrase.words),
            understood=tuple(matched.understood.items()),
        )
        for phrase, matched, clothing in zip(phrases, matches, worn, strict=True)
    ]


def phrase_map(maps: Mapping[str, Tensor], words: PhraseWords, *, clothing_weight: float = 0.0) -> Tensor | None:
    """The map of a phrase (h, w): the mean of its words' maps (paper, section 6.3.1); None where no word is known.

    With a clothing weight, all maps are scaled to sum 1, and the map of what the phrase is in or wears is added at that
    weight: "a man in a red shirt" is where the man is and where the red shirt is. The paper has no such term.

    >>> maps = {"red": torch.tensor([[1.0, 0.0]]), "cup": torch.tensor([[0.0, 3.0]])}
    >>> phrase_map(maps, PhraseWords(known=("red", "cup")))
    tensor([[0.5000, 1.5000]])
    """
    if not words.known:
        return None
    attention = torch.stack([maps[word] for word in words.known]).mean(0)
    if not clothing_weight:
        return attention
    if not words.clothing:
        return _scaled(attention)
    clothing = torch.stack([maps[word] for word in words.clothing]).mean(0)
    return _scaled(_scaled(attention) + clothing_weight * _scaled(clothing))


def phrase_reached(reached: Mapping[str, float], words: PhraseWords) -> float | None:
    """The mean over a phrase's words of the probability that reached the layer; None where the method has none."""
    shares = [reached[word] for word in words.known if word in reached]
    return sum(shares) / len(shares) if shares else None


def _scaled(attention: Tensor) -> Tensor:
    return attention / attention.sum().clamp(min=torch.finfo(attention.dtype).tiny)
