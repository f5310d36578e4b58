"""Which candidates come first: a regression forest's guess of their overlap with an object, and diversity."""

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled
from proposals.grouping import Groups, Reals, box_intersection, shared
from proposals.hierarchy import Ints

FEATURES = 16
RANKER = Path(__file__).resolve().parent / "weights" / "ranker.safetensors"


@dataclass(frozen=True, eq=False)
class Forest:
    """Regression trees, their nodes one after the other; a plain record, so that no file of one needs unpickling."""

    roots: NDArray[np.int32]  # (T,), the first node of each tree
    features: NDArray[np.int16]  # (M,), which feature a node asks for; -1 at a leaf
    thresholds: NDArray[np.float32]  # (M,); up to it, left
    children: NDArray[np.int32]  # (M, 2), left and right
    values: NDArray[np.float32]  # (M,), what a leaf answers

    def __call__(self, features: NDArray[np.float32]) -> Reals:
        """The mean answer of the trees, (N,), to features (N, F)."""
        answers: Reals = _ask(self.roots, self.features, self.thresholds, self.children, self.values, features)
        return answers


@compiled
def _ask(roots, asked, thresholds, children, values, features):  # type: ignore[no-untyped-def]
    answers = np.zeros(len(features))
    for i in range(len(features)):
        for root in roots:
            node = root
            while asked[node] >= 0:
                node = children[node, 0 if features[i, asked[node]] <= thresholds[node] else 1]
            answers[i] += values[node]
    return answers / len(roots)


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
    """A forest as safetensors, with plain text about it."""
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
    nodes = len(forest.features)
    if (
        forest.children.shape != (nodes, 2)
        or not len(forest.thresholds) == len(forest.values) == nodes
        or not len(forest.roots)
        or not (forest.features < FEATURES).all()
        or not np.isfinite(forest.values).all()
    ):
        raise ValueError(f"{path}: the trees of this ranker are damaged")
    later = forest.children > np.arange(nodes)[:, None]  # so that every walk ends
    inside = forest.children < nodes
    if not (later & inside)[forest.features >= 0].all() or not ((forest.roots >= 0) & (forest.roots < nodes)).all():
        raise ValueError(f"{path}: the trees of this ranker are damaged")
    return forest


def diversify(groups: Groups, scores: Reals, areas: Reals, *, theta: float, count: int) -> tuple[Ints, Reals]:
    """Maximal marginal relevance: take what scores high and overlaps little with what is taken already.

    The next one maximises θ · score − (1 − θ) · its largest overlap with those taken, and that is its new score.

    Args:
        scores: of the groups, (N,).
        areas: of the superpixels, (n,).
        theta: θ, from 0 (diversity alone) to 1 (scores alone).
        count: how many to take at most.

    Returns:
        Which groups, best first, and their new scores.
    """
    if len(groups) == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    most = min(count, len(groups))
    chosen, values = _diversify(*groups.members, areas, groups.boxes, groups.areas, scores, theta, most)
    return chosen, values


@compiled
def _diversify(offsets, members, weights, boxes, areas, scores, theta, count):  # type: ignore[no-untyped-def]
    # Overlap only grows as more are taken: an old value is a bound, and only the best need be brought up to date.
    overlap = np.zeros(len(scores))
    compared = np.zeros(len(scores), np.int64)
    heap = [(-theta * scores[i], i) for i in range(len(scores))]
    heapq.heapify(heap)
    chosen = np.empty(count, np.int64)
    values = np.empty(count)
    taken = 0
    while taken < count:
        value, i = heapq.heappop(heap)
        if compared[i] == taken:
            chosen[taken], values[taken] = i, -value
            taken += 1
            continue
        for j in chosen[compared[i] : taken]:
            both = areas[i] + areas[j]
            most = min(box_intersection(boxes[i], boxes[j]), areas[i], areas[j])
            if most > overlap[i] * (both - most):  # otherwise even all of it would change nothing
                most = shared(offsets, members, weights, i, j)
                overlap[i] = max(overlap[i], most / (both - most))
        compared[i] = taken
        heapq.heappush(heap, (-(theta * scores[i] - (1 - theta) * overlap[i]), i))
    return chosen, values
