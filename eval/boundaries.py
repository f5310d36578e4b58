"""The boundary benchmark of BSDS500 (Martin et al. 2004; Arbeláez et al. 2011): ODS, OIS and average precision.

A found boundary pixel is right where some person drew one nearby, and is paired with no more than one pixel of each
person; a drawn pixel is found where it is paired. Pairs lie within 0.0075 of the photo's diagonal, as many as can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

TOLERANCE = 0.0075  # of the photo's diagonal
THRESHOLDS = np.arange(1, 100) / 100

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels of boundaries at each of T thresholds, of one photo or of several together."""

    thresholds: Floats  # (T,), ascending
    matched_truth: Integers  # (T,), drawn pixels that are paired, summed over people
    truth: Integers  # (T,), drawn pixels, summed over people
    matched_found: Integers  # (T,), found pixels that are paired with some person's
    found: Integers  # (T,)

    @property
    def recall(self) -> Floats:
        """(T,); 0 where nothing was drawn."""
        return self.matched_truth / np.maximum(self.truth, 1)

    @property
    def precision(self) -> Floats:
        """(T,); 0 where nothing was found, as in the official benchmark."""
        return self.matched_found / np.maximum(self.found, 1)


@dataclass(frozen=True, slots=True)
class Score:
    """A point on a precision-recall curve."""

    f: float  # harmonic mean of precision and recall
    precision: float
    recall: float
    threshold: float  # NaN where each photo has its own


def boundary_counts(
    strength: NDArray[Any], people: NDArray[np.bool_], thresholds: Floats = THRESHOLDS, *, tolerance: float = TOLERANCE
) -> Counts:
    """Compare a photo's boundaries with what people drew, at each threshold.

    The official code pairs pixels by a minimum-cost assignment in which to leave a pixel alone costs far more than any
    pair. So it makes a largest number of pairs, as is done here, and its recall is ours. Which of equally many pairs
    it prefers can differ, and with it, slightly, how many found pixels are paired with at least one of the people.

    Args:
        strength: (H, W), after non-maximum suppression; pixels at or above a threshold are boundaries, which are
            thinned once more to one pixel (Guo and Hall 1989).
        people: (N, H, W), the boundary that each person drew.
        thresholds: (T,), ascending, above 0.
        tolerance: the largest distance of a pair, as a share of the photo's diagonal.

    Raises:
        ValueError: shapes do not fit, strength holds NaN, or a threshold lets everything through.
    """
    if strength.ndim != 2 or people.ndim != 3 or people.shape[1:] != strength.shape:
        raise ValueError(f"expected (H, W) and (N, H, W), got {strength.shape} and {people.shape}")
    if np.isnan(strength).any() or not (thresholds > 0).all():
        raise ValueError("expected strength without NaN and thresholds above 0")
    offsets = _offsets(tolerance * float(np.hypot(*strength.shape)))
    reach = int(offsets.max(initial=0))
    numbered = [_number(np.pad(person, reach)) for person in people.astype(bool)]
    matched_truth, matched_found, found = np.zeros((3, len(thresholds)), np.int64)
    last: NDArray[np.bool_] | None = None
    for k, threshold in enumerate(thresholds):
        is_strong = strength >= threshold
        if last is not None and np.array_equal(is_strong, last):
            matched_truth[k], matched_found[k], found[k] = matched_truth[k - 1], matched_found[k - 1], found[k - 1]
            continue
        last = is_strong
        y, x = np.nonzero(thin_to_pixels(is_strong))
        is_matched = np.zeros(len(y), bool)
        for numbers, count in numbered:
            is_paired = _pair(y + reach, x + reach, numbers, count, offsets) >= 0
            matched_truth[k] += is_paired.sum()
            is_matched |= is_paired
        matched_found[k], found[k] = is_matched.sum(), len(y)
    truth = np.full(len(thresholds), people.astype(bool).sum(), np.int64)
    return Counts(np.asarray(thresholds, np.float64), matched_truth, truth, matched_found, found)


