"""Ranking of candidates: a regression forest predicts their overlap with an object, then they are made diverse."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled
from proposals.mcg.duplicates import box_intersection
from proposals.mcg.grouping import FEATURES
from proposals.mcg.hierarchy import Ints, Reals

RANKER = Path(__file__).resolve().parents[1] / "weights" / "ranker.safetensors"


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
    for i in range(len(features)):
        for tree in range(len(roots)):
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


def diversify(boxes: Reals, scores: Reals, *, theta: float, count: int) -> tuple[Ints, Reals]:
    """Maximal marginal relevance: take boxes that score high and overlap little with those taken already.

    The next box maximises score^θ · (1 − o)^(1 − θ), where o is its largest overlap (IoU) with those taken. A product
    keeps a likely object that was already found behind an unlikely one that is new, whatever the size of the scores.

    Args:
        boxes: (N, 4), xyxy.
        scores: (N,), in [0, 1].
        theta: θ, from 0 (diversity alone) to 1 (scores alone).
        count: the greatest number of boxes to take.

    Returns:
        Indices of the chosen boxes, best first, and the values at which they were taken; of equal ones, the lower index
        comes first.

    >>> boxes = np.array([[0.0, 0, 8, 8], [0, 0, 8, 8.5], [20, 20, 22, 22]])
    >>> diversify(boxes, np.array([0.9, 0.8, 0.1]), theta=0.5, count=2)[0]
    array([0, 2])
    """
    relevance = scores.clip(0) ** theta
    chosen = np.zeros(min(count, len(boxes)), np.int64)
    values = np.zeros(len(chosen))
    _take(np.ascontiguousarray(boxes), relevance, 1 - theta, chosen, values)
    return chosen, values


@compiled
def _take(boxes, relevance, exponent, chosen, values):  # type: ignore[no-untyped-def]
    """Choose the boxes of `chosen` in turn, with their `values`: relevance · (1 − largest overlap)^exponent."""
    areas = np.empty(len(boxes), np.float64)
    for i in range(len(boxes)):
        areas[i] = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
    now = np.empty(len(boxes), np.float64)  # the value of each box; -1 once it is taken
    for i in range(len(boxes)):
        now[i] = relevance[i]
    overlaps = np.full(len(boxes), 0.0)
    best = 0
    for i in range(len(boxes)):
        if now[i] > now[best]:
            best = i
    for place in range(len(chosen)):
        taken = best
        chosen[place], values[place] = taken, now[taken]
        now[taken] = -1.0
        for i in range(len(boxes)):
            if now[i] >= 0:
                common = box_intersection(boxes, i, taken)
                if common > overlaps[i] * (areas[i] + areas[taken] - common):
                    overlaps[i] = common / (areas[i] + areas[taken] - common)
                    now[i] = relevance[i] * (1 - overlaps[i]) ** exponent
            if now[i] > now[best]:
                best = i
