"""Outlines of candidates: their holes filled, and their area, perimeter and contour strength measured."""

from dataclasses import dataclass

import numpy as np

from proposals.compiled import compiled
from proposals.mcg.hierarchy import Hierarchy, Partition
from proposals.mcg.trees import higra as hg
from proposals.mcg.watershed import Ints, Reals


@dataclass(frozen=True, eq=False)
class Borders:
    """The neighbours of n superpixels, in CSR form, with the contour strength between them."""

    offsets: Ints  # (n + 1,)
    neighbours: Ints
    lengths: Reals  # of the border with each neighbour, in pixels
    strengths: Reals  # of the contour, summed along that border
    rim: Reals  # (n,), pixel sides of each superpixel on the photo's own border
    areas: Reals  # (n,), pixels of each superpixel
    boxes: Reals  # (n, 4), the box of each superpixel, xyxy


@dataclass(frozen=True, eq=False)
class Outlines:
    """N candidates as sets of superpixels without holes, and their measures."""

    members: tuple[Ints, Ints]  # CSR (offsets (N + 1,), superpixels), ascending within a candidate
    boxes: Reals  # (N, 4), xyxy in pixels of the partition
    areas: Reals  # (N,), pixels
    perimeters: Reals  # (N,), pixel sides, those on the photo's own border included
    inner: Reals  # (N,), pixel sides within the photo
    strengths: Reals  # (N,), the contour strength summed along the perimeter within the photo


def find_borders(partition: Partition, hierarchy: Hierarchy) -> Borders:
    """The borders of a partition's superpixels, with the contour strengths of one of its hierarchies."""
    from scipy.ndimage import find_objects

    u, v = partition.pairs.T
    common = hg.Tree(hierarchy.parents).lowest_common_ancestor(u.copy(), v.copy())
    strengths = hierarchy.altitudes[common] * partition.lengths
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    order = np.argsort(ends, kind="stable")
    pixels = partition.superpixels
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    slices = find_objects(pixels + 1)
    return Borders(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=partition.count))]),
        neighbours=others[order],
        lengths=np.tile(partition.lengths, 2)[order],
        strengths=np.tile(strengths, 2)[order],
        rim=np.bincount(rim, minlength=partition.count).astype(np.float64),
        areas=partition.areas,
        boxes=np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.float64),
    )


def outline(intervals: Ints, order: Ints, borders: Borders) -> Outlines:
    """Fill the holes of candidates, and measure them.

    A hole is a set of superpixels that touches the candidate and cannot be left without crossing it. It lies strictly
    within the candidate's box, so that the search for one ends at the first superpixel that does not.

    Args:
        intervals: (N, 4, 2), the parts of each candidate, as intervals of the order; empty where there are fewer.
        order: superpixels.
        borders: the borders of all superpixels.
    """
    count = len(borders.areas)
    offsets, members, boxes = _fill_holes(intervals, order, borders.offsets, borders.neighbours, borders.boxes)
    # Sorted by candidate, and by superpixel within a candidate.
    first = np.repeat(np.arange(len(intervals)) * count, np.diff(offsets))
    members = np.sort(first + members[: offsets[-1]]) - first
    measures = np.zeros((len(intervals), 4))
    owners = np.full(count, -1)
    _measure(
        offsets, members, borders.offsets, borders.neighbours, borders.lengths, borders.strengths, borders.rim,
        borders.areas, owners, measures,
    )  # fmt: skip
    area, perimeter, inner, strength = measures.T
    return Outlines((offsets, members), boxes, area, perimeter, inner, strength)


