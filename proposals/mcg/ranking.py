"""Ranking of candidates: a regression forest predicts their overlap with an object, then they are made diverse."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled
from proposals.mcg.duplicates import box_intersection
from proposals.mcg.grouping import FEATURES
from proposals.mcg.watershed import Ints, Reals

RANKER = Path(__file__).resolve().parents[1] / "weights" / "ranker.safetensors"
POWERS = (8, 1)  # of a prediction: among the likely candidates that come first, and among the others


@dataclass(frozen=True, eq=False)
class Forest:
    """Regression trees, their nodes one after the other; a plain record, so that no file of one needs unpickling."""

    roots: NDArray[np.int32]  # (T,), the first node of each tree
    features: NDArray[np.int16]  # (M,), the feature that a node compares; -1 at a leaf
    thresholds: NDArray[np.float32]  # (M,); features up to this value go left
    children: NDArray[np.int32]  # (M, 2), the left and the right child
    values: NDArray[np.float32]  # (M,), the prediction of a leaf

    def __call__(self, features: NDArray[np.float32]) -> Reals:
        """The mean prediction of the trees, (N,), for features (N, F)."""
        sums = np.zeros(len(features))
        _add_predictions(self.roots, self.features, self.thresholds, self.children, self.values, features, sums)
        return sums / len(self.roots)


@compiled
def _add_predictions(roots, compared, thresholds, children, values, features, sums):  # type: ignore[no-untyped-def]
    for tree in range(len(roots)):  # one after the other: a tree fits into a core's cache, all of them do not
        for i in range(len(features)):
            node = roots[tree]
            while compared[node] >= 0:
                node = children[node, 0 if features[i, compared[node]] <= thresholds[node] else 1]
            sums[i] += values[node]


def forest_of(trees: Any) -> Forest:
    """The plain record of a fitted `sklearn.ensemble.RandomForestRegressor`."""
    parts = [estimator.tree_ for estimator in trees.estimators_]
    roots = np.cumsum([0, *(part.node_count for part in parts[:-1])])
    is_leaf = np.concatenate([part.children_left < 0 for part in parts])
    children = [
        np.stack([part.children_left, part.children_right], 1) + root for part, root in zip(parts, roots, strict=True)
    ]
    return Forest(
        roots.astype(np.int32),
        np.where(is_leaf, -1, np.concatenate([part.feature for part in parts])).astype(np.int16),
        # scikit-learn compares single-precision features with a double threshold; rounded down, the answer is the same.
        _rounded_down(np.concatenate([part.threshold for part in parts])),
        np.where(is_leaf[:, None], 0, np.concatenate(children)).astype(np.int32),
        np.concatenate([part.value[:, 0, 0] for part in parts]).astype(np.float32),
    )


def _rounded_down(values: Reals) -> NDArray[np.float32]:
    single = values.astype(np.float32)
    return np.where(single > values, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)


def save_forest(forest: Forest, **about: str) -> bytes:
    """A forest as safetensors, with plain texts about it as metadata."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in vars(forest).items()}, about)


def load_forest(path: str | Path) -> Forest:
    """A forest from safetensors.

    Raises:
        ValueError: the file is not there or holds no forest.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        forest = Forest(**load_file(path))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: no ranker can be read: {error}") from None
    except TypeError:
        raise ValueError(f"{path}: these are not the trees of a ranker") from None
    if not _is_whole(forest):
        raise ValueError(f"{path}: the trees of this ranker are damaged")
    return forest


def _is_whole(forest: Forest) -> bool:
    """Whether every walk through the trees stays among the nodes and ends at a finite value."""
    nodes = len(forest.features)
    if (
        forest.children.shape != (nodes, 2)
        or not len(forest.thresholds) == len(forest.values) == nodes
        or not len(forest.roots)
        or not (forest.features < FEATURES).all()
        or not np.isfinite(forest.values).all()
    ):
        return False
    is_later = forest.children > np.arange(nodes)[:, None]  # so that every walk ends
    is_inside = forest.children < nodes
    are_roots = (forest.roots >= 0) & (forest.roots < nodes)
    return bool((is_later & is_inside)[forest.features >= 0].all() and are_roots.all())


def diversify(boxes: Reals, scores: Reals, *, likely: int, count: int) -> Ints:
    """Choose candidates in turn that score high and whose boxes overlap little with those chosen before.

    The next one maximises scoreᵖ · (1 − the largest overlap of its box with one chosen before). The power p is high at
    first, so that a likely object comes in many variants, and low afterwards, so that small things are found as well.

    Args:
        boxes: (N, 4), xyxy, of some area.
        scores: (N,), from 0 to 1.
        likely: how many are chosen with the high power.
        count: the greatest number of candidates to choose.

    Returns:
        Indices of the chosen candidates, in turn; of equal ones, the lower index comes first.
    """
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    chosen = np.zeros(min(count, len(boxes)), np.int64)
    _choose(boxes, sizes, *(scores**power for power in POWERS), likely, chosen)
    return chosen


@compiled
def _choose(boxes, sizes, first_scores, later_scores, likely, chosen):  # type: ignore[no-untyped-def]
    new = np.ones(len(boxes))  # 1 - the largest overlap with those chosen; negative once a candidate is chosen
    for turn in range(len(chosen)):
        scores = first_scores if turn < likely else later_scores
        best, highest = 0, -1.0
        for i in range(len(boxes)):
            if new[i] >= 0 and scores[i] * new[i] > highest:
                best, highest = i, scores[i] * new[i]
        chosen[turn] = best
        for i in range(len(boxes)):
            common = box_intersection(boxes, i, best)
            new[i] = min(new[i], 1 - common / (sizes[i] + sizes[best] - common))
        new[best] = -1
