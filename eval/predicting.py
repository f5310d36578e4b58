"""Where a grounder finds the phrases of a photo, for every γ at once, kept on disk once it is known."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eval.flickr30k import AnnotatedPhoto, load_photo
from eval.kept import digest, keep, load_kept
from eval.pointing import entities
from eval.records import Instance, Prediction
from eval.words import peak
from grounding.maps import PhraseWords, match_words, phrase_map
from grounding.phrases import whole_phrase
from grounding.pipeline import Grounder, propose_regions
from grounding.records import Phrase, Regions, Word
from grounding.scoring import rank_regions
from grounding.vocabulary import Vocabulary


@dataclass(frozen=True)
class Keeping:
    """Where finished photos are kept."""

    maps: Path  # folder for the model and attention at hand
    predictions: Path  # folder for those with the proposals and scoring at hand


@dataclass
class Clock:
    """How long what took, over the photos that were not kept."""

    photos: int = 0  # whose predictions were not kept
    attended: int = 0  # those of them whose maps were not, either
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("attention", "proposals", "scoring"), 0.0))

    def add(self, what: str, since: float) -> None:
        self.seconds[what] += time.perf_counter() - since

    def to_dict(self) -> dict[str, float]:
        """Plain values: the photos, the seconds of each part and of all parts."""
        return {"photos": self.photos, "attended": self.attended, **self.seconds, "total": sum(self.seconds.values())}


@dataclass(frozen=True, eq=False)
class PhotoPredictions:
    """All predictions of a photo."""

    by_gamma: dict[float, list[Prediction]]  # in the order of the instances
    of_entities: list[Prediction]  # in the order of `eval.pointing.entities`; points alone
    known: list[bool]  # whether an instance has a known word


def predict(
    photo: AnnotatedPhoto,
    instances: Sequence[Instance],
    grounder: Grounder,
    gammas: Sequence[float],
    keeping: Keeping,
    clock: Clock,
) -> PhotoPredictions:
    """Where the instances of a photo are.

    Regions are scored by S_R / A_R^γ and thinned out as ``python -m grounding`` does (paper, section 6.3.1); the point
    is the greatest attention at the photo's size, or the photo's centre where there is no attention.

    Raises:
        ValueError: the photo cannot be read, or there are no proposals of it.
        OSError: what is found cannot be kept.
    """
    image = load_photo(photo)
    words = instance_words(photo, instances, grounder)
    members = [entity.members for entity in entities(instances)]
    name = f"{photo.name}-{digest(image)}.safetensors"
    asked = digest(image, [(phrase.known, phrase.clothing) for phrase in words], members)
    path = keeping.predictions / f"{photo.name}-{asked}.safetensors"
    distinct = list(dict.fromkeys(words))  # phrases with the same words have the same predictions
    tensors = load_kept(path)
    if tensors is None:
        clock.photos += 1
        maps = _word_maps(image, words, grounder, keeping.maps / name, clock)
        start = time.perf_counter()
        proposals = propose_regions(image, grounder.propose)
        clock.add("proposals", start)
        start = time.perf_counter()
        points = _entity_points(instances, words, maps, grounder, photo.size)
        tensors = {"boxes": proposals.boxes.float(), "entity_points": points}
        for index, phrase_words in enumerate(distinct):
            attention = phrase_map(maps, phrase_words, clothing_weight=grounder.scoring.clothing_weight)
            ranked = _ranked(attention, proposals, photo.size, gammas, grounder.scoring.overlap)
            tensors |= {f"{what}_{index}": tensor for what, tensor in ranked.items()}
        clock.add("scoring", start)
        keep(path, tensors)
    by_words = {phrase_words: _predictions(tensors, index) for index, phrase_words in enumerate(distinct)}
    nothing = Regions(torch.zeros(0, 4), torch.zeros(0))
    return PhotoPredictions(
        {gamma: [by_words[phrase_words][index] for phrase_words in words] for index, gamma in enumerate(gammas)},
        [Prediction(nothing, point=(x, y)) for x, y in tensors["entity_points"].tolist()],
        [bool(phrase_words.known) for phrase_words in words],
    )


def instance_words(photo: AnnotatedPhoto, instances: Sequence[Instance], grounder: Grounder) -> list[PhraseWords]:
    """The words of each instance that the model knows, and those of what it is in or wears where that counts."""
    captions = [sentence.text for sentence in photo.sentences]
    marked = [
        Phrase(phrase.text, phrase.span, sentence, parse_phrase(phrase.text))
        for sentence, caption in enumerate(photo.sentences)
        for phrase in caption.phrases
    ]
    found = match_words(
        marked, captions, grounder.attention.vocabulary, with_clothing=grounder.scoring.clothing_weight > 0
    )
    by_place = {(phrase.caption, phrase.span): words for phrase, words in zip(marked, found, strict=True)}
    words = [by_place[instance.sentence, instance.span] for instance in instances]
    return [PhraseWords(each.known, clothing=each.clothing) for each in words]  # what is skipped changes nothing


def known_words(text: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The words of a phrase that a model knows."""
    return vocabulary.match(parse_phrase(text))[0]


