"""Combinatorial grouping: regions of hierarchies and what neighbours make together (Pont-Tuset et al. 2017, section 5).

A candidate is one region, or a pair, triplet or 4-tuple of regions that touch and stand side by side at some level of a
hierarchy. Candidates are taken from the top of the hierarchy, where contours are strongest, downwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import higra as hg
import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled
from proposals.hierarchy import Hierarchy, Ints, Partition

Reals = NDArray[np.float64]
MOST_PARTS = 4
NEAR_DUPLICATE = 0.95  # Jaccard


@dataclass(frozen=True, eq=False)
class Groups:
    """N candidate regions of one photo, as sets of the superpixels of its partition."""

    members: tuple[Ints, Ints]  # CSR (offsets (N + 1,), superpixels), ascending within a candidate
    boxes: Reals  # (N, 4), xyxy in pixels of the partition
    areas: Reals  # (N,), in pixels
    features: NDArray[np.float32]  # (N, 16), see `group`

    @staticmethod
    def none() -> "Groups":
        no = np.zeros(0)
        return Groups((np.zeros(1, np.int64), no.astype(np.int64)), no.reshape(0, 4), no, np.zeros((0, 16), np.float32))

    def __len__(self) -> int:
        return len(self.areas)

    def __getitem__(self, keep: Ints) -> "Groups":
        offsets, indices = self.members
        sizes = np.diff(offsets)[keep]
        kept = np.concatenate([[0], np.cumsum(sizes)])
        within = np.arange(kept[-1]) - np.repeat(kept[:-1], sizes)
        chosen = indices[np.repeat(offsets[:-1][keep], sizes) + within]
        return Groups((kept, chosen), self.boxes[keep], self.areas[keep], self.features[keep])


def group(partition: Partition, hierarchies: Sequence[Hierarchy], counts: Sequence[Sequence[int]]) -> Groups:
    """The candidates of all hierarchies, with holes filled and near duplicates removed.

    Args:
        hierarchies: over the partition; the first gives contours their strength.
        counts: how many singles, pairs, triplets and 4-tuples of each hierarchy: four rows, a column each.

    The sixteen features are, with lengths relative to the photo's side √(hw) and areas to the photo's: the contour
    strength at which the last part appears and at which the first disappears, the area of the smallest part over that
    of the largest, area, perimeter, the sum and the mean of the contour's strength, perimeter² / area, the sum over
    √area, the box (x1, y1, x2, y2), its area, the area's share of it, and its width over its height.
    """
    height, width = partition.superpixels.shape
    if partition.count < 2:
        return Groups.none()
    areas, boxes = partition.areas, _boxes(partition)
    parts, orders, ages = [], [], []
    for column, hierarchy in enumerate(hierarchies):
        found = _pad(candidates(partition, hierarchy, [row[column] for row in counts]))
        starts, ends, order = leaf_intervals(hierarchy)
        is_part = found >= 0
        intervals = np.where(is_part[..., None], np.stack([starts[found], ends[found]], 2), 0)
        running = np.concatenate([[0], np.cumsum(areas[order])])
        # Most candidates are a large region and something tiny beside it: these go before anything is measured.
        kept = _distinct_parts(intervals, running, NEAR_DUPLICATE)
        found, is_part, intervals = found[kept], is_part[kept], intervals[kept]
        of_parts = running[intervals[..., 1]] - running[intervals[..., 0]]
        ages.append(
            np.column_stack(
                [
                    np.where(is_part, hierarchy.altitudes[found], -np.inf).max(1),
                    np.where(is_part, hierarchy.altitudes[hierarchy.parents][found], np.inf).min(1),
                    np.where(is_part, of_parts, np.inf).min(1) / of_parts.max(1),
                ]
            )
        )
        parts.append(intervals + column * partition.count)  # of all hierarchies' orders, one after the other
        orders.append(order)
    graph = _graph(partition, hierarchies[0])
    offsets, members, outline = _outline(
        np.concatenate(parts), np.concatenate(orders), graph.offsets, graph.neighbours, graph.lengths,
        graph.strengths, graph.border, areas, boxes,
    )  # fmt: skip
    area, length, strength, inner = outline[:, :4].T
    box = outline[:, 4:]
    kept = _distinct(offsets, members, areas, area, box, NEAR_DUPLICATE)
    side = (height * width) ** 0.5
    box_width, box_height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    features = np.column_stack(
        [
            np.concatenate(ages),
            area / side**2, length / side, strength / side, strength / np.maximum(inner, 1), length**2 / area,
            strength / np.sqrt(area), box / [width, height, width, height], box_width * box_height / side**2,
            area / (box_width * box_height), box_width / box_height,
        ]
    )  # fmt: skip
    return Groups((offsets, members), box, area, features.astype(np.float32))[kept]


def candidates(partition: Partition, hierarchy: Hierarchy, counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Singles, pairs, triplets and 4-tuples of touching regions that exist together, from the top of the hierarchy.

    Where a region falls into two parts, each part is new, and so are the groups of one part with regions beside it; the
    two parts together are the region before.
    """
    wanted = list(counts)
    found: list[list[tuple[int, ...]]] = [[] for _ in wanted]
    found[0].append((len(hierarchy.parents) - 1,))
    beside: dict[int, set[int]] = {len(hierarchy.parents) - 1: set()}
    for region, parts, besides in _splits(partition, hierarchy):
        for neighbour in beside.pop(region):
            beside[neighbour].discard(region)
        for part, neighbours in zip(parts, besides, strict=True):
            beside[part] = set(neighbours)
            for neighbour in neighbours:
                if neighbour in beside:
                    beside[neighbour].add(part)
        for part, sibling in (parts, parts[::-1]):
            largest = max((size for size, want in enumerate(wanted, 1) if len(found[size - 1]) < want), default=0)
            groups: set[tuple[int, ...]] = {(part,)}
            for size in range(1, largest + 1):
                if len(found[size - 1]) < wanted[size - 1]:
                    found[size - 1] += sorted(groups)
                if size < largest:
                    groups = {
                        tuple(sorted((*group, other)))
                        for group in groups
                        for member in group
                        for other in beside[member]
                        if other not in group and other != sibling
                    }
        if all(len(some) >= want for some, want in zip(found, wanted, strict=True)):
            break
    return [one for some, want in zip(found, wanted, strict=True) for one in some[:want]]


