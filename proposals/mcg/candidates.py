"""Candidates of a hierarchy: single regions, and groups of neighbours (Pont-Tuset et al. 2017, section 5).

A candidate is one region, or a pair, triplet or 4-tuple of regions that touch and stand side by side at some level of a
hierarchy. Candidates are taken from the top of the hierarchy, where contours are strongest, downwards.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from proposals.compiled import compiled
from proposals.mcg.hierarchy import Hierarchy, Partition
from proposals.mcg.trees import higra as hg
from proposals.mcg.watershed import Ints

MOST_PARTS = 4  # regions of a candidate


def find_candidates(partition: Partition, hierarchy: Hierarchy, counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Singles, pairs, triplets and 4-tuples of touching regions that exist together, from the top of the hierarchy.

    Where a region falls into two parts, each part is new, and so are the groups of one part with regions beside it; the
    two parts together are the region before.

    Args:
        partition: the photo's superpixels.
        hierarchy: over the partition.
        counts: the greatest numbers of singles, pairs, triplets and 4-tuples.
    """
    found: list[list[tuple[int, ...]]] = [[] for _ in counts]
    found[0].append((len(hierarchy.parents) - 1,))
    beside: dict[int, set[int]] = {len(hierarchy.parents) - 1: set()}  # the neighbours of each current region
    for region, parts, neighbours_of_parts in _splits(partition, hierarchy):
        for neighbour in beside.pop(region):
            beside[neighbour].discard(region)
        for part, neighbours in zip(parts, neighbours_of_parts, strict=True):
            beside[part] = set(neighbours)
            for neighbour in neighbours:
                if neighbour in beside:
                    beside[neighbour].add(part)
        for part, sibling in (parts, parts[::-1]):
            _add_groups(found, counts, part, sibling, beside)
        if all(len(groups) >= count for groups, count in zip(found, counts, strict=True)):
            break
    return [candidate for groups, count in zip(found, counts, strict=True) for candidate in groups[:count]]


def _add_groups(
    found: list[list[tuple[int, ...]]], counts: Sequence[int], part: int, sibling: int, beside: dict[int, set[int]]
) -> None:
    """Add the groups of a new part and regions around it, without its sibling, to the lists that are not full."""
    largest = max((size for size, count in enumerate(counts, 1) if len(found[size - 1]) < count), default=0)
    groups: set[tuple[int, ...]] = {(part,)}
    for size in range(1, largest + 1):
        if len(found[size - 1]) < counts[size - 1]:
            found[size - 1] += sorted(groups)
        if size < largest:
            groups = {
                tuple(sorted((*group, other)))
                for group in groups
                for member in group
                for other in beside[member]
                if other not in group and other != sibling
            }


def _splits(partition: Partition, hierarchy: Hierarchy) -> Iterator[tuple[int, list[int], list[list[int]]]]:
    """Yield each region from the top, its two parts, and the neighbours of each part just after the split."""
    leaves = partition.count
    children = hierarchy.children
    ends = np.concatenate([partition.pairs, partition.pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    offsets = np.searchsorted(ends[:, 0], np.arange(leaves + 1))
    starts, stops, neighbours = _neighbours(children, offsets, np.ascontiguousarray(ends[:, 1]))
    for index in reversed(range(len(children))):
        parts = children[index].tolist()
        yield leaves + index, parts, [neighbours[starts[part] : stops[part]].tolist() for part in parts]


@compiled
def _neighbours(children, offsets, touching):  # type: ignore[no-untyped-def]
    """Find the neighbours of each region just before it merges.

    Args:
        children: (n - 1, 2), the parts of each region, from the first merger to the last.
        offsets: (n + 1,), where the neighbours of each superpixel begin in `touching`.
        touching: the superpixels that touch each superpixel, one after the other.

    Returns:
        Starts and stops (2n - 1,) of each region's neighbours in a list, and the list.
    """
    leaves = len(children) + 1
    starts, stops = np.full(2 * leaves - 1, 0), np.full(2 * leaves - 1, 0)
    neighbours = np.empty(16 * len(touching) + 16, np.int64)
    used = 0
    region_of = np.full(2 * leaves - 1, -1)  # union-find: a larger region around this one; -1 for current ones
    counted = np.full(2 * leaves - 1, -1)  # the last region that this one was counted as a neighbour of
    for index in range(len(children)):
        for side in range(2):
            part = children[index, side]
            starts[part] = used
            # Neighbours of a superpixel come from the graph, and those of a region from its two parts.
            for source in range(1 if part < leaves else 2):
                if part < leaves:
                    first, last = offsets[part], offsets[part + 1]
                else:
                    inner = children[part - leaves, source]
                    first, last = starts[inner], stops[inner]
                if used + last - first > len(neighbours):
                    larger = np.empty(2 * (used + last - first), np.int64)
                    for place in range(used):
                        larger[place] = neighbours[place]
                    neighbours = larger
                for place in range(first, last):
                    now = touching[place] if part < leaves else neighbours[place]
                    while region_of[now] >= 0:
                        above = region_of[region_of[now]]
                        if above >= 0:
                            region_of[now] = above
                        now = region_of[now]
                    if now != part and counted[now] != part:
                        counted[now] = part
                        neighbours[used] = now
                        used += 1
            stops[part] = used
        region_of[children[index, 0]] = region_of[children[index, 1]] = leaves + index
    return starts, stops, neighbours


def leaf_intervals(hierarchy: Hierarchy) -> tuple[Ints, Ints, Ints]:
    """An order of the superpixels in which every region is an interval.

    Returns:
        Starts and ends of the regions' intervals, (2n - 1,) each, and the superpixels in that order, (n,).
    """
    leaves = (len(hierarchy.parents) + 1) // 2
    tree = hg.Tree(hierarchy.parents)
    sizes = hg.accumulate_sequential(tree, np.ones(leaves), hg.Accumulators.sum)
    # Of the two parts of a region, the later one begins where the region does, and the other one after it.
    shifts = np.zeros(2 * leaves - 1)
    shifts[hierarchy.children[:, 0]] = sizes[hierarchy.children[:, 1]]
    starts = hg.propagate_sequential_and_accumulate(tree, shifts, hg.Accumulators.sum).astype(np.int64)
    return starts, starts + sizes.astype(np.int64), np.argsort(starts[:leaves])
