"""Near duplicates among candidates, and the overlaps by which they are told."""

import numpy as np

from proposals.compiled import compiled
from proposals.mcg.watershed import Ints, Reals


def distinct_parts(intervals: Ints, running: Reals, *, jaccard: float) -> Ints:
    """Candidates of one hierarchy, by index, that are no near duplicates of an earlier one that is kept.

    Args:
        intervals: (N, 4, 2), the parts of a candidate, as intervals of the hierarchy's order of superpixels.
        running: (n + 1,), the area of all superpixels before each place in that order.
        jaccard: intersection over union from which two candidates are near duplicates.
    """
    areas = (running[intervals[..., 1]] - running[intervals[..., 0]]).sum(1)
    keep = np.ones(len(areas), np.bool_)
    _drop_repeated_parts(intervals, running, areas, *_bins(areas, jaccard), jaccard / (1 + jaccard), keep)
    return np.flatnonzero(keep)


def distinct_outlines(
    members: tuple[Ints, Ints], weights: Reals, areas: Reals, boxes: Reals, *, jaccard: float
) -> Ints:
    """Candidates of any hierarchy, by index, that are no near duplicates of an earlier one that is kept.

    Args:
        members: the superpixels of the candidates, in CSR form, ascending within a candidate.
        weights: (n,), the area of each superpixel.
        areas: (N,), of the candidates.
        boxes: (N, 4), of the candidates.
        jaccard: intersection over union from which two candidates are near duplicates.
    """
    keep = np.ones(len(areas), np.bool_)
    _drop_repeated_outlines(*members, weights, areas, boxes, *_bins(areas, jaccard), jaccard / (1 + jaccard), keep)
    return np.flatnonzero(keep)


def _bins(areas: Reals, jaccard: float) -> tuple[Ints, Ints, Ints]:
    """A bin for each candidate, such that near duplicates lie in the same or in neighbouring bins, and empty lists.

    Returns:
        The bins (N,), and linked lists of what a bin holds: its last candidate, and before each candidate the previous
        one; -1 for none.
    """
    bins = (np.log(np.maximum(areas, 1)) / np.log(1 / jaccard)).astype(np.int64)
    return bins, np.full(bins.max(initial=0) + 3, -1), np.full(len(areas), -1)


@compiled
def _drop_repeated_parts(intervals, running, areas, bins, last, previous, share, keep):  # type: ignore[no-untyped-def]
    for i in range(len(areas)):
        for about in range(max(bins[i] - 1, 0), bins[i] + 2):
            j = last[about]
            while j >= 0 and keep[i]:
                common = 0.0
                for a in range(intervals.shape[1]):
                    for b in range(intervals.shape[1]):
                        start = max(intervals[i, a, 0], intervals[j, b, 0])
                        end = min(intervals[i, a, 1], intervals[j, b, 1])
                        if start < end:
                            common += running[end] - running[start]
                keep[i] = common < share * (areas[i] + areas[j]) - 1e-9
                j = previous[j]
        if keep[i]:
            previous[i], last[bins[i]] = last[bins[i]], i


@compiled
def _drop_repeated_outlines(offsets, members, weights, areas, boxes, bins, last, previous, share, keep):  # type: ignore[no-untyped-def]
    for i in range(len(areas)):
        for about in range(max(bins[i] - 1, 0), bins[i] + 2):
            j = last[about]
            while j >= 0 and keep[i]:
                least = share * (areas[i] + areas[j]) - 1e-9  # the area that near duplicates share
                keep[i] = box_intersection(boxes, i, j) < least or shared_area(offsets, members, weights, i, j) < least
                j = previous[j]
        if keep[i]:
            previous[i], last[bins[i]] = last[bins[i]], i


@compiled
def box_intersection(boxes, i, j):  # type: ignore[no-untyped-def]
    """The area that two of the boxes (N, 4) share."""
    width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
    height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
    return max(width, 0.0) * max(height, 0.0)


@compiled
def shared_area(offsets, members, weights, i, j):  # type: ignore[no-untyped-def]
    """The area that two candidates share, from their ascending superpixels (CSR) and those superpixels' areas."""
    total = 0.0
    first, second = offsets[i], offsets[j]
    while first < offsets[i + 1] and second < offsets[j + 1]:
        if members[first] == members[second]:
            total += weights[members[first]]
            first += 1
            second += 1
        elif members[first] < members[second]:
            first += 1
        else:
            second += 1
    return total
