"""Judgement of boxes, and calibration of scores."""

from dataclasses import replace
from math import nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_cases import ANY, CASES, FAR, ICCV, MERGED, PLAIN, PROTOCOLS, ZHANG, found, records, score, thing

from eval.judging import calibrate, calibrated, judge, judge_all
from eval.metrics import recalls
from eval.records import Prediction
from grounding.records import Regions

# Which box is correct


@pytest.mark.parametrize(
    ("width", "is_correct"),
    [(20, True), (21, False), (20.000002, False), (5, True), (4.999, False), (10, True)],
)
def test_an_overlap_of_just_a_half_is_correct(width, is_correct):
    result = judge(thing((0, 0, 10, 10)), found((0, 0, width, 10)), PLAIN)
    assert (result.rank == 1) is is_correct
    assert result.is_within_reach is is_correct


def test_boxes_in_double_precision_are_judged_in_it():
    boxes = torch.tensor([[0, 0, 20 + 1e-9, 10]], dtype=torch.float64)
    assert judge(thing((0, 0, 10, 10)), Prediction(Regions(boxes, torch.ones(1))), PLAIN).rank is None


def test_inclusive_widths_on_disk_are_plain_widths_of_ours():
    """On disk these are 1 1 10 10 and 1 1 5 10, of 10 · 10 and 5 · 10 pixels."""
    prediction = found((0, 0, 5, 10))
    assert judge(thing((0, 0, 10, 10)), prediction, PLAIN).rank == 1
    # against 1 1 10 10 as it stands: 4 · 9 of 9 · 9 + 5 · 10 - 4 · 9
    assert judge(thing((0, 0, 10, 10)), prediction, replace(PLAIN, iou="continuous")).rank is None


def test_continuous_truth_is_the_corners_on_disk():
    on_disk = (1, 1, 10, 10)
    assert judge(thing((0, 0, 10, 10)), found(on_disk), MERGED).rank == 1
    half = found((1, 1, 10, 5.5))  # exactly half of what is on disk, and 9 · 4.5 of our 10 · 10
    assert judge(thing((0, 0, 10, 10)), half, MERGED).rank == 1
    assert judge(thing((0, 0, 10, 10)), half, PLAIN).rank is None


def test_merged_boxes_are_found_by_their_union_and_any_by_one():
    two = thing((0, 0, 10, 10), (30, 0, 40, 10))
    one_of_them, around = (30, 0, 40, 10), (0, 0, 40, 10)
    assert judge(two, found(one_of_them, around), replace(PLAIN, truth="any")).rank == 1
    assert judge(two, found(one_of_them, around), PLAIN).rank == 2
    assert judge(two, found(around), replace(PLAIN, truth="any")).rank is None
    assert judge(two, found(one_of_them), ANY).rank == 1
    assert judge(two, found(one_of_them), MERGED).rank is None


def test_ranks_count_after_suppression_and_hits_of_the_duplicate_that_gave_way_are_lost():
    truth = thing((0, 0, 10, 10))
    wrong, duplicate = (0, 0, 10, 22), (0, 0, 10, 18)  # IoU with the truth 10/22 and 10/18, of the two 18/22
    result = judge(truth, found(FAR, wrong, duplicate), ZHANG)
    assert result.rank is None
    assert result.is_within_reach  # the upper bound is that of all boxes
    assert len(result.scores) == 2
    assert judge(truth, found(FAR, wrong, duplicate), PLAIN).rank == 3
    # a near copy of a wrong box takes no rank
    assert judge(truth, found(FAR, (80, 80, 90, 91), (0, 0, 10, 10)), ZHANG).rank == 2


def test_boxes_that_overlap_by_just_the_limit_stay_and_ties_keep_their_order():
    truth = thing((0, 0, 10, 10))
    assert judge(truth, found((0, 0, 10, 20), (0, 0, 10, 10)), ZHANG).scores.tolist() == [2, 1]
    assert len(judge(truth, found((0, 0, 10, 19.9), (0, 0, 10, 10)), ZHANG).scores) == 1
    wrong, right = (0, 0, 10, 22), (0, 0, 10, 18)
    assert judge(truth, found(wrong, right, scores=[1, 1]), ZHANG).rank is None
    assert judge(truth, found(right, wrong, scores=[1, 1]), ZHANG).rank == 1