def thin_to_pixels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a mask (H, W) to lines that are one pixel wide."""
    padded = np.pad(mask, 1).astype(np.uint8) * 255  # the thinning leaves an image's border as it is
    lines: NDArray[np.bool_] = cv2.ximgproc.thinning(padded, thinningType=cv2.ximgproc.THINNING_GUOHALL)[1:-1, 1:-1] > 0
    return lines


def total(photos: Sequence[Counts]) -> Counts:
    """The counts of several photos together.

    Raises:
        ValueError: there are none, or their thresholds differ.
    """
    if not photos:
        raise ValueError("no photos, so no score")
    if any(not np.array_equal(counts.thresholds, photos[0].thresholds) for counts in photos):
        raise ValueError("photos are counted at different thresholds")
    return Counts(
        photos[0].thresholds,
        np.sum([counts.matched_truth for counts in photos], 0),
        np.sum([counts.truth for counts in photos], 0),
        np.sum([counts.matched_found for counts in photos], 0),
        np.sum([counts.found for counts in photos], 0),
    )


def ods(photos: Sequence[Counts]) -> Score:
    """The best F with one threshold for the whole data set, between thresholds by linear interpolation."""
    counts = total(photos)
    step = np.linspace(0, 1, 100)
    threshold, precision, recall = (
        np.append(np.outer(values[:-1], 1 - step) + np.outer(values[1:], step), values[-1])
        for values in (counts.thresholds, counts.precision, counts.recall)
    )
    f = _f(precision, recall)
    best = int(f.argmax())
    return Score(float(f[best]), float(precision[best]), float(recall[best]), float(threshold[best]))


def ois(photos: Sequence[Counts]) -> Score:
    """The F of all photos together, each at the threshold that is best for it."""
    total(photos)  # raises where counts cannot be added up
    best = [int(_f(counts.precision, counts.recall).argmax()) for counts in photos]
    matched_truth, truth, matched_found, found = (
        sum(int(values[k]) for values, k in zip(counts, best, strict=True))
        for counts in zip(*((c.matched_truth, c.truth, c.matched_found, c.found) for c in photos), strict=True)
    )
    precision, recall = matched_found / max(found, 1), matched_truth / max(truth, 1)
    return Score(float(_f(precision, recall)), precision, recall, float("nan"))


def average_precision(photos: Sequence[Counts]) -> float:
    """The area under the curve of all photos together: precision at each hundredth of recall, 0 beyond the curve."""
    counts = total(photos)
    recall, first = np.unique(counts.recall, return_index=True)
    if len(recall) < 2:
        return 0.0
    at = np.linspace(0, 1, 101)
    return float(np.interp(at, recall, counts.precision[first], left=0, right=0).sum() / 100)


def _f(precision: Any, recall: Any) -> Any:
    both = precision + recall
    return 2 * precision * recall / np.where(both == 0, 1, both)


def _offsets(radius: float) -> Integers:
    """The (dy, dx) of all pixels within a distance, nearest first."""
    reach = int(radius)
    grid: Integers = np.indices((2 * reach + 1,) * 2, np.int64).reshape(2, -1).T - reach
    squares = (grid**2).sum(1)
    order = squares.argsort(kind="stable")
    return np.ascontiguousarray(grid[order][squares[order] <= radius**2])


def _number(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the set pixels of a mask from 0, (H, W), with -1 elsewhere; returns their count, too."""
    count = int(mask.sum())
    numbers = np.full(mask.shape, -1, np.int32)
    numbers[mask] = np.arange(count)
    return numbers, count


def _paired(y: Integers, x: Integers, numbers: NDArray[np.int32], count: int, offsets: Integers) -> Integers:
    """A maximum matching of found pixels (M,) with one person's: the number of each one's partner, or -1.

    The nearest are paired first. Then each found pixel that is left over looks, breadth first, for an augmenting path:
    a chain of pairs that can each move on by one, to a drawn pixel that is free. What a search without success has
    reached is of no use to any later one (it is a Hungarian tree) and is not entered again, so all failures together
    cost no more than one pass over the graph.
    """
    partner = np.full(len(y), -1, np.int64)
    owner = np.full(count, -1, np.int64)  # of a drawn pixel
    for dy, dx in offsets:
        for i in range(len(y)):
            if partner[i] < 0:
                j = numbers[y[i] + dy, x[i] + dx]
                if j >= 0 and owner[j] < 0:
                    partner[i], owner[j] = j, i
    is_reached = np.zeros(count, np.bool_)
    reached = np.empty(count, np.int64)
    reached_from = np.empty(count, np.int64)
    for start in range(len(y)):
        if partner[start] >= 0:
            continue
        free, head, tail = -1, 0, 0
        i = start
        while free < 0:
            for dy, dx in offsets:
                j = numbers[y[i] + dy, x[i] + dx]
                if j >= 0 and not is_reached[j]:
                    is_reached[j] = True
                    reached[tail], reached_from[j] = j, i
                    tail += 1
                    if owner[j] < 0:
                        free = j
                        break
            if head == tail:
                break
            i = owner[reached[head]]
            head += 1
        if free >= 0:
            for j in reached[:tail]:
                is_reached[j] = False
            while free >= 0:
                i = reached_from[free]
                freed = partner[i]
                partner[i], owner[free] = free, i
                free = freed
    return partner


_pair: Any = njit(_paired)