def _splits(partition: Partition, hierarchy: Hierarchy) -> Iterator[tuple[int, list[int], list[list[int]]]]:
    """From the top: a region, its two parts, and what lies beside each part when the region has just fallen apart."""
    leaves = partition.count
    children = hierarchy.children
    ends = np.concatenate([partition.pairs, partition.pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    of_leaf = np.searchsorted(ends[:, 0], np.arange(leaves + 1))
    offsets, beside = _beside(children, of_leaf, ends[:, 1])
    for index in reversed(range(len(children))):
        parts = children[index].tolist()
        yield leaves + index, parts, [beside[offsets[part, 0] : offsets[part, 1]].tolist() for part in parts]


@compiled
def _beside(children, of_leaf, neighbours):  # type: ignore[no-untyped-def]
    """What lies beside each region just before it merges: where it is in a list, (2n - 1, 2), and the list."""
    leaves = len(children) + 1
    offsets = np.zeros((2 * leaves - 1, 2), np.int64)
    beside = np.empty(16 * len(neighbours) + 16, np.int64)
    used = 0
    region_of = np.arange(2 * leaves - 1)  # a step towards the region that holds one by now
    counted = np.full(2 * leaves - 1, -1)
    for index in range(len(children)):
        for part in children[index]:
            # A superpixel's neighbours are the graph's, a region's are those of its parts.
            if part < leaves:
                sources = neighbours[of_leaf[part] : of_leaf[part + 1]]
            else:
                first, second = children[part - leaves]
                sources = np.concatenate(
                    (beside[offsets[first, 0] : offsets[first, 1]], beside[offsets[second, 0] : offsets[second, 1]])
                )
            if used + len(sources) > len(beside):
                larger = np.empty(2 * (used + len(sources)), np.int64)
                larger[:used] = beside[:used]
                beside = larger
            offsets[part, 0] = used
            for source in sources:
                now = source
                while region_of[now] != now:
                    region_of[now] = region_of[region_of[now]]
                    now = region_of[now]
                if now != part and counted[now] != part:
                    counted[now] = part
                    beside[used] = now
                    used += 1
            offsets[part, 1] = used
        for part in children[index]:
            region_of[part] = leaves + index
    return offsets, beside[:used]


def _pad(groups: Sequence[tuple[int, ...]]) -> Ints:
    """Groups as rows of an array (N, 4), -1 after their last part."""
    padded = np.full((len(groups), MOST_PARTS), -1, np.int64)
    sizes = np.array([len(one) for one in groups], np.int64)
    flat = np.array([part for one in groups for part in one], np.int64)
    padded[np.arange(MOST_PARTS) < sizes[:, None]] = flat
    return padded


def leaf_intervals(hierarchy: Hierarchy) -> tuple[Ints, Ints, Ints]:
    """An order of the superpixels in which every region is an interval: starts and ends (2n - 1,), the order (n,)."""
    leaves = (len(hierarchy.parents) + 1) // 2
    sizes = sum_up(hierarchy, np.ones(leaves)).astype(np.int64)
    starts = _starts(hierarchy.parents, sizes)
    return starts, starts + sizes, np.argsort(starts[:leaves])


@compiled
def _starts(parents, sizes):  # type: ignore[no-untyped-def]
    starts = np.zeros_like(parents)
    free = np.zeros_like(parents)
    for region in range(len(parents) - 2, -1, -1):
        parent = parents[region]
        starts[region] = free[region] = free[parent]
        free[parent] += sizes[region]
    return starts


def sum_up(hierarchy: Hierarchy, values: Reals) -> Reals:
    """Sums over each region's superpixels, (2n - 1,), of their values (n,)."""
    sums: Reals = hg.accumulate_sequential(hg.Tree(hierarchy.parents), values, hg.Accumulators.sum)
    return sums


def _boxes(partition: Partition) -> Reals:
    """The box of each superpixel, (n, 4), xyxy."""
    from scipy.ndimage import find_objects

    slices = find_objects(partition.superpixels + 1)
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.float64)


@dataclass(frozen=True, eq=False)
class _Graph:
    """Which superpixels touch which, in CSR form, and how: border lengths and contour strengths along them."""

    offsets: Ints
    neighbours: Ints
    lengths: Reals
    strengths: Reals  # summed along the border
    border: Reals  # (n,), pixels of the photo's own border


def _graph(partition: Partition, hierarchy: Hierarchy) -> _Graph:
    u, v = partition.pairs.T
    common = hg.Tree(hierarchy.parents).lowest_common_ancestor(u.copy(), v.copy())
    strengths = hierarchy.altitudes[common] * partition.lengths
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    order = np.argsort(ends, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=partition.count))])
    pixels = partition.superpixels
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return _Graph(
        offsets,
        others[order],
        np.tile(partition.lengths, 2)[order],
        np.tile(strengths, 2)[order],
        np.bincount(rim, minlength=partition.count).astype(np.float64),
    )


