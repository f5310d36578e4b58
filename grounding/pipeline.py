"""The grounder: from photos and captions to ranked regions.

Each photo goes through the network once, and one attention map is computed for each different word.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

from torch import Tensor

from grounding.config import GrounderSettings, build_part, choose_model, compose_grounder
from grounding.devices import take_one_core
from grounding.images import ImageSource, load_image
from grounding.inputs import CaptionedPhoto, Captions, Proposer, ReadPhoto, read_photo, read_texts
from grounding.maps import PhraseWords, WordAttention, WordMaps, match_words, phrase_map, phrase_reached
from grounding.probability import Calibrated, Chances, find_calibrated
from grounding.processes import cores, in_threads
from grounding.records import GroundedPhrase, Grounding, Phrase, Regions
from grounding.scoring import AreaExponents, Scoring, rank_regions
from grounding.understanding import Understanding
from grounding.zero_shot import Detection, Labels, detect

Result = TypeVar("Result")

PHOTOS_AT_ONCE = 8  # photos that go through the network together on a GPU, and that are read at the same time
UNCALIBRATED = "with these settings there is no calibrated probability (docs/scores.md)"


class Grounder:
    """Finds where in a photo each noun phrase of a caption is.

    Args:
        attention: the classifier with its attention method.
        proposer: finds regions in a photo.
        scoring: settings by which maps become ranked regions.
        calibrated: the calibration of probabilities for these very parts; None where they have none.

    Raises:
        ValueError: phrases may be rejected, but there is no calibration; or unknown words cannot be understood as the
            settings say.
    """

    def __init__(
        self, attention: WordAttention, proposer: Proposer, scoring: Scoring, calibrated: Calibrated | None = None
    ) -> None:
        if calibrated is None and scoring.rejects(0.0, 0.0):
            raise ValueError(f"scoring.least_probability and least_presence must be 0: {UNCALIBRATED}")
        self.attention = attention
        self.propose = proposer
        self.scoring = scoring
        self.settings: dict[str, Any] | None = None  # plain values, if the grounder was built from settings
        self.calibrated = calibrated
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
        attention, proposer = WordAttention(classifier, method, device=settings.device), build_part(settings.proposals)
        grounder = Grounder(
            attention,
            proposer,
            Scoring(
                AreaExponents(**settings.area_exponents, by_kind=settings.area_exponent_by_kind),
                overlap=settings.overlap,
                count=settings.count,
                clothing_weight=settings.clothing_weight,
                understand=settings.understand,
                least_probability=settings.least_probability,
                least_presence=settings.least_presence,
            ),
            find_calibrated(attention, settings, getattr(proposer, "settings", settings.proposals)),
        )
        grounder.settings = asdict(settings)
        return grounder

    @overload
    def __call__(
        self,
        images: Sequence[ImageSource],
        captions: Sequence[Captions] | None = None,
        *,
        phrases: Sequence[Sequence[str]] | None = None,
    ) -> list[Grounding]: ...

    @overload
    def __call__(
        self,
        images: "ImageSource | Sequence[ImageSource]",
        *,
        candidate_labels: Labels | Sequence[Labels],
        threshold: float | None = None,
        top_k: int | None = None,
    ) -> list[Detection] | list[list[Detection]]: ...

    def __call__(
        self,
        images: Any,
        captions: Sequence[Captions] | None = None,
        *,
        phrases: Sequence[Sequence[str]] | None = None,
        candidate_labels: Labels | Sequence[Labels] | None = None,
        threshold: float | None = None,
        top_k: int | None = None,
    ) -> list[Grounding] | list[Detection] | list[list[Detection]]:
        """Ground captions in photos.

        Args:
            images: paths, PIL images, arrays (H, W, 3) uint8 or tensors (3, H, W) in [0, 1].
            captions: for each image one caption, or several.
            phrases: for each image the phrases themselves, instead of captions; no parser looks at them.
            candidate_labels: labels instead of captions, for the call of transformers' zero-shot object detection:
                `grounding.zero_shot.detect` tells of them, of ``threshold``, ``top_k`` and the result.

        Raises:
            ValueError: lists of different lengths, a caption without text, an image that cannot be read, or labels
                where there is no calibrated probability.
        """
        if sum(each is not None for each in (captions, phrases, candidate_labels)) != 1:
            raise ValueError("give captions, phrases or candidate_labels, one of the three")
        if candidate_labels is not None:
            if self.calibrated is None:
                raise ValueError(f"give phrases instead of candidate_labels: {UNCALIBRATED}")
            return detect(
                lambda photos, labels: self(photos, phrases=labels),
                images,
                candidate_labels,
                threshold=0.1 if threshold is None else threshold,
                top_k=top_k,
            )
        if threshold is not None or top_k is not None:
            raise ValueError("threshold and top_k are for candidate_labels; see scoring.least_probability and count")
        if isinstance(images, str | Path) or isinstance(captions, str) or isinstance(phrases, str):
            raise ValueError("images, captions and phrases are lists, one entry for each image")
        count = len(captions if captions is not None else phrases or [])
        if len(images) != count:
            raise ValueError(f"{len(images)} images, but captions or phrases for {count}")
        groundings = []
        for image, result in zip(images, self.ground_each(images, captions, phrases=phrases), strict=True):
            if isinstance(result, Exception):
                raise result
            groundings.append(replace(result, source=image, made_by=self.settings))
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
        regions proposed in them, by several threads ahead of the network. A single photo has all cores; its last digits
        may differ from those that it has among others, see `ground_read`.
        """
        texts = captions if captions is not None else phrases
        assert texts is not None
        asked = (
            (image, _attempt(partial(read_texts, of_photo, are_phrases=phrases is not None)))
            for image, of_photo in zip(images, texts, strict=True)
        )
        if len(images) == 1:
            yield from self._ground_together([self._read(*next(asked))])
            return
        reading = in_threads(
            lambda one: self._read(*one), asked, threads=min(cores(), PHOTOS_AT_ONCE), start=take_one_core
        )
        yield from self.ground_read(reading)

    def _read(
        self, source: ImageSource, texts: tuple[tuple[str, ...], tuple[Phrase, ...]] | Exception
    ) -> CaptionedPhoto | Exception:
        """Read a photo and propose regions in it; its pixels at full size are freed when this returns."""
        if isinstance(texts, Exception):
            return texts
        photo = _attempt(lambda: read_photo(load_image(source), self.attention.prepare, self.propose))
        return photo if isinstance(photo, Exception) else CaptionedPhoto(photo, *texts)

    def ground_read(self, photos: Iterable[CaptionedPhoto | Exception]) -> Iterator[Grounding | Exception]:
        """Ground phrases in photos that are read, one result after the other, in the order of the photos.

        On a CPU each photo has one core, so that its result depends neither on other photos nor on the number of cores.
        On a GPU photos of equal size go through the network together.

        Args:
            photos: the photos, taken as they are needed; an error in place of a photo is its result.
        """
        on_cpu = self.attention.device.type == "cpu"
        waiting = iter(photos)
        groups = iter(lambda: list(islice(waiting, 1 if on_cpu else PHOTOS_AT_ONCE)), [])
        threads = cores() if on_cpu else 1
        for results in in_threads(self._ground_together, groups, threads=threads, start=take_one_core):
            yield from results

    def ground_photo(self, photo: CaptionedPhoto) -> Grounding:
        """Ground phrases in a single photo that is read; it has all cores.

        Raises:
            ValueError: attention is not a number.
        """
        (result,) = self._ground_together([photo])
        if isinstance(result, Exception):
            raise result
        return result

    def _ground_together(self, photos: Sequence[CaptionedPhoto | Exception]) -> list[Grounding | Exception]:
        """Ground the captions of some photos; where one fails, each is tried alone."""
        try:
            readable = [photo for photo in photos if isinstance(photo, CaptionedPhoto)]
            words = [self._match(photo) for photo in readable]
            asked = [[word for phrase in one for word in phrase.attended] for one in words]
            maps = self.attention([photo.photo.prepared for photo in readable], asked)
            grounded = iter([self._ground(*one) for one in zip(readable, words, maps, strict=True)])
            return [photo if isinstance(photo, Exception) else next(grounded) for photo in photos]
        except Exception as error:  # of any type: the network may be anybody's
            if len(photos) == 1:
                return [error]
            return [result for photo in photos for result in self._ground_together([photo])]

    def _match(self, photo: CaptionedPhoto) -> list[PhraseWords]:
        with_clothing = self.scoring.clothing_weight > 0
        return match_words(photo.phrases, photo.captions, self.understanding, with_clothing=with_clothing)

    def _ground(self, captioned: CaptionedPhoto, words_of: Sequence[PhraseWords], word_maps: WordMaps) -> Grounding:
        ranked: dict[PhraseWords, _Ranked] = {}  # phrases of equal words are scored once
        prepared = captioned.photo.prepared
        units = None if self.calibrated is None else self.calibrated.presence(prepared, word_maps.last_map)
        grounded = []
        for phrase, words in zip(captioned.phrases, words_of, strict=True):
            if words not in ranked:
                ranked[words] = self._rank(captioned.photo, words, word_maps, units)
            found = ranked[words]
            grounded.append(
                GroundedPhrase(
                    text=phrase.text,
                    span=phrase.span,
                    caption=phrase.caption,
                    words=words.known,
                    skipped_words=words.skipped,
                    understood=dict(words.understood),
                    regions=found.regions,
                    attention=found.attention,
                    reached=found.reached,
                    probability=found.chances.right,
                    presence=found.chances.present,
                    is_rejected=self.scoring.rejects(found.chances.right, found.chances.present),
                )
            )
        return Grounding(captioned.captions, captioned.photo.size, tuple(grounded))

    def _rank(self, photo: ReadPhoto, words: PhraseWords, word_maps: WordMaps, units: Tensor | None) -> "_Ranked":
        """The attention map of a phrase, and the regions ranked by it."""
        attention = phrase_map(word_maps.maps, words, clothing_weight=self.scoring.clothing_weight)
        exponent = self.scoring.area_exponents.for_phrase(words.kind, photo.proposals)
        (ranking,) = rank_regions(
            attention, photo.proposals, photo.size, area_exponents=[exponent], overlap=self.scoring.overlap
        )
        reached = phrase_reached(word_maps.reached, words)
        chances = Chances()
        if self.calibrated is not None and units is not None:
            chances = self.calibrated.chances(words, attention, ranking.regions, photo.size, units, reached)
        kept = ranking.indices[: self.scoring.count]
        regions = replace(photo.proposals[kept], scores=ranking.regions.scores[: self.scoring.count])
        return _Ranked(attention, regions, reached, chances)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """What is found for the words of a phrase."""

    attention: Tensor | None
    regions: Regions  # best first
    reached: float | None
    chances: Chances


def _attempt(make: Callable[[], Result]) -> Result | Exception:
    """What a function makes, or the error that prevented it, of any type: libraries that decode photos raise many."""
    try:
        return make()
    except Exception as error:
        return error
