"""Judge the ranked boxes of each phrase by a protocol; the measures of `eval.metrics` follow from the judgements.

The rules are those of the evaluator of Flickr30k Entities (Plummer et al. 2015), as Zhang et al. used it, and of the
evaluators that came after it; a `BoxProtocol` says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eval.errors import CORRECT, Outcome, other_boxes, outcome
from eval.flickr30k import TYPES
from eval.protocols import CALIBRATIONS, BoxProtocol
from eval.records import Instance, Prediction
from grounding.records import Regions


@dataclass(frozen=True, eq=False)
class Judged:
    """An instance, and how good its boxes are."""

    instance: Instance
    rank: int | None  # of the first correct box, from 1, after the evaluator's own suppression; None: there is none
    is_within_reach: bool  # whether any box is correct, before suppression
    first_iou: float  # IoU of the first box with the truth, the best of several; 0 without boxes
    outcome: Outcome  # whether the first box is correct, or which error it makes
    scores: Tensor  # (M,), float64, of the ranked boxes, calibrated, descending
    raw_scores: Tensor  # (M,), float64, of the same boxes, as they were predicted, descending


def union_box(boxes: Tensor) -> Tensor:
    """The smallest box (4,) around boxes (G, 4), at least one.

    >>> union_box(torch.tensor([[0, 0, 10, 10], [30, 5, 40, 20]]))
    tensor([ 0,  0, 40, 20])
    """
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])


def share_of_photo(box: Tensor, size: tuple[int, int]) -> float:
    """The area of a box (4,) over that of a photo of this (height, width)."""
    x1, y1, x2, y2 = box.tolist()
    return float((x2 - x1) * (y2 - y1) / (size[0] * size[1]))


def is_small(instance: Instance, share: float) -> bool:
    """Whether an instance's union box covers less than this share of the photo."""
    return share_of_photo(union_box(instance.boxes), instance.size) < share


def calibrate(scores: Tensor, mass: float, mode: str) -> Tensor:
    """Scores that can be compared between phrases. Their order stays, and with it recall; average precision changes.

    Args:
        scores: (N,), best first.
        mass: sum of the attention map that they were computed from.
        mode: ``raw``: as they are; ``mass``: over the mass, so that a map counts by its form alone, and a guess without
            a map comes last, its scores below 0; ``rank``: 1, 1/2, 1/3, …, so that all best boxes are alike.

    Raises:
        ValueError: the mass is negative or NaN, or there is no such mode.

    >>> calibrate(torch.tensor([6.0, 3.0]), mass=3.0, mode="mass")
    tensor([2., 1.], dtype=torch.float64)
    """
    if mode not in CALIBRATIONS:
        raise ValueError(f"calibration must be {', '.join(CALIBRATIONS[:-1])} or {CALIBRATIONS[-1]}, got {mode!r}")
    if not 0 <= mass < float("inf"):
        raise ValueError(f"expected a mass of attention from 0, got {mass}")
    if mode == "raw":
        return scores
    scores = scores.double()
    if mode == "mass":
        return scores / mass if mass > 0 else scores / (1 + scores.abs()) - 1
    return 1 / torch.arange(1, len(scores) + 1).to(scores)


def calibrated(prediction: Prediction, mode: str) -> Prediction:
    """A prediction with calibrated scores (see `calibrate`)."""
    regions = prediction.regions
    return replace(prediction, regions=Regions(regions.boxes, calibrate(regions.scores, prediction.mass, mode)))


def judge(
    instance: Instance,
    prediction: Prediction,
    protocol: BoxProtocol,
    *,
    calibration: str = "raw",
    others: Tensor | None = None,
) -> Judged:
    """Find the first correct box of an instance, and the error of its first box.

    Args:
        instance: the phrase, with the boxes to find.
        prediction: the ranked boxes.
        protocol: the rules.
        calibration: of the scores, see `calibrate`.
        others: boxes (M, 4) of other things that it can be taken for; None where none are known.

    Raises:
        ValueError: the prediction's scores rise or are NaN, a box is not finite, or there is no such calibration.
    """
    if protocol.parsed_only and not instance.is_parsed:
        prediction = replace(prediction, regions=prediction.regions[:0])
    boxes = prediction.regions.boxes.detach().to("cpu", torch.float64)  # an IoU of just .5 is correct
    raw_scores = prediction.regions.scores.detach().to("cpu", torch.float64)
    if not boxes.isfinite().all() or raw_scores.isnan().any() or (raw_scores[1:] > raw_scores[:-1]).any():
        raise ValueError(f"{_name(instance)}: expected finite boxes, best first, with scores that do not rise")
    scores = calibrate(raw_scores, prediction.mass, calibration)
    truth = _truth(instance, protocol)
    overlaps = _overlaps(boxes, truth)
    is_within_reach = bool((overlaps >= CORRECT).any())
    if protocol.suppression is not None:
        kept = _unsuppressed(boxes, protocol.suppression)
        overlaps, scores, raw_scores = overlaps[kept], scores[kept], raw_scores[kept]
    correct = (overlaps >= CORRECT).nonzero()
    return Judged(
        instance,
        rank=int(correct[0]) + 1 if len(correct) else None,
        is_within_reach=is_within_reach,
        first_iou=float(overlaps[0]) if len(overlaps) else 0.0,
        outcome=outcome(
            boxes[0] if len(boxes) else None,  # no suppression drops the first box
            truth,
            truth[:0] if others is None else _as_counted(others, protocol),
        ),
        scores=scores,
        raw_scores=raw_scores,
    )


def judge_all(
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    protocol: BoxProtocol,
    *,
    calibration: str = "raw",
) -> tuple[Judged, ...]:
    """Judge each instance by its prediction.

    Raises:
        ValueError: their numbers differ, an instance has an unknown type, or as `judge` does.
    """
    check_pairs(instances, predictions)
    return tuple(
        judge(instance, prediction, protocol, calibration=calibration, others=others)
        for instance, prediction, others in zip(instances, predictions, other_boxes(instances), strict=True)
    )


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


def _truth(instance: Instance, protocol: BoxProtocol) -> Tensor:
    """The boxes (G, 4), float64, one of which is to be found."""
    return _as_counted(union_box(instance.boxes)[None] if protocol.truth == "union" else instance.boxes, protocol)


def _as_counted(boxes: Tensor, protocol: BoxProtocol) -> Tensor:
    """Annotated boxes (G, 4) as IoU counts them, float64."""
    boxes = boxes.to("cpu", torch.float64)
    return boxes if protocol.iou == "inclusive" else boxes + boxes.new_tensor([1, 1, 0, 0])  # as on disk


def _overlaps(boxes: Tensor, truth: Tensor) -> Tensor:
    """The best IoU of each box (N, 4) with one of the true boxes (G, 4), (N,); 0 for boxes without area."""
    from torchvision.ops import box_iou

    return torch.as_tensor(box_iou(boxes, truth)).nan_to_num(nan=0.0).amax(1)


def _unsuppressed(boxes: Tensor, overlap: float) -> Tensor:
    """Indices of the boxes (N, 4), best first, that no better one that stays overlaps by more than this IoU."""
    from torchvision.ops import nms

    falling = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype)  # by their ranks, since scores may be equal
    return torch.as_tensor(nms(boxes, falling, overlap))


def _name(instance: Instance) -> str:
    return f"photo {instance.photo}, caption {instance.sentence + 1}, {instance.text!r}"
