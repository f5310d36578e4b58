"""Apply several attention methods to the same phrases in a photo."""

import json
from collections.abc import Sequence

from torch import Tensor

from grounding.comparison.methods import Method
from grounding.comparison.records import Cell, Comparison
from grounding.config import build_part
from grounding.maps import PhraseWords, WordAttention, WordMaps, phrase_map, phrase_reached
from grounding.models import Classifier
from grounding.peaks import dominant_box, peak
from grounding.phrases import whole_phrase
from grounding.records import Phrase
from grounding.scoring import enlarge


class Comparer:
    """Compares methods in photos. Those that refuse their network are left out, with their errors in ``refused``.

    Args:
        methods: the columns of the comparison, at least one.
        phrases: its rows, at least one.
        device: where the networks run; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: a phrase is empty, or no method is left.
    """

    def __init__(self, methods: Sequence[Method], phrases: Sequence[str], *, device: str = "auto") -> None:
        self.phrases = [whole_phrase(text, names_a_thing=True) for text in phrases]
        built = list(zip(methods, build_attentions(methods, device=device), strict=True))
        self._columns = [(method, made) for method, made in built if isinstance(made, WordAttention)]
        self.refused = [made for _, made in built if isinstance(made, ValueError)]
        if not self._columns:
            raise self.refused[0]

    def __call__(self, photo: Tensor) -> Comparison:
        """Compare the methods in a photo (3, H, W) in [0, 1]."""
        columns = [attend(attention, photo, self.phrases, alpha=method.alpha) for method, attention in self._columns]
        return Comparison(
            size=(photo.shape[1], photo.shape[2]),
            phrases=tuple(phrase.text for phrase in self.phrases),
            methods=tuple(method for method, _ in self._columns),
            cells=tuple(zip(*columns, strict=True)),
        )


def build_attentions(methods: Sequence[Method], *, device: str = "auto") -> list[WordAttention | ValueError]:
    """Build the classifier and the attention of each method; methods with the same model share one classifier.

    Where a part cannot be built from its settings, or a method refuses its network, the error is in the place of the
    result: CAM, for instance, needs a global average pooling.
    """
    classifiers: dict[str, Classifier] = {}
    attentions: list[WordAttention | ValueError] = []
    for method in methods:
        key = json.dumps(method.model, sort_keys=True)
        try:
            if key not in classifiers:
                classifiers[key] = build_part(method.model)
            attentions.append(WordAttention(classifiers[key], build_part(method.attention), device=device))
        except ValueError as error:
            attentions.append(ValueError(f"{method.name}: {error}"))
    return attentions


def attend(attention: WordAttention, photo: Tensor, phrases: Sequence[Phrase], *, alpha: float | None) -> list[Cell]:
    """Find each phrase in a photo (3, H, W) in [0, 1] by one method; alpha is as in `Method`."""
    matches = [PhraseWords(*attention.vocabulary.match(phrase.words)) for phrase in phrases]
    known = [word for words in matches for word in words.known]
    (word_maps,) = attention([attention.prepare(photo)], [known])
    return [_cell(word_maps, words, (photo.shape[1], photo.shape[2]), alpha) for words in matches]


def _cell(word_maps: WordMaps, words: PhraseWords, size: tuple[int, int], alpha: float | None) -> Cell:
    attention = phrase_map(word_maps.maps, words)
    point, box = None, None
    if attention is not None and attention.any():
        y, x = peak(attention, size)
        point = (x, y)
        if alpha is not None:
            edges = dominant_box(enlarge(attention, size), alpha).tolist()
            box = tuple(edges) if any(edges) else None
    return Cell(words.known, words.skipped, attention, phrase_reached(word_maps.reached, words), point, box)
