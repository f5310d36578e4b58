"""The grounder: from photos and captions to ranked regions.

Each photo goes through the network once, and one attention map is computed for each different word.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from grounding.config import GrounderSettings, build_part, choose_model, compose_grounder
from grounding.images import ImageSource, load_image
from grounding.maps import PhraseWords, WordAttention, WordMaps, match_words, phrase_map, phrase_reached
from grounding.phrases import noun_phrases, whole_phrase
from grounding.processes import cores
from grounding.records import GroundedPhrase, Grounding, Phrase, Regions
from grounding.scoring import AreaExponents, rank_regions
from grounding.understanding import Understanding

Captions = str | Sequence[str]

PHOTOS_AT_ONCE = 8  # photos held in memory, each at the size that the network takes


class Proposer(Protocol):
    """A method that proposes regions in a photo, whatever the words."""

    def __call__(self, image: Tensor) -> Regions:
        """Regions of a photo (3, H, W) in [0, 1], best first; `Segments` where the method knows outlines."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Settings by which attention maps become ranked regions.

    Args:
        area_exponents: γ of the score S_R / A_R^γ, for segments and for boxes, and by the kind of thing.
        overlap: IoU above which a region gives way to a better one.
        count: the greatest number of regions that a phrase keeps.
        clothing_weight: weight of the map of a phrase's clothing ("a man in a red shirt") relative to that of its own
            words; 0 for none, as in the paper.
        understand: how far to go for words that the model does not know, one of `grounding.understanding.LEVELS`.

    Raises:
        ValueError: a value is out of its range.
    """

    area_exponents: AreaExponents
    overlap: float = 0.7
    count: int = 10
    clothing_weight: float = 0.0
    understand: str = "exact"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"scoring.overlap is an IoU from 0 to 1, got {self.overlap}")
        if self.count < 1:
            raise ValueError(f"scoring.count must be at least 1, got {self.count}")
        if not 0 <= self.clothing_weight <= 10:
            raise ValueError(f"scoring.clothing_weight must be from 0 to 10, got {self.clothing_weight}")


class Grounder:
    """Finds where in a photo each noun phrase of a caption is.

    Args:
        attention: the classifier with its attention method.
        proposer: finds regions in a photo.
        scoring: settings by which maps become ranked regions.

    Raises:
        ValueError: unknown words cannot be understood as the settings say.
    """

    def __init__(self, attention: WordAttention, proposer: Proposer, scoring: Scoring) -> None:
        self.attention = attention
        self.propose = proposer
        self.scoring = scoring
        self.understanding = Understanding(attention.vocabulary, scoring.understand)

    @staticmethod
    def load(model: str | Path | None = None, *settings: str) -> "Grounder":
        """Load the default grounder, which needs no network access, or one with another model or other settings.

        Args:
            model: the name of a model, or the folder of a checkpoint that ``python -m train`` wrote; a `Path` is always
                a folder. None loads the default model.
            settings: any settings as on the command line, such as ``attention=cmwp``.

        Example: ``Grounder.load("googlenet", "attention=mwp", "proposals.count=200")``,
        ``Grounder.load("runs/my_model")``.

        Raises:
            ValueError: there is no such model or setting, or the checkpoint is damaged.
        """
        overrides = [*([] if model is None else choose_model(model)), *settings]
        return Grounder.from_settings(compose_grounder(overrides))

    @staticmethod
    def from_settings(settings: GrounderSettings) -> "Grounder":
        """Build the grounder that settings describe.

        Raises:
            ValueError: a part cannot be built from its settings.
        """
        classifier, method = build_part(settings.model), build_part(settings.attention)
        return Grounder(
            WordAttention(classifier, method, device=settings.device),
            build_part(settings.proposals),
            Scoring(
                AreaExponents(**settings.area_exponents, by_kind=settings.area_exponent_by_kind),
                overlap=settings.overlap,
                count=settings.count,
                clothing_weight=settings.clothing_weight,
                understand=settings.understand,
            ),
        )

    def __call__(
        self,
        images: Sequence[ImageSource],
        captions: Sequence[Captions] | None = None,
        *,
        phrases: Sequence[Sequence[str]] | None = None,
    ) -> list[Grounding]:
        """Ground captions in photos.

        Args:
            images: paths, PIL images, arrays (H, W, 3) uint8 or tensors (3, H, W) in [0, 1].
            captions: for each image one caption, or several.
            phrases: for each image the phrases themselves, instead of captions; no parser looks at them.

        Raises:
            ValueError: lists of different lengths, a caption without text, an image that cannot be read.
        """
        if (captions is None) == (phrases is None):
            raise ValueError("give captions or phrases, one of the two")
        if isinstance(images, str | Path) or isinstance(captions, str) or isinstance(phrases, str):
            raise ValueError("images, captions and phrases are lists, one entry for each image")
        count = len(captions if captions is not None else phrases or [])
        if len(images) != count:
            raise ValueError(f"{len(images)} images, but captions or phrases for {count}")
        groundings = []
        for result in self.ground_each(images, captions, phrases=phrases):
            if isinstance(result, Exception):
                raise result
            groundings.append(result)
        return groundings

    def ground_each(
        self,
        images: Sequence[ImageSource],
        captions: Sequence[Captions] | None = None,
        *,
        phrases: Sequence[Sequence[str]] | None = None,
    ) -> Iterator[Grounding | Exception]:
        """Ground captions in photos as `__call__` does, one result after the other.

        A photo that cannot be grounded gives its error in place of a result, and the rest goes on. Photos are read, and
        regions proposed in them, by several threads ahead of the network.
        """
        texts = captions if captions is not None else phrases
        assert texts is not None
        threads = ThreadPoolExecutor(min(cores(), PHOTOS_AT_ONCE))
        try:
            for first in range(0, len(images), PHOTOS_AT_ONCE):
                few = slice(first, first + PHOTOS_AT_ONCE)
                reading = [threads.submit(self._read, image) for image in images[few]]
                yield from self._ground_together(
                    [
                        self._task(image, photo_texts, are_phrases=phrases is not None)
                        for image, photo_texts in zip(reading, texts[few], strict=True)
                    ]
                )
        finally:  # after Ctrl-C, do not wait for photos that are being read
            threads.shutdown(wait=False, cancel_futures=True)

    def _task(self, image: Future["ReadPhoto"], texts: Captions, *, are_phrases: bool) -> "_Task | Exception":
        """A photo that a thread reads, with its parsed captions; or the error of either."""
        try:
            captions, phrases = read_texts(texts, are_phrases=are_phrases)
            return self._matched(image.result(), captions, phrases)
        except Exception as error:  # of any type: libraries that decode photos raise many
            return error

    def _matched(self, photo: "ReadPhoto", captions: tuple[str, ...], phrases: tuple[Phrase, ...]) -> "_Task":
        with_clothing = self.scoring.clothing_weight > 0
        words = match_words(phrases, captions, self.understanding, with_clothing=with_clothing)
        return _Task(photo, captions, phrases, words)

    def _read(self, source: ImageSource) -> "ReadPhoto":
        """Read a photo and propose regions in it; its pixels at full size are freed when this returns."""
        return read_photo(load_image(source), self.attention.prepare, self.propose)

    def ground_photo(self, photo: "ReadPhoto", captions: tuple[str, ...], phrases: tuple[Phrase, ...]) -> Grounding:
        """Ground phrases in a photo that `read_photo` has read.

        Args:
            photo: the photo with its proposals.
            captions: its captions.
            phrases: their phrases, see `read_texts`.

        Raises:
            ValueError: attention is not a number.
        """
        task = self._matched(photo, captions, phrases)
        (maps,) = self.attention([photo.prepared], [_words_of(task)])
        return self._ground(task, maps)

    def _ground_together(self, tasks: Sequence["_Task | Exception"]) -> Iterator[Grounding | Exception]:
        """Ground the captions of some photos; photos of equal size go through the network together."""
        readable = [task for task in tasks if isinstance(task, _Task)]
        try:
            maps = iter(self.attention([task.photo.prepared for task in readable], list(map(_words_of, readable))))
            yield from [task if isinstance(task, Exception) else self._ground(task, next(maps)) for task in tasks]
        except Exception as error:  # one photo may be to blame: each is tried alone
            if len(tasks) == 1:
                yield error
            else:
                for task in tasks:
                    yield from self._ground_together([task])

    def _ground(self, task: "_Task", word_maps: WordMaps) -> Grounding:
        ranked: dict[PhraseWords, tuple[Tensor | None, Regions]] = {}  # phrases of equal words are scored once
        grounded = []
        for phrase, words in zip(task.phrases, task.words, strict=True):
            if words not in ranked:
                ranked[words] = self._rank(task.photo, words, word_maps)
            attention, regions = ranked[words]
            grounded.append(
                GroundedPhrase(
                    text=phrase.text,
                    span=phrase.span,
                    caption=phrase.caption,
                    words=words.known,
                    skipped_words=words.skipped,
                    understood=dict(words.understood),
                    regions=regions,
                    attention=attention,
                    reached=phrase_reached(word_maps.reached, words),
                )
            )
        return Grounding(task.captions, task.photo.size, tuple(grounded))

    def _rank(self, photo: "ReadPhoto", words: PhraseWords, word_maps: WordMaps) -> tuple[Tensor | None, Regions]:
        """The attention map of a phrase, and the best regions by it."""
        attention = phrase_map(word_maps.maps, words, clothing_weight=self.scoring.clothing_weight)
        exponent = self.scoring.area_exponents.for_phrase(words.kind, photo.proposals)
        (ranking,) = rank_regions(
            attention, photo.proposals, photo.size, area_exponents=[exponent], overlap=self.scoring.overlap
        )
        return attention, ranking.regions[: self.scoring.count]


@dataclass(frozen=True, eq=False)
class ReadPhoto:
    """A photo that has been read, at the size that the network takes, with the regions proposed in it."""

    size: tuple[int, int]  # (height, width) in pixels
    prepared: Tensor  # (3, h, w), as the network takes it
    proposals: Regions


@dataclass(frozen=True, eq=False)
class _Task:
    """A photo and the phrases to ground in it."""

    photo: ReadPhoto
    captions: tuple[str, ...]
    phrases: tuple[Phrase, ...]
    words: list[PhraseWords]  # one entry for each phrase


def _words_of(task: _Task) -> list[str]:
    return [word for phrase in task.words for word in phrase.attended]


def read_photo(image: Tensor, prepare: Callable[[Tensor], Tensor], propose: Proposer) -> ReadPhoto:
    """Prepare a photo (3, H, W) in [0, 1] for the network, and propose regions in it."""
    size = (image.shape[1], image.shape[2])
    return ReadPhoto(size, prepared=prepare(image), proposals=propose_regions(image, propose))


def read_texts(texts: Captions, *, are_phrases: bool) -> tuple[tuple[str, ...], tuple[Phrase, ...]]:
    """Read the captions of a photo and their noun phrases. Phrases given as such count as captions of their own.

    Raises:
        ValueError: there is no caption, or one is not text.
    """
    if not isinstance(texts, str | list | tuple):
        raise ValueError(f"captions are text or lists of texts, got {type(texts).__name__}")
    captions = (texts,) if isinstance(texts, str) else tuple(texts)
    if not captions:
        raise ValueError(f"no {'phrase' if are_phrases else 'caption'} for the image")
    if are_phrases:
        return captions, tuple(whole_phrase(text, index=index) for index, text in enumerate(captions))
    return captions, tuple(phrase for index, text in enumerate(captions) for phrase in noun_phrases(text, index=index))


def propose_regions(image: Tensor, propose: Proposer) -> Regions:
    """Propose regions in a photo (3, H, W); where the method finds none, the whole photo is the only region."""
    proposals = propose(image)
    height, width = image.shape[-2:]
    return proposals if len(proposals) else Regions(torch.tensor([[0.0, 0.0, width, height]]), torch.ones(1))