@compiled
def _outline(intervals, order, offsets, neighbours, lengths, strengths, border, areas, boxes):  # type: ignore[no-untyped-def]
    """Fill the holes of candidates, and measure them.

    A hole is what touches the candidate and cannot be left without crossing it; it lies strictly within the
    candidate's box, so that the search ends at the first superpixel that does not.

    Args:
        intervals: (N, 4, 2), the parts of a candidate, as intervals of `order`; empty where there are fewer.

    Returns:
        CSR offsets and superpixels, and (N, 8): area, perimeter, contour strength, inner perimeter, box.
    """
    count, total = len(areas), len(intervals)
    starts = np.zeros(total + 1, np.int64)
    members = np.empty(1024 + total * 16, np.int64)
    outline = np.zeros((total, 8))
    owner = np.full(count, -1)  # the candidate that a superpixel was last counted to
    outside = np.full(count, -1)  # the candidate that a superpixel was last found to lie outside of
    seen = np.full(count, -1)  # the search that last came by
    search = -1
    stack = np.empty(count, np.int64)
    mine = np.empty(count, np.int64)
    for i in range(total):
        size = 0
        x1, y1, x2, y2 = np.inf, np.inf, 0.0, 0.0
        for part in range(intervals.shape[1]):
            for position in range(intervals[i, part, 0], intervals[i, part, 1]):
                u = order[position]
                owner[u] = i
                mine[size] = u
                size += 1
                x1, y1 = min(x1, boxes[u, 0]), min(y1, boxes[u, 1])
                x2, y2 = max(x2, boxes[u, 2]), max(y2, boxes[u, 3])
        solid = size
        for k in range(solid):
            for edge in range(offsets[mine[k]], offsets[mine[k] + 1]):
                root = neighbours[edge]
                if owner[root] == i or outside[root] == i:
                    continue
                search += 1
                before, top, is_open = size, 1, False
                stack[0], seen[root] = root, search
                while top > 0 and not is_open:
                    top -= 1
                    u = stack[top]
                    mine[size] = u
                    size += 1
                    is_open = (
                        outside[u] == i
                        or boxes[u, 0] <= x1
                        or boxes[u, 1] <= y1
                        or boxes[u, 2] >= x2
                        or boxes[u, 3] >= y2
                    )
                    for other in range(offsets[u], offsets[u + 1]):
                        v = neighbours[other]
                        if owner[v] != i and seen[v] != search:
                            seen[v] = search
                            stack[top] = v
                            top += 1
                for hole in range(before, size):
                    if is_open:
                        outside[mine[hole]] = i
                    else:
                        owner[mine[hole]] = i
                if is_open:
                    size = before
        found = np.sort(mine[:size])
        starts[i + 1] = starts[i] + size
        if starts[i + 1] > len(members):
            larger = np.empty(2 * starts[i + 1], np.int64)
            larger[: starts[i]] = members[: starts[i]]
            members = larger
        members[starts[i] : starts[i + 1]] = found
        for u in found:
            outline[i, 0] += areas[u]
            outline[i, 1] += border[u]
            for edge in range(offsets[u], offsets[u + 1]):
                if owner[neighbours[edge]] != i:
                    outline[i, 1] += lengths[edge]
                    outline[i, 2] += strengths[edge]
                    outline[i, 3] += lengths[edge]
        outline[i, 4:] = x1, y1, x2, y2
    return starts, members[: starts[-1]], outline


