"""How well ranked boxes find phrases: recall at 1, 5 and 10, its upper bound, and average precision of labels.

These are the measures of Flickr30k Entities (Plummer et al. 2015), as Zhang et al. used them. Each instance is judged
once, by a `BoxProtocol`; the place of its first correct box and the scores of its boxes say all the rest. Shares are
from 0 to 1, and None where there is nothing to average.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.flickr30k import TYPES
from eval.protocols import BoxProtocol
from eval.records import Instance, Prediction
from grounding.records import Regions

CORRECT = 0.5  # IoU of a correct box with a true one, at least
DEPTHS = (1, 5, 10)  # k of recall@k
MEASURES = ("1", "5", "10", "bound")
CALIBRATIONS = ("raw", "mass", "rank")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """An instance and what its boxes are worth."""

    instance: Instance
    rank: int | None  # of the first correct box, from 1, after the evaluator's own suppression; None: there is none
    is_within_reach: bool  # whether any box is correct, before suppression
    scores: Tensor  # (M,), float64, of the ranked boxes, descending

    @property
    def hits(self) -> tuple[bool, ...]:
        """Whether it is found, by each of `MEASURES`."""
        return (*(self.rank is not None and self.rank <= depth for depth in DEPTHS), self.is_within_reach)


def union_box(boxes: Tensor) -> Tensor:
    """The smallest box (4,) around boxes (G, 4), at least one."""
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])


def share_of_photo(box: Tensor, size: tuple[int, int]) -> float:
    """The area of a box (4,) over that of a photo of this (height, width)."""
    x1, y1, x2, y2 = box.tolist()
    return float((x2 - x1) * (y2 - y1) / (size[0] * size[1]))


def calibrate(regions: Regions, mass: float, mode: str) -> Regions:
    """Regions with scores that can be compared between phrases. Their order, and so recall, stays; precision changes.

    Args:
        regions: best first.
        mass: sum of the attention map that they were scored with.
        mode: ``raw``: as they are; ``mass``: over the mass, so that a map counts by its form alone, and a guess without
            a map comes last, its scores below 0; ``rank``: 1, 1/2, 1/3, …, so that all best boxes are alike.

    Raises:
        ValueError: the mass is negative or NaN, or there is no such mode.
    """
    if mode not in CALIBRATIONS:
        raise ValueError(f"calibration must be {', '.join(CALIBRATIONS[:-1])} or {CALIBRATIONS[-1]}, got {mode!r}")
    if not 0 <= mass < float("inf"):
        raise ValueError(f"expected a mass of attention from 0, got {mass}")
    if mode == "raw":
        return regions
    scores = regions.scores.double()
    if mode == "mass":
        return replace(regions, scores=scores / mass if mass > 0 else scores / (1 + scores.abs()) - 1)
    return replace(regions, scores=1 / torch.arange(1, len(regions) + 1).to(scores))


def judge(instance: Instance, prediction: Prediction, protocol: BoxProtocol) -> Judged:
    """Find the first correct box of an instance.

    Raises:
        ValueError: the prediction's scores rise or are NaN, or a box is not finite.
    """
    regions, is_hidden = prediction.regions, protocol.parsed_only and not instance.is_parsed
    boxes, scores = (
        values[: 0 if is_hidden else None].detach().to("cpu", torch.float64)  # an IoU of just .5 is correct
        for values in (regions.boxes, regions.scores)
    )
    if not boxes.isfinite().all() or scores.isnan().any() or (scores[1:] > scores[:-1]).any():
        raise ValueError(f"{_name(instance)}: expected finite boxes, best first, with scores that do not rise")
    is_correct = _are_correct(boxes, _truth(instance, protocol))
    is_within_reach = bool(is_correct.any())
    if protocol.suppression is not None:
        kept = _unsuppressed(boxes, protocol.suppression)
        is_correct, scores = is_correct[kept], scores[kept]
    places = is_correct.nonzero()
    return Judged(instance, int(places[0]) + 1 if len(places) else None, is_within_reach, scores)


def judge_all(
    instances: Sequence[Instance], predictions: Sequence[Prediction], protocol: BoxProtocol
) -> tuple[Judged, ...]:
    """Judge instances and their predictions, side by side.

    Raises:
        ValueError: their numbers differ, an instance has an unknown type, or as `judge` does.
    """
    check_pairs(instances, predictions)
    return tuple(judge(*pair, protocol) for pair in zip(instances, predictions, strict=True))


def check_pairs(instances: Sequence[Instance], predictions: Sequence[Prediction]) -> None:
    """Check that there is a prediction for each instance, and that each instance is of a known type.

    Raises:
        ValueError: it is not so, or there is no instance.
    """
    if len(instances) != len(predictions):
        raise ValueError(f"{len(instances)} instances and {len(predictions)} predictions: expected one for each")
    if not instances:
        raise ValueError("no instance to score: no phrase has a box")
    for instance in instances:
        if not instance.types or not set(instance.types) <= set(TYPES):
            types = "/".join(instance.types) or "none"
            raise ValueError(f"{_name(instance)}: its types must be of {', '.join(TYPES)}, got {types}")


def recalls(judged: Sequence[Judged], *, per_type: bool = False) -> dict[str, float | None]:
    """The share of instances that are found, by each of `MEASURES`.

    Args:
        judged: instances.
        per_type: count an instance once for each of its types.
    """
    hits, counts = _hits(judged, per_type=per_type)
    return dict(zip(MEASURES, shares(hits, counts), strict=True))


def average_precision(judged: Sequence[Judged]) -> float:
    """The average precision of a label, from all its instances together (VOC 2007, 11 points).

    The boxes of all instances are sorted by score, equal ones as they come. The first correct box of an instance is a
    true positive; every other box, correct or not, is a false one. Each instance is a positive, without any boxes, too.
    The average is over recall 0, .1 … 1, of the greatest precision at that recall or more; whether a recall is
    reached is counted in whole instances, so that 3 of 10 reach .3.

    For a label with a single instance this is one over the rank of the first correct box. Where each instance has one
    box alone, the authors' code (MATLAB) sums along instances instead of ranks, with wrong values; here it is always
    along ranks.

    Raises:
        ValueError: there is no instance.
    """
    if not judged:
        raise ValueError("no instance: a label without any has no precision")
    scores = torch.cat([one.scores for one in judged])
    is_true = torch.zeros(len(scores), dtype=torch.bool)
    start = 0
    for one in judged:
        if one.rank is not None:
            is_true[start + one.rank - 1] = True
        start += len(one.scores)
    places = is_true[scores.argsort(descending=True, stable=True)].nonzero().flatten().numpy() + 1
    precision = np.arange(1, len(places) + 1) / places
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at that recall or more
    needed = [max(-(-tenths * len(judged) // 10), 1) for tenths in range(11)]  # instances, rounded up
    return float(sum(best[count - 1] for count in needed if count <= len(best)) / 11)


def ap_by_label(judged: Iterable[Judged]) -> dict[str, float]:
    """The average precision of each label, in order of appearance."""
    labels: dict[str, list[Judged]] = {}
    for one in judged:
        labels.setdefault(one.instance.label, []).append(one)
    return {label: average_precision(of_label) for label, of_label in labels.items()}


def bootstrap(
    photos: Sequence[str], hits: Floats, counts: Floats, *, rounds: int = 1000, seed: int = 0
) -> list[list[float] | None]:
    """95 % intervals of shares, from photos drawn with replacement: instances of a photo stand or fall together.

    Args:
        photos: N, the photo of each instance.
        hits: (N, M), by M measures, times the instance's count.
        counts: (N,), how often each instance counts, above 0.
        rounds: how many times as many photos as there are are drawn; 0 for no intervals.
        seed: of the draws.

    Returns:
        M intervals [low, high], the 2.5 and 97.5 % quantiles; None where there are fewer than two photos.
    """
    names, places = np.unique(np.asarray(photos, dtype=str), return_inverse=True)
    if len(names) < 2 or rounds < 1:
        return [None] * hits.shape[1]
    sums = np.zeros((len(names), hits.shape[1] + 1))
    np.add.at(sums, places, np.column_stack([hits, counts]))
    generator = np.random.default_rng(seed)
    drawn = np.stack([sums[generator.integers(len(names), size=len(names))].sum(0) for _ in range(rounds)])
    intervals: list[list[float] | None] = np.quantile(drawn[:, :-1] / drawn[:, -1:], [0.025, 0.975], axis=0).T.tolist()
    return intervals


def shares(hits: Floats, counts: Floats) -> list[float | None]:
    """Hits (N, M) summed over the sum of counts (N,): M shares, None where nothing counts."""
    total = float(counts.sum())
    return [float(found) / total if total else None for found in hits.sum(0)]


def score_boxes(
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    protocol: BoxProtocol,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """All scores of ranked boxes by a protocol, as plain values: of all instances, the small and the large ones.

    Args:
        instances: phrases that own boxes.
        predictions: of each of them.
        protocol: the rules.
        rounds: of the bootstrap over photos; 0 for no intervals.
        seed: of the bootstrap.

    Raises:
        ValueError: as `judge_all` does.
    """
    return score_judged(judge_all(instances, predictions, protocol), protocol, rounds=rounds, seed=seed)


def score_judged(
    judged: Sequence[Judged], protocol: BoxProtocol, *, rounds: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The scores of `score_boxes`, of instances that were judged by this protocol."""
    are_small = [is_small(one.instance, protocol.small) for one in judged]
    subsets = {
        "all": judged,
        "small": tuple(one for one, small in zip(judged, are_small, strict=True) if small),
        "large": tuple(one for one, small in zip(judged, are_small, strict=True) if not small),
    }
    scores = {
        name: summarise(subset, per_type=protocol.per_type, rounds=rounds, seed=seed)
        for name, subset in subsets.items()
    }
    return {"kind": "boxes", "settings": asdict(protocol), **scores}


