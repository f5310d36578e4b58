import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.words import (
    coverage,
    is_hit,
    said_words,
    word_probabilities,
)
from grounding.peaks import peak
from grounding.records import Word
from grounding.vocabulary import Vocabulary

VOCABULARY = Vocabulary({"dog": (0, 1), "hot dog": (2,), "red": (3,)}, 4)


def words(text):
    return tuple(Word(lemma, True) for lemma in text.split())


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ([], set()),
        (["a dog", "red ball"], {"dog", "red"}),
        (["hot dog"], {"dog", "hot dog"}),
        (["hot red dog"], {"dog", "red"}),
        (["hot", "dog"], {"dog"}),  # of two captions
    ],
)
def test_captions_say_lemmas_and_compounds_of_neighbours(captions, said):
    assert said_words([words(caption) for caption in captions], VOCABULARY) == said


def test_what_a_vocabulary_knows_as_a_noun_is_said_as_a_noun():
    vocabulary = Vocabulary({"watch": (0,), "red": (1,)}, 2, frozenset({"watch"}))
    verb, noun, adjective = Word("watch", False), Word("watch", True), Word("red", False)
    assert said_words([(verb, adjective)], vocabulary) == {"red"}
    assert said_words([(verb,), (adjective, noun)], vocabulary) == {"red", "watch"}


def test_a_word_is_as_probable_as_its_units():
    responses = torch.tensor([[0.0, 1.0, 2.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    softmax = word_probabilities(responses, VOCABULARY, ["dog", "red", "cat"], are_exclusive=True)
    torch.testing.assert_close(softmax[1], torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64))
    sigmoid = word_probabilities(responses, VOCABULARY, ["dog", "red", "cat"], are_exclusive=False)
    torch.testing.assert_close(sigmoid[:, 0], responses.double()[:, 1].sigmoid())
    assert softmax[:, 2].eq(0).all()
    assert sigmoid[:, 2].eq(0).all()
    assert word_probabilities(responses[:0], VOCABULARY, ["dog"], are_exclusive=True).shape == (0, 1)


def test_confident_units_still_differ():
    """Single precision would call both 1."""
    found = word_probabilities(torch.tensor([[20.0], [25.0]]), Vocabulary({"a": (0,)}, 1), ["a"], are_exclusive=False)
    assert found[0] < found[1]


def test_a_phrase_is_covered_by_one_known_word():
    phrases = [words("big dog"), words("hot dog"), words("cat"), ()]
    assert coverage(phrases, VOCABULARY) == 0.5
    with pytest.raises(ValueError, match="no phrase"):
        coverage([], VOCABULARY)


@given(st.integers(0, 3), st.integers(0, 4), st.integers(1, 6))
def test_the_peak_lies_in_the_cell_that_is_greatest(row, column, times):
    attention = torch.zeros(4, 5)
    attention[row, column] = 1
    y, x = peak(attention, (4 * times, 5 * times))
    assert (y // times, x // times) == (row, column)


def test_a_peak_of_nothing():
    assert peak(torch.zeros(2, 2), (6, 6)) == (0, 0)
    with pytest.raises(ValueError, match="NaN"):
        peak(torch.full((2, 2), math.nan), (6, 6))


@pytest.mark.parametrize(
    ("pixel", "is_in"),
    [
        ((2, 1), True),
        ((3, 4), True),
        ((4, 1), False),
        ((2, 5), False),
        ((1, 1), False),
        ((9, 9), True),
        ((0, 0), False),
    ],
)
def test_pointing_hits_any_box_with_its_first_pixels_and_not_its_ends(pixel, is_in):
    boxes = torch.tensor([[1.0, 2, 5, 4], [9, 9, 10, 10]])  # x1 y1 x2 y2
    assert is_hit(pixel, boxes) is is_in
    assert not is_hit(pixel, boxes[:0])


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=1, max_size=3),
    st.tuples(st.integers(0, 11), st.integers(0, 14)),
    st.sampled_from([0, 0.5, 1, 1.5, 3, 15]),
)
def test_a_point_hits_what_a_disk_of_the_tolerance_around_it_touches(corners, point, tolerance):
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in corners])
    mask = torch.zeros(13, 15, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.tolist():
        mask[y1:y2, x1:x2] = True
    touched = any(
        mask[y, x] and ((y - point[0]) ** 2 + (x - point[1]) ** 2 < tolerance**2 or (y, x) == point)
        for y in range(13)
        for x in range(15)
    )
    assert is_hit(point, mask, tolerance=tolerance) is is_hit(point, boxes, tolerance=tolerance) is touched


@pytest.mark.parametrize("tolerance", [0, 15])
@pytest.mark.parametrize("point", [(math.nan, 1), (1, math.nan)])
def test_no_region_holds_a_point_that_is_nan(point, tolerance):
    assert not is_hit(point, torch.ones(9, 9, dtype=torch.bool), tolerance=tolerance)
    assert not is_hit(point, torch.tensor([[0.0, 0, 9, 9]]), tolerance=tolerance)