@compiled
def _distinct_parts(intervals, running, jaccard):  # type: ignore[no-untyped-def]
    """Which candidates of one hierarchy are no near duplicates of an earlier one that is kept.

    Args:
        intervals: (N, 4, 2), the parts of a candidate, as intervals of the hierarchy's order of superpixels.
        running: (n + 1,), the area of all superpixels before each place in that order.
    """
    total = len(intervals)
    areas = np.zeros(total)
    for i in range(total):
        for part in range(intervals.shape[1]):
            areas[i] += running[intervals[i, part, 1]] - running[intervals[i, part, 0]]
    bins, last, previous = _bins(areas, jaccard)
    keep = np.ones(total, np.bool_)
    for i in range(total):
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
                keep[i] = common < jaccard / (1 + jaccard) * (areas[i] + areas[j]) - 1e-9
                j = previous[j]
        if keep[i]:
            previous[i], last[bins[i]] = last[bins[i]], i
    return np.flatnonzero(keep)


@compiled
def _bins(areas, jaccard):  # type: ignore[no-untyped-def]
    """Bins of like areas, and empty lists of what is in them; bins of near duplicates differ by one at most."""
    bins = (np.log(np.maximum(areas, 1)) / np.log(1 / jaccard)).astype(np.int64)
    return bins, np.full(bins.max() + 3, -1), np.full(len(areas), -1)


@compiled
def _distinct(offsets, members, weights, areas, boxes, jaccard):  # type: ignore[no-untyped-def]
    """Which candidates, of any hierarchy, are no near duplicates of an earlier one that is kept."""
    total = len(areas)
    bins, last, previous = _bins(areas, jaccard)
    keep = np.ones(total, np.bool_)
    for i in range(total):
        for about in range(max(bins[i] - 1, 0), bins[i] + 2):
            j = last[about]
            while j >= 0 and keep[i]:
                least = jaccard / (1 + jaccard) * (areas[i] + areas[j]) - 1e-9  # what near duplicates share
                keep[i] = box_intersection(boxes[i], boxes[j]) < least or (
                    shared(offsets, members, weights, i, j) < least
                )
                j = previous[j]
        if keep[i]:
            previous[i], last[bins[i]] = last[bins[i]], i
    return np.flatnonzero(keep)


@compiled
def box_intersection(a, b):  # type: ignore[no-untyped-def]
    """The area that two boxes (4,) share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


@compiled
def shared(offsets, members, weights, i, j):  # type: ignore[no-untyped-def]
    """The area that two candidates share, from their ascending superpixels and those areas."""
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
