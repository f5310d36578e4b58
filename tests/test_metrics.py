from dataclasses import replace
from fractions import Fraction
from math import nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.flickr30k import TYPES
from eval.metrics import (
    MEASURES,
    Judged,
    ap_by_label,
    average_precision,
    bootstrap,
    calibrate,
    judge,
    judge_all,
    recalls,
    score_boxes,
    summarise,
)
from eval.protocols import BoxProtocol
from eval.records import Instance, Prediction
from grounding.records import Regions

ICCV = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=True, per_type=True, small=0.25)
ZHANG = replace(ICCV, parsed_only=False)
MERGED = BoxProtocol(truth="union", iou="continuous", suppression=None, parsed_only=False, per_type=False, small=0.25)
ANY = replace(MERGED, truth="any")
PLAIN = replace(ZHANG, suppression=None)  # inclusive and without suppression
FAR = (80, 80, 90, 90)


def thing(*boxes, photo="1", size=(100, 100), types=("people",), label="man", is_parsed=True, chain="7"):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instance(photo, size, 0, 0, "a man", (0, 5), chain, types, boxes, label, is_parsed)


def found(*boxes, scores=None):
    scores = torch.arange(len(boxes), 0, -1).float() if scores is None else torch.tensor(scores, dtype=torch.float32)
    return Prediction(Regions(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), scores))


def judged(rank, count, *, scores=None, **of_instance):
    """An instance with so many boxes, of which the one at this rank is the first correct one."""
    scores = range(count, 0, -1) if scores is None else scores
    values = torch.tensor(list(scores), dtype=torch.float64)
    return Judged(thing((0, 0, 10, 10), **of_instance), rank, rank is not None, values)


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
    assert recalls(judge_all([hidden, seen], [prediction, prediction], ICCV))["1"] == 0.5
    assert score_boxes([hidden, seen], [prediction] * 2, ICCV)["all"]["map_group"] == pytest.approx(6 / 11)


@pytest.mark.parametrize("protocol", [ZHANG, ANY])
def test_no_boxes_are_a_miss(protocol):
    result = judge(thing((0, 0, 10, 10)), found(), protocol)
    assert (result.rank, result.is_within_reach) == (None, False)
    assert result.scores.shape == (0,)


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


# Recall


def test_recall_counts_ranks_up_to_k():
    ranks = [1, 2, 5, 6, 10, 11, None]
    found_by = recalls([judged(rank, 12) for rank in ranks])
    assert found_by == {"1": 1 / 7, "5": 3 / 7, "10": 5 / 7, "bound": 6 / 7}


def test_a_phrase_of_two_types_counts_twice_or_once():
    both, one = judged(1, 2, types=("people", "scene")), judged(None, 2)
    assert recalls([both, one], per_type=True)["1"] == 2 / 3
    assert recalls([both, one])["1"] == 1 / 2
    scores = summarise([both, one], per_type=True)
    assert scores["instances"] == 2
    assert scores["types"]["people"] == {
        "instances": 2,
        "recall": dict.fromkeys(MEASURES, 0.5),
        "ap": pytest.approx(6 / 11),
    }
    assert scores["types"]["scene"]["recall"]["5"] == 1
    assert scores["type_mean_recall_5"] == 0.75


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
    assert ap_by_label(instances) == {"man": pytest.approx(average_precision(instances[::2])), "red car": 0.25}
    scores = summarise(instances, per_type=False)
    assert scores["labels"] == 2
    assert scores["map_phrase"] == pytest.approx((average_precision(instances[::2]) + 0.25) / 2)
    assert scores["map_group"] == pytest.approx((average_precision(instances[::2]) + 0.25 + 0) / 3)
    assert scores["types"]["scene"]["ap"] == 0
    assert scores["types"]["animals"] == {"instances": 0, "recall": dict.fromkeys(MEASURES), "ap": None}
    assert tuple(scores["types"]) == TYPES


def test_nothing_has_no_average():
    with pytest.raises(ValueError, match="no instance"):
        average_precision([])
    scores = summarise([], per_type=True)
    assert scores["recall"] == scores["interval"] == dict.fromkeys(MEASURES)
    assert scores["map_group"] is scores["map_phrase"] is scores["type_mean_recall_5"] is None
    assert scores["instances"] == scores["photos"] == scores["labels"] == 0


# Small and large