def test_phrases_that_the_parser_missed_predict_nothing_and_count():
    hidden, seen = thing((0, 0, 10, 10), is_parsed=False), thing((0, 0, 10, 10))
    prediction = found((0, 0, 10, 10))
    result = judge(hidden, prediction, ICCV)
    assert (result.rank, result.is_within_reach, len(result.scores)) == (None, False, 0)
    assert judge(hidden, prediction, ZHANG).rank == 1
    assert recalls(judge_all([hidden, seen], [prediction, prediction], ICCV)).at_1.share == 0.5
    assert score([hidden, seen], [prediction] * 2, ICCV).all.precision.group == pytest.approx(6 / 11)


@pytest.mark.parametrize("protocol", [ZHANG, ANY])
def test_no_boxes_are_a_miss(protocol):
    result = judge(thing((0, 0, 10, 10)), found(), protocol)
    assert (result.rank, result.is_within_reach) == (None, False)
    assert result.scores.shape == (0,)


def test_the_overlap_of_the_first_box_is_measured():
    truth = thing((0, 0, 10, 10), (30, 0, 40, 10))
    prediction = found((0, 0, 10, 8), (0, 0, 10, 10))
    assert judge(truth, prediction, replace(PLAIN, truth="any")).first_iou == 0.8
    assert judge(truth, prediction, PLAIN).first_iou == 0.2
    assert judge(truth, found(), PLAIN).first_iou == 0
    assert judge(truth, found((5, 5, 5, 5)), PLAIN).first_iou == 0


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [([FAR, FAR], [0.1, 0.2]), ([FAR], [nan]), ([(0, 0, nan, 1)], [1]), ([(0, 0, float("inf"), 1)], [1])],
)
def test_a_prediction_that_is_not_best_first_or_not_finite_is_named(boxes, scores):
    with pytest.raises(ValueError, match="photo 1, caption 1, 'a man': expected finite boxes, best first"):
        judge(thing((0, 0, 10, 10)), found(*boxes, scores=scores), ZHANG)


def test_empty_and_inverted_boxes_hit_nothing():
    result = judge(thing((0, 0, 10, 10)), found((5, 5, 5, 5), (10, 10, 0, 0)), PLAIN)
    assert result.rank is None
    assert judge(thing((0, 0, 1, 1)), found((1, 1, 1, 1)), MERGED).rank is None  # on disk a pixel has no area


# Calibration


@settings(max_examples=30)
@given(CASES, PROTOCOLS, st.sampled_from(["raw", "mass", "rank"]), st.floats(1e-3, 1e6))
def test_calibration_changes_the_calibrated_scores_alone(cases, protocol, mode, mass):
    instances, predictions = records(cases)
    predictions = [replace(prediction, mass=mass) for prediction in predictions]
    plain = judge_all(instances, predictions, protocol)
    at_once = judge_all(instances, predictions, protocol, calibration=mode)
    by_hand = judge_all(instances, [calibrated(one, mode) for one in predictions], protocol)
    for before, after, expected in zip(plain, at_once, by_hand, strict=True):
        assert (after.rank, after.first_iou, after.is_within_reach) == (
            before.rank,
            before.first_iou,
            before.is_within_reach,
        )
        assert torch.equal(after.raw_scores, before.scores)
        assert torch.equal(after.scores, expected.scores)
        assert (after.scores.diff() <= 0).all()


def test_calibration_by_hand():
    scores = torch.tensor([6.0, 3.0, 3.0])
    assert calibrate(scores, 3.0, "raw") is scores
    assert calibrate(scores, 3.0, "mass").tolist() == [2, 1, 1]
    guesses = calibrate(scores, 0.0, "mass").tolist()
    assert 0 > guesses[0] > guesses[1] == guesses[2] > -1
    sure = calibrate(torch.tensor([50.0, 40.0]), 0.0, "mass").tolist()
    assert 0 > sure[0] > sure[1]
    assert calibrate(scores, 0.0, "rank").tolist() == [1, 1 / 2, 1 / 3]
    assert len(calibrate(scores[:0], 1.0, "rank")) == 0
    with pytest.raises(ValueError, match="calibration must be raw, mass or rank, got 'sum'"):
        calibrate(scores, 1.0, "sum")
    for mass in (-1.0, nan, float("inf")):
        with pytest.raises(ValueError, match="expected a mass of attention from 0"):
            calibrate(scores, mass, "mass")