def is_small(instance: Instance, share: float) -> bool:
    """Whether an instance's union box covers less than this share of the photo."""
    return share_of_photo(union_box(instance.boxes), instance.size) < share


def summarise(judged: Sequence[Judged], *, per_type: bool, rounds: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The scores of some instances together, as plain values.

    Returns:
        ``instances`` and ``photos``, their numbers; ``recall`` and its ``interval`` by `MEASURES`; for each of
        ``types`` its ``instances``, ``recall`` and ``ap``; ``type_mean_recall_5``, ``map_group`` (over types),
        ``map_phrase`` (over labels) and ``labels``, their number. Types that do not occur are in no mean.
    """
    hits, counts = _hits(judged, per_type=per_type)
    photos = [one.instance.photo for one in judged]
    intervals = bootstrap(photos, hits, counts, rounds=rounds, seed=seed)
    of_types = {name: [one for one in judged if name in one.instance.types] for name in TYPES}
    types: dict[str, dict[str, Any]] = {
        name: {
            "instances": len(of_type),
            "recall": recalls(of_type),
            "ap": average_precision(of_type) if of_type else None,
        }
        for name, of_type in of_types.items()
    }
    occurring = [scores for scores in types.values() if scores["instances"]]
    by_label = ap_by_label(judged)
    return {
        "instances": len(judged),
        "photos": len(set(photos)),
        "recall": recalls(judged, per_type=per_type),
        "interval": dict(zip(MEASURES, intervals, strict=True)),
        "types": types,
        "type_mean_recall_5": _mean([scores["recall"]["5"] for scores in occurring]),
        "map_group": _mean([scores["ap"] for scores in occurring]),
        "map_phrase": _mean(list(by_label.values())),
        "labels": len(by_label),
    }


def _truth(instance: Instance, protocol: BoxProtocol) -> Tensor:
    """The boxes (G, 4), float64, one of which is to be found."""
    boxes = instance.boxes.to("cpu", torch.float64)
    if protocol.truth == "union":
        boxes = union_box(boxes)[None]
    return boxes if protocol.iou == "inclusive" else boxes + boxes.new_tensor([1, 1, 0, 0])  # as on disk


def _are_correct(boxes: Tensor, truth: Tensor) -> Tensor:
    """Which of boxes (N, 4) match one of the true boxes (G, 4) well enough, (N,) bool."""
    from torchvision.ops import box_iou

    return torch.as_tensor(box_iou(boxes, truth) >= CORRECT).any(1)


def _unsuppressed(boxes: Tensor, overlap: float) -> Tensor:
    """Indices of the boxes (N, 4), best first, that overlap no better one that stays by more than this IoU."""
    from torchvision.ops import nms

    falling = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype)  # their order, not their scores: these may be equal
    return torch.as_tensor(nms(boxes, falling, overlap))


def _hits(judged: Sequence[Judged], *, per_type: bool) -> tuple[Floats, Floats]:
    """Hits (N, M), each as often as its instance counts, and these counts (N,)."""
    counts = np.array([len(one.instance.types) if per_type else 1 for one in judged], np.float64)
    hits = np.array([one.hits for one in judged], np.float64).reshape(-1, len(MEASURES))
    return hits * counts[:, None], counts


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _name(instance: Instance) -> str:
    return f"photo {instance.photo}, caption {instance.sentence + 1}, {instance.text!r}"