def test_small_is_less_than_a_quarter_by_the_union_box():
    instances = [
        thing((0, 0, 50, 49.99), photo="small"),
        thing((0, 0, 50, 50), photo="quarter"),
        thing((0, 0, 1, 1), (50, 50, 51, 51), photo="far apart"),
        thing((0, 0, 60, 60), photo="large, of a large photo", size=(300, 100)),
    ]
    predictions = [found((0, 0, 50, 50)), found(), found((0, 0, 51, 51)), found()]
    scores = score_boxes(instances, predictions, ZHANG)
    assert [scores[part]["instances"] for part in ("all", "small", "large")] == [4, 2, 2]
    assert [scores[part]["recall"]["1"] for part in ("all", "small", "large")] == [0.5, 0.5, 0.5]
    assert scores["kind"] == "boxes"
    assert scores["settings"]["suppression"] == 0.5
    only_large = score_boxes(instances[1:2], predictions[1:2], ZHANG)
    assert only_large["small"]["recall"]["1"] is None


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="2 instances and 1 predictions: expected one for each"):
        score_boxes([thing(FAR)] * 2, [found()], ZHANG)
    with pytest.raises(ValueError, match="no instance to score"):
        score_boxes([], [], ZHANG)
    with pytest.raises(ValueError, match=r"'a man': its types must be of people, .* got notvisual"):
        score_boxes([thing(FAR, types=("notvisual",))], [found()], ZHANG)
    with pytest.raises(ValueError, match="got none"):
        score_boxes([thing(FAR, types=())], [found()], ZHANG)


# The specification, in loops, on the numbers as they are on disk: corners from 1, the last pixel within

