"""Ask photos for the phrases of their own captions, and for phrases of another photo, which are not there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eval.cache import load_tensors, save_tensors
from eval.flickr30k import AnnotatedPhoto, instances, load_photo
from eval.predicting import parse_phrase
from eval.records import Instance
from grounding.digests import digest
from grounding.maps import match_words
from grounding.phrases import whole_phrase
from grounding.pipeline import Grounder
from grounding.presence import Presence
from grounding.probability import EVIDENCE_REGIONS, measure_evidence
from grounding.records import Phrase, Regions
from grounding.understanding import Understanding


@dataclass(frozen=True, eq=False)
class Question:
    """A phrase that a photo is asked for, with the answer."""

    photo: AnnotatedPhoto
    phrase: Instance  # with its boxes, which are those of another photo where the phrase is from there
    is_own: bool  # whether it is a phrase of this photo's captions
    regions: Regions  # best first, `EVIDENCE_REGIONS` at most
    mass: float  # sum of the attention map that they were scored on; 0 where there is none
    evidence: dict[str, float]  # see `grounding.probability.EVIDENCE`


def other_photo(index: int, count: int) -> int:
    """The index of the photo whose phrases the photo with this index is asked for, too: half of them further on.

    >>> [other_photo(index, 3) for index in range(3)]
    [1, 2, 0]
    """
    return (index + max(count // 2, 1)) % count


def absent_phrases(photo: AnnotatedPhoto, phrases: Sequence[Instance]) -> list[Instance]:
    """Those phrases of another photo that share no word with any caption of this one.

    Articles, prepositions and the like do not count as words. A phrase that remains may still be true of the photo: "a
    guy" of a man, or something that no caption mentions.
    """
    mentioned = {word.lemma for sentence in photo.sentences for word in parse_phrase(sentence.text)}
    return [phrase for phrase in phrases if mentioned.isdisjoint(word.lemma for word in parse_phrase(phrase.text))]


def ask_all(photos: Sequence[AnnotatedPhoto], grounder: Grounder, kept: Path) -> Iterator[list[Question]]:
    """Ask each photo for its own phrases and for those of another photo; answers are kept, one file for each photo.

    Args:
        photos: at least two.
        grounder: answers.
        kept: folder of the answers that are finished, for this grounder.

    Raises:
        ValueError: there are too few photos, or a photo or its proposals cannot be read.
        OSError: an answer cannot be kept.
    """
    if len(photos) < 2:
        raise ValueError("one photo alone has no other whose phrases it could be asked for")
    grounder = Grounder(grounder.attention, grounder.propose, replace(grounder.scoring, count=EVIDENCE_REGIONS))
    presence = Presence(grounder.attention.classifier, grounder.attention.device)
    own = [instances(photo) for photo in photos]
    for index, photo in enumerate(photos):
        asked = [*own[index], *absent_phrases(photo, own[other_photo(index, len(photos))])]
        texts = list(dict.fromkeys(phrase.text for phrase in asked))
        path = kept / f"{photo.name}-{digest(texts)}.safetensors"
        if texts and not path.exists():
            save_tensors(path, _answer(photo, texts, grounder, presence))
        tensors = load_tensors(path) or {}
        answers = {text: _unpack(tensors, place, text, photo, presence) for place, text in enumerate(texts)}
        yield [
            Question(photo, phrase, number < len(own[index]), *answers[phrase.text])
            for number, phrase in enumerate(asked)
        ]


def _answer(photo: AnnotatedPhoto, texts: Sequence[str], grounder: Grounder, presence: Presence) -> dict[str, Tensor]:
    """The regions and maps of phrases in a photo, and the probability of each output unit, as tensors of a file."""
    image = load_photo(photo)
    (grounding,) = grounder([image], phrases=[texts])
    tensors = {"units": presence(grounder.attention.prepare(image))}
    for place, phrase in enumerate(grounding.phrases):
        # Phrases of equal words share their tensors, which a file cannot.
        tensors[f"boxes_{place}"] = phrase.regions.boxes.clone()
        tensors[f"scores_{place}"] = phrase.regions.scores.clone()
        if phrase.attention is not None:
            tensors[f"attention_{place}"] = phrase.attention.clone()
        if phrase.reached is not None:
            tensors[f"reached_{place}"] = torch.tensor(phrase.reached, dtype=torch.float64)
    return tensors


def _unpack(
    tensors: dict[str, Tensor], place: int, text: str, photo: AnnotatedPhoto, presence: Presence
) -> tuple[Regions, float, dict[str, float]]:
    """The regions of a phrase, the mass of its map and its evidence, from the tensors that `_answer` made."""
    (words,) = match_words([_parsed(text)], [text], Understanding(presence.classifier.vocabulary), with_clothing=False)
    regions = Regions(tensors[f"boxes_{place}"], tensors[f"scores_{place}"])
    attention, reached = tensors.get(f"attention_{place}"), tensors.get(f"reached_{place}")
    odds = [presence.log_odds(tensors["units"], word) for word in words.known]
    evidence = measure_evidence(
        words, attention, regions, photo.size, odds, None if reached is None else float(reached)
    )
    return regions, 0.0 if attention is None else float(attention.double().sum()), evidence


@cache
def _parsed(text: str) -> Phrase:
    return whole_phrase(text)
