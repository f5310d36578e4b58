"""Predict where the phrases of photos are, for every γ at once, and keep what is finished on disk."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eval.cache import load_tensors, save_tensors
from eval.flickr30k import AnnotatedPhoto, load_photo
from eval.records import Instance, Prediction, Predictions, group_entities
from eval.result import Timing
from grounding.digests import digest
from grounding.inputs import propose_regions
from grounding.maps import PhraseWords, WordAttention, WordMaps, match_words, phrase_map, phrase_reached
from grounding.peaks import peak
from grounding.phrases import whole_phrase
from grounding.pipeline import Grounder
from grounding.records import Phrase, Regions, Word
from grounding.scoring import rank_regions
from grounding.vocabulary import Vocabulary

Size = tuple[int, int]  # (height, width) in pixels


@dataclass
class Clock:
    """Time that each part took, over the photos whose predictions were not on disk."""

    photos: int = 0  # whose predictions were not on disk
    attended: int = 0  # those of them whose maps were not, either
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("attention", "proposals", "scoring"), 0.0))

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time that a block takes to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def timing(self) -> Timing:
        """The times so far."""
        return Timing(photos=self.photos, attended=self.attended, **self.seconds)


class Predictor:
    """Predicts with a grounder where the instances of a photo are.

    Regions are scored by S_R / A_R^γ and near duplicates are suppressed, as ``python -m grounding`` does (paper,
    section 6.3.1); what the kind of a phrase adds to γ is added to each γ. The point is the greatest attention at the
    photo's size, or the photo's centre where there is no attention.

    Args:
        grounder: the classifier with its attention, the proposals and the scoring; its own γ are not used.
        area_exponents: the γ to score with.
        maps: folder of finished word maps, for this classifier and attention.
        predictions: folder of finished predictions, for these, the proposals, the scoring and the γ.
    """

    def __init__(self, grounder: Grounder, area_exponents: Sequence[float], *, maps: Path, predictions: Path) -> None:
        self.grounder = grounder
        self.area_exponents = tuple(area_exponents)
        self.clock = Clock()
        self._maps = maps
        self._predictions = predictions

    def __call__(self, photo: AnnotatedPhoto, instances: Sequence[Instance]) -> Predictions:
        """Predict where the instances of a photo are; a finished photo is only read from disk.

        Raises:
            ValueError: the photo cannot be read, or there are no proposals for it.
            OSError: the predictions cannot be saved.
        """
        image = load_photo(photo)
        words = instance_words(photo, instances, self.grounder)
        members = [entity.members for entity in group_entities(instances)]
        asked = digest(image, [(phrase.known, phrase.clothing, phrase.kind) for phrase in words], members)
        path = self._predictions / f"{photo.name}-{asked}.safetensors"
        distinct = tuple(dict.fromkeys(words))  # phrases with the same words have the same predictions
        tensors = load_tensors(path)
        if tensors is None:
            self.clock.photos += 1
            maps = self._word_maps(image, words, f"{photo.name}-{digest(image)}.safetensors")
            with self.clock.measure("proposals"):
                proposals = propose_regions(image, self.grounder.propose)
            with self.clock.measure("scoring"):
                tensors = {"boxes": proposals.boxes, "entity_points": self._entity_points(words, members, maps, photo)}
                for index, phrase_words in enumerate(distinct):
                    ranked = self._rank(phrase_words, maps, proposals, photo.size)
                    tensors |= {f"{name}_{index}": tensor for name, tensor in ranked.items()}
            save_tensors(path, tensors)
        by_words = {
            phrase_words: _unpack(tensors, index, is_known=bool(phrase_words.known))
            for index, phrase_words in enumerate(distinct)
        }
        nothing = Regions(torch.zeros(0, 4), torch.zeros(0))
        return Predictions(
            by_gamma={
                gamma: [by_words[phrase_words][index] for phrase_words in words]
                for index, gamma in enumerate(self.area_exponents)
            },
            entities=[Prediction(nothing, point=(x, y)) for x, y in tensors["entity_points"].tolist()],
        )

    def _word_maps(self, image: Tensor, words: Sequence[PhraseWords], name: str) -> WordMaps:
        """The maps of all words of a photo; only those that are not on disk are computed."""
        path = self._maps / name
        found = _unpack_maps(load_tensors(path) or {})
        wanted = dict.fromkeys(word for phrase_words in words for word in phrase_words.attended)
        if missing := [word for word in wanted if word not in found.maps]:
            self.clock.attended += 1
            with self.clock.measure("attention"):
                attention = self.grounder.attention
                (new,) = attention([attention.prepare(image)], [missing])
            found = WordMaps(found.maps | new.maps, found.reached | new.reached)
            save_tensors(path, _pack_maps(found))
        return found

    def _entity_points(
        self, words: Sequence[PhraseWords], members: Sequence[Sequence[int]], maps: WordMaps, photo: AnnotatedPhoto
    ) -> Tensor:
        """The point (x, y) of the greatest attention in the mean of each entity's phrase maps, (E, 2)."""
        points = []
        for indices in members:
            phrase_maps = [self._phrase_map(words[index], maps) for index in indices]
            known = [attention for attention in phrase_maps if attention is not None]
            points.append(_point(torch.stack(known).mean(0) if known else None, photo.size))
        return torch.tensor(points, dtype=torch.float64).reshape(-1, 2)

    def _rank(self, words: PhraseWords, maps: WordMaps, proposals: Regions, size: Size) -> dict[str, Tensor]:
        """The proposals that each γ keeps, best first, with scores, one γ after the other; and what else is kept."""
        attention = self._phrase_map(words, maps)
        scoring = self.grounder.scoring
        exponents = [scoring.area_exponents.shifted(gamma, words.kind) for gamma in self.area_exponents]
        rankings = rank_regions(attention, proposals, size, area_exponents=exponents, overlap=scoring.overlap)
        reached = phrase_reached(maps.reached, words)
        return {
            "order": torch.cat([ranking.indices for ranking in rankings]).int(),
            "counts": torch.tensor([len(ranking.indices) for ranking in rankings]),
            "scores": torch.cat([ranking.regions.scores for ranking in rankings]),
            "mass": torch.tensor(rankings[0].mass, dtype=torch.float64),
            "point": torch.tensor(_point(attention, size), dtype=torch.float64),
            "reached": torch.tensor([] if reached is None else [reached], dtype=torch.float64),
        }

    def _phrase_map(self, words: PhraseWords, maps: WordMaps) -> Tensor | None:
        return phrase_map(maps.maps, words, clothing_weight=self.grounder.scoring.clothing_weight)