@cache
def parse_phrase(text: str) -> tuple[Word, ...]:
    """The words of a phrase, parsed alone and once."""
    return whole_phrase(text).words


def _word_maps(
    image: Tensor, words: Sequence[PhraseWords], grounder: Grounder, path: Path, clock: Clock
) -> dict[str, Tensor]:
    maps = load_kept(path) or {}
    wanted = dict.fromkeys(word for phrase_words in words for word in phrase_words.attended)
    if missing := [word for word in wanted if word not in maps]:
        clock.attended += 1
        start = time.perf_counter()
        maps |= grounder.attention([grounder.attention.prepare(image)], [missing])[0].maps
        clock.add("attention", start)
        keep(path, maps)
    return maps


def _entity_points(
    instances: Sequence[Instance],
    words: Sequence[PhraseWords],
    maps: dict[str, Tensor],
    grounder: Grounder,
    size: tuple[int, int],
) -> Tensor:
    """For each entity the greatest point (x, y) of the mean of its phrases' maps, (E, 2)."""
    points = []
    for entity in entities(instances):
        weight = grounder.scoring.clothing_weight
        phrase_maps = [phrase_map(maps, words[member], clothing_weight=weight) for member in entity.members]
        known = [attention for attention in phrase_maps if attention is not None]
        points.append(_point(torch.stack(known).mean(0) if known else None, size))
    return torch.tensor(points, dtype=torch.float64).reshape(-1, 2)


def _ranked(
    attention: Tensor | None, proposals: Regions, size: tuple[int, int], gammas: Sequence[float], overlap: float
) -> dict[str, Tensor]:
    """The proposals that each γ keeps, best first, with scores, one γ after the other; the map's mass and point."""
    rankings = rank_regions(attention, proposals, size, area_exponents=gammas, overlap=overlap)
    return {
        "order": torch.cat([ranking.indices for ranking in rankings]).int(),
        "counts": torch.tensor([len(ranking.indices) for ranking in rankings]),
        "scores": torch.cat([ranking.regions.scores for ranking in rankings]),
        "mass": torch.tensor(rankings[0].mass, dtype=torch.float64),
        "point": torch.tensor(_point(attention, size), dtype=torch.float64),
    }


def _point(attention: Tensor | None, size: tuple[int, int]) -> tuple[float, float]:
    """The middle (x, y) of the pixel of the greatest attention, or of the photo where there is none."""
    if attention is None or not attention.any():
        return size[1] / 2, size[0] / 2
    y, x = peak(attention, size)
    return x + 0.5, y + 0.5


def _predictions(tensors: dict[str, Tensor], index: int) -> list[Prediction]:
    """What was kept of one phrase, for each γ."""
    order, counts, scores, mass, point = (
        tensors[f"{name}_{index}"] for name in ("order", "counts", "scores", "mass", "point")
    )
    x, y = point.tolist()
    sizes = counts.tolist()
    parts = zip(torch.split(order.long(), sizes), torch.split(scores, sizes), strict=True)
    return [Prediction(Regions(tensors["boxes"][kept], found), float(mass), (x, y)) for kept, found in parts]
