"""Measures of the words of a classifier: average precision over photos, coverage of phrases, and pointing.

A word is true of a photo if one of the photo's captions contains it. Captions leave much unsaid,
so the figures compare models; none of them reaches 1.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from grounding.records import Word
from grounding.vocabulary import Vocabulary


def said_words(captions: Iterable[Sequence[Word]], vocabulary: Vocabulary) -> frozenset[str]:
    """The words of a vocabulary that captions contain, as lemmas; a compound is several lemmas side by side.

    A word that the vocabulary knows only as a noun has to be a noun in the caption. Other than in `Vocabulary.match`,
    the parts of a compound count, too: "tennis ball" contains "ball".
    """
    said: set[str] = set()
    for caption in captions:
        for first in range(len(caption)):
            for last in range(first, len(caption)):
                text = " ".join(word.lemma for word in caption[first : last + 1])
                if text in vocabulary and (caption[last].is_noun or text not in vocabulary.nouns):
                    said.add(text)
    return frozenset(said)


def word_probabilities(
    responses: Tensor, vocabulary: Vocabulary, words: Sequence[str], *, are_exclusive: bool
) -> Tensor:
    """The probability of each word in each photo; 0 in all photos for words that the vocabulary lacks.

    Shapes:
        responses: (N, units), of the network, before softmax or sigmoid.
        are_exclusive: whether a photo has one unit only (softmax; a word's probability is the sum over its units), or
            any number of them (sigmoid; the greatest of them).
        returns: (N, W) in [0, 1], float64.
    """
    responses = responses.double()  # in single precision, all probabilities near 1 would be equal
    probabilities = responses.softmax(1) if are_exclusive else responses.sigmoid()
    found = probabilities.new_zeros(len(probabilities), len(words))
    for index, word in enumerate(words):
        if word in vocabulary:
            units = probabilities[:, list(vocabulary.units[word])]
            found[:, index] = units.sum(1) if are_exclusive else units.amax(1)
    return found


def coverage(phrases: Sequence[Sequence[Word]], vocabulary: Vocabulary) -> float:
    """The share of phrases with a word that the vocabulary knows.

    Raises:
        ValueError: there is no phrase.
    """
    if not phrases:
        raise ValueError("no phrase to cover")
    return sum(bool(vocabulary.match(words)[0]) for words in phrases) / len(phrases)


def is_hit(point: tuple[float, float], region: Tensor, *, tolerance: float = 0) -> bool:
    """Whether a point (y, x) lies in a region: in a mask (H, W) of bool, or in one of boxes (N, 4).

    A box contains its first pixels and not its ends. No region contains a point that is NaN.

    Args:
        point: in pixels; whole numbers are pixels themselves.
        region: the mask or the boxes.
        tolerance: the region is expanded by the pixels that are less than this many pixels away from one of its own, as
            in torchray's pointing game (the paper's has 15); 0: as it is.

    >>> is_hit((0, 4), torch.tensor([[2.0, 0, 5, 1]])), is_hit((0, 5), torch.tensor([[2.0, 0, 5, 1]]))
    (True, False)
    >>> is_hit((0, 5), torch.tensor([[2.0, 0, 5, 1]]), tolerance=1.5)
    True
    """
    y, x = point
    if region.dtype == torch.bool:
        height, width = region.shape
        if 0 <= y < height and 0 <= x < width and bool(region[int(y), int(x)]):
            return True
        rows, columns = region.nonzero().double().unbind(1) if tolerance else torch.zeros(2, 0).double()
        return bool(((rows - y) ** 2 + (columns - x) ** 2 < tolerance**2).any())
    x1, y1, x2, y2 = region.double().unbind(1)
    if bool(((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)).any()):
        return True
    right, down = (
        torch.maximum(first - at, at - (end - 1)).clamp(min=0) for first, at, end in ((x1, x, x2), (y1, y, y2))
    )
    return bool((right**2 + down**2 < tolerance**2).any())
