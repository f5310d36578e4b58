"""The errors of first boxes: every box makes one error or none, and the first case that applies counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judged_cases import ANY, CASES, ICCV, PROTOCOLS, ZHANG, found, records, thing

from eval.errors import other_boxes, outcome
from eval.judging import judge_all
from eval.metrics import summarise
from eval.result import ERRORS

TRUTH = (20, 20, 60, 60)
OTHER = (60, 20, 100, 60)


def outcome_of(first, *truth, others=()):
    boxes = [torch.tensor(rows, dtype=torch.float64).reshape(-1, 4) for rows in ([first], truth, others)]
    return outcome(boxes[0][0], *boxes[1:])


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (TRUTH, "correct"),
        ((20, 20, 60, 40), "correct"),  # just half of it
        ((20, 20, 60, 39), "too_small"),
        ((10, 30, 30, 50), "too_small"),  # just half of the box lies in the true one
        ((9, 30, 29, 50), "elsewhere"),
        ((0, 0, 60, 60), "too_large"),
        ((40, 0, 99, 99), "too_large"),  # just half of the true box lies in it
        ((41, 0, 99, 99), "elsewhere"),
        ((36, 20, 76, 60), "elsewhere"),  # neither smaller nor larger
        ((60, 20, 100, 60), "elsewhere"),
        ((30, 30, 30, 30), "elsewhere"),  # no area
    ],
)
def test_the_error_of_a_box(first, expected):
    assert outcome_of(first, TRUTH) == expected


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (OTHER, "wrong_instance"),
        ((20, 20, 100, 60), "correct"),  # half of it each: being correct comes first
        ((21, 20, 100, 60), "wrong_instance"),  # also too large
        ((85, 20, 100, 60), "elsewhere"),
    ],
)
def test_another_thing_comes_before_too_small_and_too_large(first, expected):
    assert outcome_of(first, TRUTH, others=[OTHER]) == expected


def test_a_missing_box_is_elsewhere():
    assert outcome(None, torch.tensor([TRUTH]), torch.zeros(0, 4)) == "elsewhere"


def test_of_several_true_boxes_the_one_that_overlaps_best_counts():
    assert outcome_of((60, 20, 70, 60), TRUTH, OTHER) == "too_small"
    assert outcome_of(OTHER, TRUTH, OTHER) == "correct"


def test_other_boxes_are_of_other_entities_of_the_same_photo_and_type():
    man, dog, cat = (0, 0, 9, 9), (10, 0, 19, 9), (20, 0, 29, 9)
    both = ("people", "animals")
    instances = [
        thing(man, chain="1"),
        thing(dog, chain="2", types=("animals",)),
        thing(man, chain="1"),
        thing(cat, chain="3", types=both),
        thing(cat, chain="4", photo="2"),
        thing(man, cat, chain="5"),
    ]
    assert [boxes.tolist() for boxes in other_boxes(instances)] == [
        [[*map(float, cat)]] * 2,  # twice, as two entities own it; never the man that the group of two shares with him
        [[*map(float, cat)]],
        [[*map(float, cat)]] * 2,
        [[*map(float, box)] for box in (man, dog, man)],
        [],
        [],
    ]


def test_the_box_of_another_man_is_a_wrong_instance_and_of_a_dog_is_not():
    for types, expected in ((("people",), "wrong_instance"), (("animals",), "elsewhere")):
        instances = [thing(TRUTH, chain="1"), thing(OTHER, chain="2", types=types)]
        first, _ = judge_all(instances, [found(OTHER), found(OTHER)], ZHANG)
        assert first.outcome == expected


def test_phrases_that_the_parser_misses_are_elsewhere():
    (one,) = judge_all([thing(TRUTH, is_parsed=False)], [found(TRUTH)], ICCV)
    assert one.outcome == "elsewhere"


@given(CASES, PROTOCOLS)
def test_a_first_box_is_correct_or_makes_one_error(cases, protocol):
    judged = judge_all(*records(cases), protocol)
    for one in judged:
        assert (one.outcome == "correct") == (one.rank == 1)
        assert one.outcome == "correct" or one.outcome in ERRORS
    subset = summarise(judged, per_type=protocol.per_type, rounds=0)
    shares = [getattr(subset.errors, error).share for error in ERRORS]
    assert subset.recall.at_1.share + sum(shares) == pytest.approx(1)


@given(st.permutations([TRUTH, OTHER, (0, 0, 5, 5)]))
def test_the_order_of_true_boxes_does_not_matter(truth):
    assert judge_all([thing(*truth)], [found((60, 20, 80, 60))], ANY)[0].outcome == "too_small"
