"""Where a grounder says that the phrases of a photo are, for every γ at once, and kept once it is known."""

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
from grounding.phrases import wears, whole_phrase
from grounding.pipeline import Grounder, propose_in
from grounding.records import Regions, Word
from grounding.scoring import region_sums, score, scoring_map, unsuppressed
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
    words = _said(photo, instances, grounder)
    of_entities = [entity.members for entity in entities(instances)]
    name = f"{photo.name}-{digest(image)}.safetensors"
    asked = digest(image, [(said.words, said.worn) for said in words], of_entities)
    path = keeping.predictions / f"{photo.name}-{asked}.safetensors"
    distinct = list(dict.fromkeys(words))  # phrases with the same words are one
    tensors = load_kept(path)
    if tensors is None:
        clock.photos += 1
        maps = _word_maps(image, words, grounder, keeping.maps / name, clock)
        start = time.perf_counter()
        proposals = propose_in(image, grounder.propose)
        clock.add("proposals", start)
        start = time.perf_counter()
        points = _entity_points(instances, words, maps, grounder, photo.size)
        tensors = {"boxes": proposals.boxes.float(), "entity_points": points}
        for index, said in enumerate(distinct):
            attention = grounder.phrase_map(maps, said.words, said.worn)
            ranked = _ranked(attention, proposals, photo.size, gammas, grounder.overlap)
            tensors |= {f"{what}_{index}": tensor for what, tensor in ranked.items()}
        clock.add("scoring", start)
        keep(path, tensors)
    of_words = {said: _predictions(tensors, index) for index, said in enumerate(distinct)}
    nothing = Regions(torch.zeros(0, 4), torch.zeros(0))
    return PhotoPredictions(
        {gamma: [of_words[said][index] for said in words] for index, gamma in enumerate(gammas)},
        [Prediction(nothing, point=(x, y)) for x, y in tensors["entity_points"].tolist()],
        [bool(said.words) for said in words],
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a phrase says that a model knows."""

    words: tuple[str, ...]
    worn: tuple[str, ...]  # of the next phrase, where it is what this one is in or wears, and that counts


def _said(photo: AnnotatedPhoto, instances: Sequence[Instance], grounder: Grounder) -> list[Said]:
    vocabulary, found = grounder.classifier.vocabulary, []
    for instance in instances:
        sentence, worn = photo.sentences[instance.sentence], ""
        for following in sentence.phrases[instance.phrase + 1 : instance.phrase + 2]:
            if grounder.worn and wears(sentence.text[instance.span[1] : following.span[0]]):
                worn = following.text
        found.append(Said(known_words(instance.text, vocabulary), known_words(worn, vocabulary) if worn else ()))
    return found


def known_words(text: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The words of a phrase that a model knows."""
    return vocabulary.match(_parsed(text))[0]


@cache
def _parsed(text: str) -> tuple[Word, ...]:
    return whole_phrase(text).words


def _word_maps(image: Tensor, words: Sequence[Said], grounder: Grounder, path: Path, clock: Clock) -> dict[str, Tensor]:
    maps = load_kept(path) or {}
    wanted = dict.fromkeys(word for said in words for word in (*said.words, *said.worn))
    if missing := [word for word in wanted if word not in maps]:
        clock.attended += 1
        start = time.perf_counter()
        maps |= grounder.word_maps([image], [missing])[0]
        clock.add("attention", start)
        keep(path, maps)
    return maps


def _entity_points(
    instances: Sequence[Instance],
    words: Sequence[Said],
    maps: dict[str, Tensor],
    grounder: Grounder,
    size: tuple[int, int],
) -> Tensor:
    """For each entity the greatest point (x, y) of the mean of its phrases' maps, (E, 2)."""
    points = []
    for entity in entities(instances):
        of_phrases = [grounder.phrase_map(maps, words[member].words, words[member].worn) for member in entity.members]
        known = [attention for attention in of_phrases if attention is not None]
        points.append(_point(torch.stack(known).mean(0) if known else None, size))
    return torch.tensor(points, dtype=torch.float64).reshape(-1, 2)


def _ranked(
    attention: Tensor | None, proposals: Regions, size: tuple[int, int], gammas: Sequence[float], overlap: float
) -> dict[str, Tensor]:
    """The proposals that each γ keeps, best first, with scores, one γ after the other; the map's mass and point."""
    if attention is None or not attention.any():
        mass, scores = 0.0, [proposals.scores] * len(gammas)
    else:
        enlarged = scoring_map(attention, proposals, size)
        sums = region_sums(enlarged, proposals, size)
        mass, scores = float(enlarged.sum()), [score(*sums, area_exponent=gamma) for gamma in gammas]
    orders = [unsuppressed(Regions(proposals.boxes, found), overlap=overlap) for found in scores]
    return {
        "order": torch.cat(orders).int(),
        "counts": torch.tensor([len(order) for order in orders]),
        "scores": torch.cat([found[order].double() for found, order in zip(scores, orders, strict=True)]),
        "mass": torch.tensor(mass, dtype=torch.float64),
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
