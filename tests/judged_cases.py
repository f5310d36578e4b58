"""Instances, predictions and judgements for tests, and the specification of the evaluator written in plain loops.

The loops work on numbers as they are on disk: corners from 1, the last pixel within.
"""

from dataclasses import replace
from fractions import Fraction

import torch
from hypothesis import strategies as st

from eval.flickr30k import TYPES
from eval.judging import Judged, judge_all
from eval.metrics import score_judged
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


def judged(rank, count, *, scores=None, raw_scores=None, first_iou=0.0, **fields):
    """An instance with so many boxes, of which the one at this rank is the first correct one."""
    scores, raw_scores = (
        torch.tensor(list(range(count, 0, -1) if values is None else values), dtype=torch.float64)
        for values in (scores, scores if raw_scores is None else raw_scores)
    )
    outcome = "correct" if rank == 1 else "elsewhere"
    return Judged(thing((0, 0, 10, 10), **fields), rank, rank is not None, first_iou, outcome, scores, raw_scores)


def score(instances, predictions, protocol, *, calibration="raw", **options):
    """All scores of predictions by a protocol."""
    return score_judged(judge_all(instances, predictions, protocol, calibration=calibration), protocol, **options)


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
    """Rank of the first hit, whether any box hits, the scores of the ranked boxes, and the first one's IoU."""
    ranked = case["ranked"]
    if protocol.parsed_only and not case["is_parsed"]:
        ranked = []
    truth = [around(case["truth"])] if protocol.truth == "union" else case["truth"]

    def iou(box):
        if protocol.iou == "inclusive":
            return max(overlap(box, true, 1) for true in truth)
        x1, y1, x2, y2 = box  # predictions from 0, truth as it stands
        return max(overlap((x1 - 1, y1 - 1, x2, y2), true, 0) for true in truth)

    def is_hit(box):
        return iou(box) >= Fraction(1, 2)

    kept = []
    for box, score in ranked:
        if protocol.suppression is None or all(
            overlap(box, better, 1) <= Fraction(protocol.suppression) for better, _ in kept
        ):
            kept.append((box, score))
    rank = next((place for place, (box, _) in enumerate(kept, 1) if is_hit(box)), None)
    first = iou(kept[0][0]) if kept else Fraction(0)
    return rank, any(is_hit(box) for box, _ in ranked), [score for _, score in kept], first


def ap_in_loops(results):
    """11 points, from (rank, _, scores, _) of the instances of a label."""
    pool = []
    for rank, _, scores, _ in results:
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
    """The scores of some cases together, by name; None where there is nothing to average."""
    types = {name: [r for case, r in zip(cases, results, strict=True) if name in case["types"]] for name in TYPES[:3]}
    labels = {}
    for case, result in zip(cases, results, strict=True):
        labels.setdefault(case["label"], []).append(result)
    counted = [result for members in types.values() for result in members] if protocol.per_type else results
    ranks = [rank for rank, _, _, _ in counted]
    fives = [[rank is not None and rank <= 5 for rank, _, _, _ in members] for members in types.values() if members]

    def mean(values):
        values = list(values)
        return float(sum(values) / Fraction(len(values))) if values else None

    return {
        "at_1": mean(rank is not None and rank <= 1 for rank in ranks),
        "at_5": mean(rank is not None and rank <= 5 for rank in ranks),
        "at_10": mean(rank is not None and rank <= 10 for rank in ranks),
        "bound": mean(is_within_reach for _, is_within_reach, _, _ in counted),
        "strict": mean(first >= Fraction(3, 4) for _, _, _, first in counted),
        "mean_iou": mean(first for _, _, _, first in counted),
        "group": mean(ap_in_loops(members) for members in types.values() if members),
        "phrase": mean(ap_in_loops(members) for members in labels.values()),
        "type_mean_recall_5": mean(mean(five) for five in fives),
        "labels": len(labels),
        "instances": len(cases),
    }