CORNERS = st.tuples(*[st.integers(1, 12)] * 2, *[st.integers(0, 8)] * 2).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)
RANKED = st.lists(st.tuples(CORNERS, st.integers(0, 4)), max_size=6).map(lambda rows: sorted(rows, key=lambda r: -r[1]))
CASES = st.lists(
    st.fixed_dictionaries(
        {
            "photo": st.sampled_from("abc"),
            "truth": st.lists(CORNERS, min_size=1, max_size=3),
            "ranked": RANKED,
            "types": st.lists(st.sampled_from(TYPES[:3]), min_size=1, max_size=2, unique=True),
            "label": st.sampled_from(["man", "red car", "dog"]),
            "is_parsed": st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)
PROTOCOLS = st.builds(
    BoxProtocol,
    truth=st.sampled_from(["union", "any"]),
    iou=st.sampled_from(["inclusive", "continuous"]),
    suppression=st.sampled_from([None, 0.25, 0.5]),
    parsed_only=st.booleans(),
    per_type=st.booleans(),
    small=st.sampled_from([0.0625, 0.25]),
)
SIDE = 20


def records(cases):
    """The instances and predictions of cases, in our frame."""
    instances, predictions = [], []
    for case in cases:
        truth = [(x1 - 1, y1 - 1, x2, y2) for x1, y1, x2, y2 in case["truth"]]
        ranked = [(x1 - 1, y1 - 1, x2, y2) for (x1, y1, x2, y2), _ in case["ranked"]]
        kept = {key: case[key] for key in ("photo", "label", "is_parsed")}
        instances.append(thing(*truth, size=(SIDE, SIDE), types=tuple(case["types"]), **kept))
        predictions.append(found(*ranked, scores=[score for _, score in case["ranked"]]))
    return instances, predictions


def overlap(a, b, one):
    """IoU with this much added to widths and heights."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + one)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + one)
    areas = [(box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)]
    union = sum(areas) - width * height
    return Fraction(width * height, union) if union else Fraction(0)


def around(boxes):
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def judge_in_loops(case, protocol):
    """Rank of the first hit, whether any box hits, and the scores of the ranked boxes."""
    ranked = case["ranked"]
    if protocol.parsed_only and not case["is_parsed"]:
        ranked = []
    truth = [around(case["truth"])] if protocol.truth == "union" else case["truth"]

    def is_hit(box):
        if protocol.iou == "inclusive":
            return any(overlap(box, true, 1) >= Fraction(1, 2) for true in truth)
        x1, y1, x2, y2 = box  # predictions from 0, truth as it stands
        return any(overlap((x1 - 1, y1 - 1, x2, y2), true, 0) >= Fraction(1, 2) for true in truth)

    kept = []
    for box, score in ranked:
        if protocol.suppression is None or all(
            overlap(box, better, 1) <= Fraction(protocol.suppression) for better, _ in kept
        ):
            kept.append((box, score))
    rank = next((place for place, (box, _) in enumerate(kept, 1) if is_hit(box)), None)
    return rank, any(is_hit(box) for box, _ in ranked), [score for _, score in kept]


def ap_in_loops(results):
    """11 points, from (rank, _, scores) of the instances of a label."""
    pool = []
    for rank, _, scores in results:
        pool += [(score, place == rank) for place, score in enumerate(scores, 1)]
    pool.sort(key=lambda entry: -entry[0])
    curve, true = [], 0
    for place, (_, is_true) in enumerate(pool, 1):
        true += is_true
        curve.append((Fraction(true, len(results)), Fraction(true, place)))
    points = [
        max((precision for recall, precision in curve if recall >= Fraction(tenths, 10)), default=Fraction(0))
        for tenths in range(11)
    ]
    return sum(points) / 11


def summary_in_loops(cases, results, protocol):
    by_type = {name: [r for case, r in zip(cases, results, strict=True) if name in case["types"]] for name in TYPES[:3]}
    by_label = {}
    for case, result in zip(cases, results, strict=True):
        by_label.setdefault(case["label"], []).append(result)
    precisions = [ap_in_loops(of_type) for of_type in by_type.values() if of_type]
    of_labels = [ap_in_loops(of_label) for of_label in by_label.values()]
    counted = [r for of_type in by_type.values() for r in of_type] if protocol.per_type else results
    hits = {str(k): [rank is not None and rank <= k for rank, _, _ in counted] for k in (1, 5, 10)}
    hits["bound"] = [is_reached for _, is_reached, _ in counted]
    fives = [[rank is not None and rank <= 5 for rank, _, _ in of_type] for of_type in by_type.values() if of_type]
    return {
        "recall": {key: sum(values) / len(values) if values else None for key, values in hits.items()},
        "map_group": sum(precisions) / len(precisions) if precisions else None,
        "map_phrase": sum(of_labels) / len(of_labels) if of_labels else None,
        "type_mean_recall_5": sum(sum(five) / len(five) for five in fives) / len(fives) if fives else None,
        "labels": len(by_label),
        "instances": len(cases),
    }


@settings(max_examples=100)
@given(CASES, PROTOCOLS)
def test_all_scores_agree_with_the_specification_in_loops(cases, protocol):
    scores = score_boxes(*records(cases), protocol, rounds=0)
    results = [judge_in_loops(case, protocol) for case in cases]
    boxes = [around(case["truth"]) for case in cases]
    are_small = [Fraction((b[2] - b[0] + 1) * (b[3] - b[1] + 1), SIDE**2) < protocol.small for b in boxes]
    for part, wanted in (("all", (True, False)), ("small", (True,)), ("large", (False,))):
        chosen = [k for k, small in enumerate(are_small) if small in wanted]
        expected = summary_in_loops([cases[k] for k in chosen], [results[k] for k in chosen], protocol)
        for key, value in expected.items():
            if isinstance(value, Fraction):
                value = float(value)
            assert scores[part][key] == pytest.approx(value, abs=1e-12), (part, key)


# Laws


@settings(max_examples=50)
@given(CASES, PROTOCOLS, st.integers(0, 5))
def test_more_proposals_never_lower_the_bound(cases, protocol, count):
    instances, predictions = records(cases)
    fewer = [replace(prediction, regions=prediction.regions[:count]) for prediction in predictions]
    few, all_of_them = (recalls(judge_all(instances, them, protocol)) for them in (fewer, predictions))
    assert few["bound"] <= all_of_them["bound"]
    values = [all_of_them[measure] for measure in MEASURES]
    assert values == sorted(values)  # recall grows with k, up to the bound


@settings(max_examples=50)
@given(CASES, PROTOCOLS, st.data())
def test_recall_does_not_see_how_scores_rise_and_fall_between_phrases(cases, protocol, data):
    instances, predictions = records(cases)
    factors = data.draw(st.lists(st.sampled_from([0.01, 1.0, 7.0]), min_size=len(cases), max_size=len(cases)))
    scaled = [
        replace(p, regions=Regions(p.regions.boxes, p.regions.scores * factor))
        for p, factor in zip(predictions, factors, strict=True)
    ]
    before, after = (score_boxes(instances, them, protocol, rounds=0)["all"] for them in (predictions, scaled))
    assert before["recall"] == after["recall"]
    assert before["type_mean_recall_5"] == after["type_mean_recall_5"]


def test_precision_sees_how_scores_compare_between_phrases():
    right, wrong = thing((0, 0, 10, 10)), thing((50, 50, 60, 60))
    hit, miss = found((0, 0, 10, 10), scores=[2]), found((0, 0, 10, 10), scores=[1])
    sure, unsure = (
        score_boxes(
            [right, wrong], [replace(hit, regions=Regions(hit.regions.boxes, torch.tensor([score]))), miss], ANY
        )
        for score in (2.0, 0.5)
    )
    assert sure["all"]["recall"] == unsure["all"]["recall"]
    assert sure["all"]["map_group"] == pytest.approx(6 / 11)
    assert unsure["all"]["map_group"] == pytest.approx(3 / 11)


@settings(max_examples=50)
@given(CASES, PROTOCOLS, st.sampled_from(["raw", "mass", "rank"]), st.floats(1e-3, 1e6))
def test_calibration_keeps_order_and_recall(cases, protocol, mode, mass):
    instances, predictions = records(cases)
    calibrated = [replace(p, regions=calibrate(p.regions, mass, mode)) for p in predictions]
    for prediction in calibrated:
        assert (prediction.regions.scores.diff() <= 0).all()
    before, after = (recalls(judge_all(instances, them, protocol)) for them in (predictions, calibrated))
    assert before == after


def test_calibration_by_hand():
    regions = found(FAR, FAR, FAR, scores=[6, 3, 3]).regions
    assert calibrate(regions, 3.0, "raw") is regions
    assert calibrate(regions, 3.0, "mass").scores.tolist() == [2, 1, 1]
    guesses = calibrate(regions, 0.0, "mass").scores.tolist()
    assert 0 > guesses[0] > guesses[1] == guesses[2] > -1
    sure = calibrate(found(FAR, FAR, scores=[50, 40]).regions, 0.0, "mass").scores.tolist()
    assert 0 > sure[0] > sure[1]
    assert calibrate(regions, 0.0, "rank").scores.tolist() == [1, 1 / 2, 1 / 3]
    assert len(calibrate(regions[:0], 1.0, "rank")) == 0
    with pytest.raises(ValueError, match="calibration must be raw, mass or rank, got 'sum'"):
        calibrate(regions, 1.0, "sum")
    for mass in (-1.0, nan, float("inf")):
        with pytest.raises(ValueError, match="expected a mass of attention from 0"):
            calibrate(regions, mass, "mass")


# Intervals


def test_an_interval_is_around_the_share_and_comes_again_with_its_seed():
    photos = [str(k // 2) for k in range(80)]
    hits = np.array([[k % 3 == 0, True] for k in range(80)], float)
    counts = np.ones(80)
    (low, high), certain = bootstrap(photos, hits, counts)
    assert low < hits[:, 0].mean() < high
    assert certain == [1, 1]
    again, other = bootstrap(photos, hits, counts), bootstrap(photos, hits, counts, seed=1)
    assert again[0] == [low, high]
    assert other[0] != [low, high]
    # nearly that of a sample of 80, ± 1.96 √(p (1 - p) / n), pairs being nearly independent
    assert high - low == pytest.approx(2 * 1.96 * (27 / 80 * 53 / 80 / 80) ** 0.5, rel=0.35)


def test_photos_are_drawn_and_not_instances():
    """Hits that come by the photo are less sure than the same number of them spread evenly."""
    counts, hits = np.ones(100), np.array([[k < 50] for k in range(100)], float)
    (by_photo,) = bootstrap([str(k // 10) for k in range(100)], hits, counts)
    (spread,) = bootstrap([str(k % 10) for k in range(100)], hits, counts)
    assert by_photo[1] - by_photo[0] > 0.4
    assert spread == [0.5, 0.5]


def test_an_instance_that_counts_twice_weighs_twice():
    photos, hits, counts = ["a", "b"], np.array([[2.0], [0.0]]), np.array([2.0, 1.0])
    drawn = [0, 2 / 3, 1]
    (interval,) = bootstrap(photos, hits, counts, rounds=200)
    assert interval == [drawn[0], drawn[2]]


@pytest.mark.parametrize(("photos", "rounds"), [(["a", "a"], 100), ([], 100), (["a", "b"], 0)])
def test_a_photo_alone_has_no_interval(photos, rounds):
    count = len(photos)
    assert bootstrap(photos, np.ones((count, 4)), np.ones(count), rounds=rounds) == [None] * 4


def test_intervals_are_of_the_recall_that_is_given():
    instances = [thing((0, 0, 10, 10), photo=str(k), types=TYPES[: 1 + k % 2]) for k in range(12)]
    predictions = [found((0, 0, 10, 10) if k % 4 else FAR) for k in range(12)]
    scores = score_boxes(instances, predictions, ZHANG, rounds=300)["all"]
    for measure in MEASURES:
        low, high = scores["interval"][measure]
        assert low < scores["recall"][measure] < high
    assert scores == score_boxes(instances, predictions, ZHANG, rounds=300)["all"]
    once = score_boxes(instances, predictions, replace(ZHANG, per_type=False), rounds=300)["all"]
    assert (scores["recall"]["1"], once["recall"]["1"]) == (15 / 18, 9 / 12)
    assert scores["interval"]["1"] != once["interval"]["1"]
