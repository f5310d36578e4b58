"""Measures of ranked boxes: recall, the overlap of first boxes, and average precision of labels.

Recall at 1, 5 and 10, its upper bound and the average precisions are the measures of Flickr30k Entities (Plummer et al.
2015), as Zhang et al. used them; newer work adds recall at 1 with an IoU of .75, and the mean IoU of the first box.
Shares are from 0 to 1, and None where there is nothing to average.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eval.flickr30k import TYPES
from eval.judging import Judged, is_small
from eval.protocols import BoxProtocol
from eval.result import ERRORS, BoxScores, FirstBoxErrors, MeanPrecision, Measured, Recall, Subset, TypeScores

DEPTHS = (1, 5, 10)  # k of recall@k
STRICT = 0.75  # IoU of a correct box by the stricter measure of first boxes

Floats = NDArray[np.float64]


def recalls(judged: Sequence[Judged], *, per_type: bool = False) -> Recall:
    """The shares of instances that are found, without intervals.

    Args:
        judged: instances.
        per_type: count an instance once for each of its types.
    """
    at_1, at_5, at_10, bound, *_ = (Measured(share) for share in shares(*_values(judged, per_type=per_type)))
    return Recall(at_1=at_1, at_5=at_5, at_10=at_10, bound=bound)


def average_precision(judged: Sequence[Judged], *, raw: bool = False) -> float:
    """The average precision of a label, from all its instances together (VOC 2007, 11 points).

    The boxes of all instances are sorted by score, equal ones as they come. The first correct box of an instance is a
    true positive; every other box, correct or not, is a false one. Each instance is a positive, even one without boxes.
    The average is over recall 0, .1 … 1, of the greatest precision at that recall or more; whether a recall is
    reached is counted in whole instances, so that 3 of 10 reach .3.

    For a label with a single instance this is one over the rank of the first correct box. Where each instance has one
    box alone, the authors' code (MATLAB) sums along instances instead of ranks, with wrong values; here it is always
    along ranks.

    Args:
        judged: the instances of the label.
        raw: sort by the scores as they were predicted, not by the calibrated ones.

    Raises:
        ValueError: there is no instance.
    """
    if not judged:
        raise ValueError("no instance: a label without any has no precision")
    scores = torch.cat([one.raw_scores if raw else one.scores for one in judged])
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


def precision_by_label(judged: Iterable[Judged], *, raw: bool = False) -> dict[str, float]:
    """The average precision of each label, in order of appearance."""
    labels: dict[str, list[Judged]] = {}
    for one in judged:
        labels.setdefault(one.instance.label, []).append(one)
    return {label: average_precision(members, raw=raw) for label, members in labels.items()}


def bootstrap(
    photos: Sequence[str], values: Floats, counts: Floats, *, rounds: int = 1000, seed: int = 0
) -> list[tuple[float, float] | None]:
    """95 % intervals of shares, from photos drawn with replacement: instances of a photo stand or fall together.

    Args:
        photos: N, the photo of each instance.
        values: (N, M), by M measures, times the instance's count.
        counts: (N,), how often each instance counts, above 0.
        rounds: number of samples, each of as many photos as there are; 0 for no intervals.
        seed: the seed of the draws.

    Returns:
        M intervals (low, high), the 2.5 and 97.5 % quantiles; None where there are fewer than two photos.
    """
    names, places = np.unique(np.asarray(photos, dtype=str), return_inverse=True)
    if len(names) < 2 or rounds < 1:
        return [None] * values.shape[1]
    sums = np.zeros((len(names), values.shape[1] + 1))
    np.add.at(sums, places, np.column_stack([values, counts]))
    generator = np.random.default_rng(seed)
    drawn = np.stack([sums[generator.integers(len(names), size=len(names))].sum(0) for _ in range(rounds)])
    low, high = np.quantile(drawn[:, :-1] / drawn[:, -1:], [0.025, 0.975], axis=0).tolist()
    return list(zip(low, high, strict=True))


def shares(values: Floats, counts: Floats) -> list[float | None]:
    """Values (N, M) summed over the sum of counts (N,): M shares, None where nothing counts."""
    total = float(counts.sum())
    return [float(value) / total if total else None for value in values.sum(0)]


def score_judged(judged: Sequence[Judged], protocol: BoxProtocol, *, rounds: int = 1000, seed: int = 0) -> BoxScores:
    """All scores of ranked boxes by the protocol that judged them: of all instances, the small and the large ones.

    Args:
        judged: phrases that own boxes, by `judge_all`.
        protocol: the rules that they were judged by.
        rounds: number of bootstrap samples of the photos; 0 for no intervals.
        seed: the seed of the bootstrap.
    """
    small = [one for one in judged if is_small(one.instance, protocol.small)]
    large = [one for one in judged if not is_small(one.instance, protocol.small)]
    subsets = (summarise(some, per_type=protocol.per_type, rounds=rounds, seed=seed) for some in (judged, small, large))
    scores_all, scores_small, scores_large = subsets
    return BoxScores(protocol=protocol, all=scores_all, small=scores_small, large=scores_large)


def summarise(judged: Sequence[Judged], *, per_type: bool, rounds: int = 1000, seed: int = 0) -> Subset:
    """The scores of some instances together. Types that do not occur are left out of all means."""
    values, counts = _values(judged, per_type=per_type)
    photos = [one.instance.photo for one in judged]
    intervals = bootstrap(photos, values, counts, rounds=rounds, seed=seed)
    at_1, at_5, at_10, bound, strict, overlap, *errors = (
        Measured(share, interval) for share, interval in zip(shares(values, counts), intervals, strict=True)
    )
    types = {name: _score_type([one for one in judged if name in one.instance.types]) for name in TYPES}
    occurring = [scores for scores in types.values() if scores.instances]
    labels = precision_by_label(judged)
    raw_labels = precision_by_label(judged, raw=True)
    return Subset(
        instances=len(judged),
        photos=len(set(photos)),
        recall=Recall(at_1=at_1, at_5=at_5, at_10=at_10, bound=bound),
        recall_at_1_iou_75=strict,
        mean_iou=overlap,
        errors=FirstBoxErrors(**dict(zip(ERRORS, errors, strict=True))),
        types=types,
        type_mean_recall_5=_mean([scores.recall.at_5.share for scores in occurring]),
        precision=MeanPrecision(
            group=_mean([scores.precision for scores in occurring]), phrase=_mean(list(labels.values()))
        ),
        raw_precision=MeanPrecision(
            group=_mean([scores.raw_precision for scores in occurring]), phrase=_mean(list(raw_labels.values()))
        ),
        labels=len(labels),
    )


def _score_type(judged: Sequence[Judged]) -> TypeScores:
    return TypeScores(
        instances=len(judged),
        recall=recalls(judged),
        precision=average_precision(judged) if judged else None,
        raw_precision=average_precision(judged, raw=True) if judged else None,
    )


def _values(judged: Sequence[Judged], *, per_type: bool) -> tuple[Floats, Floats]:
    """The contribution of each instance to each measure (N, 10), times its weight, and these weights (N,).

    The measures are recall at `DEPTHS`, its bound, recall at 1 with an IoU of `STRICT`, the IoU of the first box, and
    the shares of its `ERRORS`.
    """
    counts = np.array([len(one.instance.types) if per_type else 1 for one in judged], np.float64)
    values = np.array(
        [
            [
                *(one.rank is not None and one.rank <= depth for depth in DEPTHS),
                one.is_within_reach,
                one.first_iou >= STRICT,
                one.first_iou,
                *(one.outcome == error for error in ERRORS),
            ]
            for one in judged
        ],
        np.float64,
    )
    return values.reshape(-1, len(DEPTHS) + 3 + len(ERRORS)) * counts[:, None], counts


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None where there are no such values."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
