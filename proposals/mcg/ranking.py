"""Ranking of candidates: a regression forest predicts their overlap with an object, then they are made diverse."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled
from proposals.mcg.duplicates import box_intersection, shared_area
from proposals.mcg.grouping import FEATURES, Groups
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


def diversify(groups: Groups, scores: Reals, areas: Reals, *, theta: float, count: int) -> tuple[Ints, Reals]:
    """Maximal marginal relevance: take candidates that score high and overlap little with those taken already.

    The next one maximises θ · score − (1 − θ) · its largest overlap (IoU) with those taken, and that is its new score.

    Args:
        groups: N candidates.
        scores: (N,), one for each group.
        areas: (n,), pixels of each superpixel.
        theta: θ, from 0 (diversity alone) to 1 (scores alone).
        count: the greatest number of candidates to take.

    Returns:
        Indices of the chosen groups, best first, and their new scores.
    """
    values = theta * scores
    queue = np.argsort(-values, kind="stable")
    taken = np.zeros(min(count, len(groups)), np.int64)
    overlaps, compared = np.zeros(len(groups)), np.zeros(len(groups), np.int64)
    _take(
        *groups.members, areas, groups.boxes, groups.areas, scores, theta, values, overlaps, compared, queue, taken
    )  # fmt: skip
    return taken, values[taken]


@compiled
def _take(offsets, members, weights, boxes, areas, scores, theta, values, overlaps, compared, queue, taken):  # type: ignore[no-untyped-def]
    """Choose the candidates of `taken`, in turn.

    Overlap only grows as more are taken: an old value is a bound, and only that of the first in the queue needs to be
    brought up to date. It then moves back to its place; of equal values, the lower index comes first.
    """
    head, done = 0, 0
    while done < len(taken):
        i = queue[head]
        if compared[i] == done:
            taken[done] = i
            done += 1
            head += 1
            continue
        for place in range(compared[i], done):
            j = taken[place]
            both = areas[i] + areas[j]
            most = min(box_intersection(boxes, i, j), areas[i], areas[j])
            if most > overlaps[i] * (both - most):  # otherwise even all of it would change nothing
                common = shared_area(offsets, members, weights, i, j)
                overlaps[i] = max(overlaps[i], common / (both - common))
        compared[i] = done
        values[i] = theta * scores[i] - (1 - theta) * overlaps[i]
        place = head
        while place + 1 < len(queue) and (
            values[queue[place + 1]] > values[i] or (values[queue[place + 1]] == values[i] and queue[place + 1] < i)
        ):
            queue[place] = queue[place + 1]
            place += 1
        queue[place] = i
