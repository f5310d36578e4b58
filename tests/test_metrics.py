"""Recall, overlap and average precision of judged instances, and their intervals."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_cases import (
    ANY,
    CASES,
    FAR,
    PROTOCOLS,
    SIDE,
    ZHANG,
    around,
    found,
    judge_in_loops,
    judged,
    records,
    score,
    summary_in_loops,
    thing,
)

from eval.flickr30k import TYPES
from eval.judging import judge_all
from eval.metrics import average_precision, bootstrap, precision_by_label, recalls, summarise
from eval.result import RECALLS, Measured, Recall
from grounding.records import Regions

# Recall


def shares_of(recall):
    return [getattr(recall, name).share for name in RECALLS]


def test_recall_counts_ranks_up_to_k():
    ranks = [1, 2, 5, 6, 10, 11, None]
    assert shares_of(recalls([judged(rank, 12) for rank in ranks])) == [1 / 7, 3 / 7, 5 / 7, 6 / 7]


def test_a_phrase_of_two_types_counts_twice_or_once():
    both, one = judged(1, 2, types=("people", "scene"), first_iou=0.9), judged(None, 2)
    assert recalls([both, one], per_type=True).at_1.share == 2 / 3
    assert recalls([both, one]).at_1.share == 1 / 2
    scores = summarise([both, one], per_type=True)
    assert scores.instances == 2
    assert scores.types["people"].instances == 2
    assert shares_of(scores.types["people"].recall) == [0.5] * 4
    assert scores.types["people"].precision == pytest.approx(6 / 11)
    assert scores.types["scene"].recall.at_5.share == 1
    assert scores.type_mean_recall_5 == 0.75
    assert scores.recall_at_1_iou_75.share == 2 / 3
    assert scores.mean_iou.share == pytest.approx(0.6)


@pytest.mark.parametrize(("iou", "share"), [(0.75, 1), (0.7499, 0)])
def test_an_overlap_of_just_three_quarters_is_correct_by_the_strict_measure(iou, share):
    assert summarise([judged(1, 1, first_iou=iou)], per_type=False).recall_at_1_iou_75.share == share


# Average precision


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        # By score: one's 9 (true), other's 8, 7 (true). Recall .5 at precision 1, recall 1 at 2/3.
        ([(1, [9, 6]), (2, [8, 7])], (6 * 1 + 5 * 2 / 3) / 11),
        # A box after the first correct one is a false positive: 9 (true), 8, 7, 6 (true).
        ([(1, [9, 8, 7]), (1, [6])], (6 * 1 + 5 * 2 / 4) / 11),
        # Precision at a recall is the greatest at that recall or more: 9, 8 (true), 7 (true) gives 2/3 from the start.
        ([(2, [9, 8]), (1, [7])], 2 / 3),
        # An instance without boxes, or without a correct one, is a positive that is never reached.
        ([(1, [9]), (None, [])], 6 / 11),
        ([(1, [9]), (None, [8, 7])], 6 / 11),
        ([(None, [10]), (1, [9])], (6 * 1 / 2) / 11),
        ([(None, []), (None, [])], 0),
        # Equal scores stay as they come: the first instance's boxes, then the second's.
        ([(1, [5]), (2, [5, 5])], (6 * 1 + 5 * 2 / 3) / 11),
        ([(2, [5, 5]), (1, [5])], 2 / 3),
        # Three of ten reach a recall of .3, whatever 3 / 10 and .1 + .1 + .1 are: points 0, .1, .2, .3.
        ([(1, [9])] * 3 + [(None, [])] * 7, 4 / 11),
        ([(1, [9])] * 7 + [(None, [])] * 3, 8 / 11),
        # One of three reaches .3 and not .4.
        ([(1, [9])] + [(None, [])] * 2, 4 / 11),
        # A box of each alone: along ranks, not instances.
        ([(1, [1]), (None, [3]), (1, [2])], (7 * 2 / 3) / 11),
    ],
)
def test_average_precision_by_hand(instances, expected):
    pool = [judged(rank, len(scores), scores=scores) for rank, scores in instances]
    assert average_precision(pool) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 200), st.integers(0, 20))
def test_the_precision_of_a_lone_instance_is_one_over_its_rank(rank, more):
    assert average_precision([judged(rank, rank + more)]) == pytest.approx(1 / rank, rel=1e-12)


def test_many_equal_scores_stay_as_they_come():
    """Right and wrong boxes take turns: precision is 1, 2/3, 3/5, …, falling."""
    pool = [judged(1, 2, scores=[1, 1]) for _ in range(1000)]
    reached = [max(100 * tenths, 1) for tenths in range(11)]
    assert average_precision(pool) == pytest.approx(sum(k / (2 * k - 1) for k in reached) / 11)


def test_labels_are_pooled_and_averaged_as_strings():
    instances = [
        judged(1, 2, label="man"),
        judged(4, 5, label="red car", types=("vehicles",)),
        judged(None, 3, label="man", types=("people", "scene")),
    ]
    assert precision_by_label(instances) == {
        "man": pytest.approx(average_precision(instances[::2])),
        "red car": 0.25,
    }
    scores = summarise(instances, per_type=False)
    assert scores.labels == 2
    assert scores.precision.phrase == pytest.approx((average_precision(instances[::2]) + 0.25) / 2)
    assert scores.precision.group == pytest.approx((average_precision(instances[::2]) + 0.25 + 0) / 3)
    assert scores.types["scene"].precision == 0
    assert scores.types["animals"].instances == 0
    assert shares_of(scores.types["animals"].recall) == [None] * 4
    assert scores.types["animals"].precision is None
    assert tuple(scores.types) == TYPES


def test_precision_is_measured_with_calibrated_and_with_raw_scores():
    sure, unsure = judged(1, 1, scores=[2], raw_scores=[1]), judged(None, 1, scores=[1], raw_scores=[2])
    scores = summarise([unsure, sure], per_type=False)
    assert scores.precision.group == scores.precision.phrase == pytest.approx(6 / 11)
    assert scores.raw_precision.group == scores.raw_precision.phrase == pytest.approx(3 / 11)
    assert scores.types["people"].precision == pytest.approx(6 / 11)
    assert scores.types["people"].raw_precision == pytest.approx(3 / 11)


def test_nothing_has_no_average():
    with pytest.raises(ValueError, match="no instance"):
        average_precision([])
    scores = summarise([], per_type=True)
    nothing = Measured(None, None)
    assert scores.recall == Recall(at_1=nothing, at_5=nothing, at_10=nothing, bound=nothing)
    assert scores.recall_at_1_iou_75 == scores.mean_iou == nothing
    assert scores.precision.group is scores.precision.phrase is scores.type_mean_recall_5 is None
    assert scores.instances == scores.photos == scores.labels == 0


# Small and large


def test_small_is_less_than_a_quarter_by_the_union_box():
    instances = [
        thing((0, 0, 50, 49.99), photo="small"),
        thing((0, 0, 50, 50), photo="quarter"),
        thing((0, 0, 1, 1), (50, 50, 51, 51), photo="far apart"),
        thing((0, 0, 60, 60), photo="large, of a large photo", size=(300, 100)),
    ]
    predictions = [found((0, 0, 50, 50)), found(), found((0, 0, 51, 51)), found()]
    scores = score(instances, predictions, ZHANG)
    subsets = (scores.all, scores.small, scores.large)
    assert [subset.instances for subset in subsets] == [4, 2, 2]
    assert [subset.recall.at_1.share for subset in subsets] == [0.5, 0.5, 0.5]
    assert scores.protocol == ZHANG
    only_large = score(instances[1:2], predictions[1:2], ZHANG)
    assert only_large.small.recall.at_1.share is None


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="2 instances and 1 predictions: expected one for each"):
        score([thing(FAR)] * 2, [found()], ZHANG)
    with pytest.raises(ValueError, match="no instance to score"):
        score([], [], ZHANG)
    with pytest.raises(ValueError, match=r"'a man': its types must be of people, .* got notvisual"):
        score([thing(FAR, types=("notvisual",))], [found()], ZHANG)
    with pytest.raises(ValueError, match="got none"):
        score([thing(FAR, types=())], [found()], ZHANG)


# The specification in loops


@settings(max_examples=60)
@given(CASES, PROTOCOLS)
def test_all_scores_agree_with_the_specification_in_loops(cases, protocol):
    scores = score(*records(cases), protocol, rounds=0)
    results = [judge_in_loops(case, protocol) for case in cases]
    boxes = [around(case["truth"]) for case in cases]
    are_small = [Fraction((b[2] - b[0] + 1) * (b[3] - b[1] + 1), SIDE**2) < protocol.small for b in boxes]
    for subset, wanted in ((scores.all, (True, False)), (scores.small, (True,)), (scores.large, (False,))):
        chosen = [k for k, small in enumerate(are_small) if small in wanted]
        expected = summary_in_loops([cases[k] for k in chosen], [results[k] for k in chosen], protocol)
        measured = {
            **dict(zip(RECALLS, shares_of(subset.recall), strict=True)),
            "strict": subset.recall_at_1_iou_75.share,
            "mean_iou": subset.mean_iou.share,
            "group": subset.raw_precision.group,
            "phrase": subset.raw_precision.phrase,
            "type_mean_recall_5": subset.type_mean_recall_5,
            "labels": subset.labels,
            "instances": subset.instances,
        }
        assert measured == pytest.approx(expected, abs=1e-12)
        assert subset.precision == subset.raw_precision


# Laws


@settings(max_examples=30)
@given(CASES, PROTOCOLS, st.integers(0, 5))
def test_more_proposals_never_lower_the_bound(cases, protocol, count):
    instances, predictions = records(cases)
    fewer = [replace(prediction, regions=prediction.regions[:count]) for prediction in predictions]
    few, all_of_them = (recalls(judge_all(instances, them, protocol)) for them in (fewer, predictions))
    assert few.bound.share <= all_of_them.bound.share
    values = shares_of(all_of_them)
    assert values == sorted(values)  # recall grows with k, up to the bound


@settings(max_examples=30)
@given(CASES, PROTOCOLS, st.data())
def test_recall_does_not_see_how_scores_rise_and_fall_between_phrases(cases, protocol, data):
    instances, predictions = records(cases)
    factors = data.draw(st.lists(st.sampled_from([0.01, 1.0, 7.0]), min_size=len(cases), max_size=len(cases)))
    scaled = [
        replace(p, regions=Regions(p.regions.boxes, p.regions.scores * factor))
        for p, factor in zip(predictions, factors, strict=True)
    ]
    before, after = (score(instances, them, protocol, rounds=0).all for them in (predictions, scaled))
    assert before.recall == after.recall
    assert before.type_mean_recall_5 == after.type_mean_recall_5
    assert before.mean_iou == after.mean_iou


def test_precision_sees_how_scores_compare_between_phrases():
    right, wrong = thing((0, 0, 10, 10)), thing((50, 50, 60, 60))
    hit, miss = found((0, 0, 10, 10), scores=[2]), found((0, 0, 10, 10), scores=[1])
    sure, unsure = (
        score([right, wrong], [replace(hit, regions=Regions(hit.regions.boxes, torch.tensor([first]))), miss], ANY).all
        for first in (2.0, 0.5)
    )
    assert sure.recall == unsure.recall
    assert sure.raw_precision.group == pytest.approx(6 / 11)
    assert unsure.raw_precision.group == pytest.approx(3 / 11)


# Intervals


def test_an_interval_is_around_the_share_and_comes_again_with_its_seed():
    photos = [str(k // 2) for k in range(80)]
    hits = np.array([[k % 3 == 0, True] for k in range(80)], float)
    counts = np.ones(80)
    (low, high), certain = bootstrap(photos, hits, counts)
    assert low < hits[:, 0].mean() < high
    assert certain == (1, 1)
    again, other = bootstrap(photos, hits, counts), bootstrap(photos, hits, counts, seed=1)
    assert again[0] == (low, high)
    assert other[0] != (low, high)
    # nearly that of a sample of 80, ± 1.96 √(p (1 - p) / n), pairs being nearly independent
    assert high - low == pytest.approx(2 * 1.96 * (27 / 80 * 53 / 80 / 80) ** 0.5, rel=0.35)


def test_photos_are_drawn_and_not_instances():
    """Hits that come by the photo are less sure than the same number of them spread evenly."""
    counts, hits = np.ones(100), np.array([[k < 50] for k in range(100)], float)
    (by_photo,) = bootstrap([str(k // 10) for k in range(100)], hits, counts)
    (spread,) = bootstrap([str(k % 10) for k in range(100)], hits, counts)
    assert by_photo[1] - by_photo[0] > 0.4
    assert spread == (0.5, 0.5)


def test_an_instance_that_counts_twice_weighs_twice():
    photos, hits, counts = ["a", "b"], np.array([[2.0], [0.0]]), np.array([2.0, 1.0])
    drawn = [0, 2 / 3, 1]
    (interval,) = bootstrap(photos, hits, counts, rounds=200)
    assert interval == (drawn[0], drawn[2])


@pytest.mark.parametrize(("photos", "rounds"), [(["a", "a"], 100), ([], 100), (["a", "b"], 0)])
def test_a_photo_alone_has_no_interval(photos, rounds):
    count = len(photos)
    assert bootstrap(photos, np.ones((count, 4)), np.ones(count), rounds=rounds) == [None] * 4


def test_intervals_are_of_the_recall_that_is_given():
    instances = [thing((0, 0, 10, 10), photo=str(k), types=TYPES[: 1 + k % 2]) for k in range(12)]
    predictions = [found((0, 0, 10, 10) if k % 4 else FAR) for k in range(12)]
    scores = score(instances, predictions, ZHANG, rounds=300)
    for name in RECALLS:
        measured = getattr(scores.all.recall, name)
        low, high = measured.interval
        assert low < measured.share < high
    assert scores == score(instances, predictions, ZHANG, rounds=300)
    once = score(instances, predictions, replace(ZHANG, per_type=False), rounds=300).all.recall
    assert (scores.all.recall.at_1.share, once.at_1.share) == (15 / 18, 9 / 12)
    assert scores.all.recall.at_1.interval != once.at_1.interval