@compiled
def _fill_holes(intervals, order, offsets, neighbours, boxes):  # type: ignore[no-untyped-def]
    """The superpixels of each candidate and of its holes: CSR offsets and superpixels, and the boxes (N, 4)."""
    count, total = len(boxes), len(intervals)
    starts = np.full(total + 1, 0)
    members = np.empty(1024 + total * 16, np.int64)
    extents = np.empty((total, 4), np.float64)
    owner = np.full(count, -1)  # the last candidate that a superpixel belonged to
    outside = np.full(count, -1)  # the last candidate that a superpixel was found to lie outside of
    seen = np.full(count, -1)  # the last search that reached a superpixel
    stack = np.empty(count, np.int64)
    found = np.empty(count, np.int64)  # superpixels of the candidate, solid ones first
    search = 0
    for i in range(total):
        size = 0
        x1, y1, x2, y2 = np.inf, np.inf, 0.0, 0.0
        for part in range(intervals.shape[1]):
            for position in range(intervals[i, part, 0], intervals[i, part, 1]):
                u = order[position]
                owner[u] = i
                found[size] = u
                size += 1
                x1, y1 = min(x1, boxes[u, 0]), min(y1, boxes[u, 1])
                x2, y2 = max(x2, boxes[u, 2]), max(y2, boxes[u, 3])
        extents[i, 0], extents[i, 1], extents[i, 2], extents[i, 3] = x1, y1, x2, y2
        solid = size
        for k in range(solid):
            for edge in range(offsets[found[k]], offsets[found[k] + 1]):
                root = neighbours[edge]
                if owner[root] != i and outside[root] != i:
                    search += 1
                    size = _fill_hole(
                        root, i, search, size, x1, y1, x2, y2, offsets, neighbours, boxes, owner, outside, seen, stack,
                        found,
                    )  # fmt: skip
        if starts[i] + size > len(members):
            larger = np.empty(2 * (starts[i] + size), np.int64)
            for place in range(starts[i]):
                larger[place] = members[place]
            members = larger
        for k in range(size):
            members[starts[i] + k] = found[k]
        starts[i + 1] = starts[i] + size
    return starts, members, extents


@compiled
def _fill_hole(  # type: ignore[no-untyped-def]
    root, i, search, size, x1, y1, x2, y2, offsets, neighbours, boxes, owner, outside, seen, stack, found
):
    """Explore the outside of candidate `i` from a superpixel beside it, and add the part found if it is a hole.

    Args:
        root: the superpixel at which the search begins.
        i: number of the candidate.
        search: number of the search.
        size: superpixels of the candidate so far, in `found`.
        x1, y1, x2, y2: the candidate's box.

    Returns:
        The number of superpixels of the candidate from then on.
    """
    before, top, is_open = size, 1, False
    stack[0], seen[root] = root, search
    while top > 0 and not is_open:
        top -= 1
        u = stack[top]
        found[size] = u
        size += 1
        is_open = (
            outside[u] == i or boxes[u, 0] <= x1 or boxes[u, 1] <= y1 or boxes[u, 2] >= x2 or boxes[u, 3] >= y2
        )  # fmt: skip
        for edge in range(offsets[u], offsets[u + 1]):
            v = neighbours[edge]
            if owner[v] != i and seen[v] != search:
                seen[v] = search
                stack[top] = v
                top += 1
    for k in range(before, size):
        if is_open:
            outside[found[k]] = i
        else:
            owner[found[k]] = i
    return before if is_open else size


@compiled
def _measure(starts, members, offsets, neighbours, lengths, strengths, rim, areas, owners, measures):  # type: ignore[no-untyped-def]
    """Sum up area, perimeter, inner perimeter and contour strength of candidates, (N, 4).

    Args:
        starts, members: the superpixels of the candidates, in CSR form.
        offsets, neighbours, lengths, strengths, rim, areas: see `Borders`.
        owners: (n,), the candidate that a superpixel was last counted to; -1 before the first.
        measures: (N, 4), zeros, to which is added.
    """
    for i in range(len(measures)):
        for place in range(starts[i], starts[i + 1]):
            owners[members[place]] = i
        for place in range(starts[i], starts[i + 1]):
            u = members[place]
            measures[i, 0] += areas[u]
            measures[i, 1] += rim[u]
            for edge in range(offsets[u], offsets[u + 1]):
                if owners[neighbours[edge]] != i:
                    measures[i, 1] += lengths[edge]
                    measures[i, 2] += lengths[edge]
                    measures[i, 3] += strengths[edge]