def instance_words(photo: AnnotatedPhoto, instances: Sequence[Instance], grounder: Grounder) -> list[PhraseWords]:
    """The words of each instance that the model knows, and those of its clothing where that counts."""
    captions = [sentence.text for sentence in photo.sentences]
    marked = [
        Phrase(phrase.text, phrase.span, sentence, parse_phrase(phrase.text))
        for sentence, caption in enumerate(photo.sentences)
        for phrase in caption.phrases
    ]
    found = match_words(marked, captions, grounder.understanding, with_clothing=grounder.scoring.clothing_weight > 0)
    by_place = {(phrase.caption, phrase.span): words for phrase, words in zip(marked, found, strict=True)}
    words = [by_place[instance.sentence, instance.span] for instance in instances]
    return [replace(each, skipped=(), understood=()) for each in words]  # which do not matter


def attend_phrases(attention: WordAttention, image: Tensor, texts: Sequence[str]) -> list[Tensor | None]:
    """The attention map (h, w) of each phrase in a photo (3, H, W), without scoring; None where no word is known."""
    words = [known_words(text, attention.vocabulary) for text in texts]
    (found,) = attention([attention.prepare(image)], [[word for phrase in words for word in phrase]])
    return [phrase_map(found.maps, PhraseWords(phrase)) for phrase in words]


def known_words(text: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The words of a phrase that a model knows."""
    return vocabulary.match(parse_phrase(text))[0]


@cache
def parse_phrase(text: str) -> tuple[Word, ...]:
    """The words of a phrase, parsed alone and once."""
    return whole_phrase(text).words


def _point(attention: Tensor | None, size: Size) -> tuple[float, float]:
    """The centre (x, y) of the pixel with the greatest attention; the photo's centre where there is no attention."""
    if attention is None or not attention.any():
        return size[1] / 2, size[0] / 2
    y, x = peak(attention, size)
    return x + 0.5, y + 0.5


def _pack_maps(found: WordMaps) -> dict[str, Tensor]:
    """Word maps as the tensors of a file."""
    tensors = {f"map {word}": attention for word, attention in found.maps.items()}
    return tensors | {
        f"reached {word}": torch.tensor(share, dtype=torch.float64) for word, share in found.reached.items()
    }


def _unpack_maps(tensors: dict[str, Tensor]) -> WordMaps:
    """The word maps that `_pack_maps` packed."""
    found = WordMaps()
    for name, tensor in tensors.items():
        kind, _, word = name.partition(" ")
        if kind == "map":
            found.maps[word] = tensor
        else:
            found.reached[word] = float(tensor)
    return found


def _unpack(tensors: dict[str, Tensor], index: int, *, is_known: bool) -> list[Prediction]:
    """The predictions for one phrase, a γ each, from the tensors of its photo."""
    order, counts, scores, mass, point, reached = (
        tensors[f"{name}_{index}"] for name in ("order", "counts", "scores", "mass", "point", "reached")
    )
    x, y = point.tolist()
    sizes = counts.tolist()
    rankings = zip(torch.split(order.long(), sizes), torch.split(scores, sizes), strict=True)
    return [
        Prediction(
            Regions(tensors["boxes"][kept], ranked),
            mass=float(mass),
            point=(x, y),
            is_known=is_known,
            reached=float(reached) if len(reached) else None,
        )
        for kept, ranked in rankings
    ]
