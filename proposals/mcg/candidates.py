"""Candidates of a hierarchy: single regions, and groups of neighbours (Pont-Tuset et al. 2017, section 5).

A candidate is one region, or a pair, triplet or 4-tuple of regions that touch and stand side by side at some level of a
hierarchy. Candidates are taken from the top of the hierarchy, where contours are strongest, downwards.
"""

from collections.abc import Sequence

import numpy as np

from proposals.compiled import compiled
from proposals.mcg.hierarchy import Hierarchy, Partition
from proposals.mcg.trees import higra as hg
from proposals.mcg.watershed import Ints

MOST_PARTS = 4  # regions of a candidate


def find_candidates(partition: Partition, hierarchy: Hierarchy, counts: Sequence[int]) -> Ints:
    """Singles, pairs, triplets and 4-tuples of touching regions that exist together, from the top of the hierarchy.

    Where a region falls into two parts, each part is new, and so are the groups of one part with regions beside it; the
    two parts together are the region before.

    Args:
        partition: the photo's superpixels.
        hierarchy: over the partition.
        counts: the greatest numbers of singles, pairs, triplets and 4-tuples.

    Returns:
        The regions of each candidate, ascending, and -1 after the last of them, (N, 4). Singles come first, then pairs,
        triplets and 4-tuples; of each kind, those that are new further up; of these, the lower numbers.
    """
    leaves, children = partition.count, hierarchy.children
    ends = np.concatenate([partition.pairs, partition.pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    offsets = np.searchsorted(ends[:, 0], np.arange(leaves + 1))
    around = _neighbours(children, offsets, np.ascontiguousarray(ends[:, 1]))
    found = _groups(children, *around, np.array(counts))
    sizes = (found[:, 1:] >= 0).sum(1)
    kinds = []
    for size, count in enumerate(counts, 1):
        kind = found[sizes == size]
        kinds.append(kind[np.lexsort(kind.T[size::-1])[:count], 1:])
    return np.concatenate(kinds)


@compiled
def _groups(children, starts, stops, neighbours, counts):  # type: ignore[no-untyped-def]
    """Find the groups that are new at each split from the top, until there are enough of each size.

    Args:
        children: (n - 1, 2), the parts of each region, from the first merger to the last.
        starts, stops, neighbours: the neighbours of each region, see `_neighbours`.
        counts: (4,), of groups of each size; once there are as many, no more are looked for.

    Returns:
        (N, 5): the number, from the top, of the part around which a group was found, and the group's regions, ascending
        and then -1.
    """
    leaves = len(children) + 1
    numbers = np.full(MOST_PARTS, 0)  # of groups of each size that were found
    group = np.full(MOST_PARTS, -1)  # its regions, and -1 after the last
    group[0] = 2 * leaves - 2
    found = _put(np.empty((1024, 1 + MOST_PARTS), np.int64), numbers, np.int64(0), group)
    stands = np.full(2 * leaves - 1, False)  # whether a region is there at this level
    # The neighbours of a region that came after it are in a linked list.
    newest = np.full(2 * leaves - 1, -1)
    later, earlier = np.empty(len(neighbours), np.int64), np.empty(len(neighbours), np.int64)
    used = 0
    beside = np.empty(2 * leaves - 1, np.int64)
    is_known = np.full(2 * leaves - 1, False)
    for index in range(len(children) - 1, -1, -1):
        stands[leaves + index] = False
        for side in range(2):
            part = children[index, side]
            for place in range(starts[part], stops[part]):
                other = neighbours[place]
                if stands[other]:
                    later[used], earlier[used], newest[other] = part, newest[other], used
                    used += 1
            stands[part] = True
        for side in range(2):
            found = _groups_around(
                children[index, side], children[index, 1 - side], 2 * (leaves - index) + side, group, found, numbers,
                counts, starts, stops, neighbours, newest, later, earlier, stands, beside, is_known,
            )  # fmt: skip
        if _largest_wanted(numbers, counts) == 0:
            break
    return found[: numbers[0] + numbers[1] + numbers[2] + numbers[3]]


@compiled
def _groups_around(  # type: ignore[no-untyped-def]
    part, sibling, batch, group, found, numbers, counts, starts, stops, neighbours, newest, later, earlier, stands,
    beside, is_known,
):  # fmt: skip
    """Add the groups of a new part and regions around it, without its sibling, of the sizes that are not full.

    Each group is found once, in the way of ESU (Wernicke 2006): a group grows by one of the regions known to be beside
    it, and then by those after that one in the list, where those that only the new region touches are at the end.

    Args:
        part, sibling: the new region and the one that its split left beside it.
        batch: the number of the part, from the top.
        group: (4,), room for one.
        found, numbers: the groups so far, and how many of each size; the new ones are added.
        beside: (2n - 1,), room for the regions around the group.
        is_known: (2n - 1,), all false, before and after: whether a region is in `beside`, or is one of the two.
        counts, starts, stops, neighbours, newest, later, earlier, stands: see `_groups`.

    Returns:
        `found`, or a larger array with what is in it.
    """
    lists = (starts, stops, neighbours, newest, later, earlier, stands, beside, is_known)
    largest = _largest_wanted(numbers, counts)
    is_wanted = np.full(MOST_PARTS, False)
    for kind in range(MOST_PARTS):
        group[kind], is_wanted[kind] = -1, numbers[kind] < counts[kind]
    group[0] = part
    if is_wanted[0]:
        found = _put(found, numbers, batch, group)
    is_known[part] = is_known[sibling] = True
    first = _add_beside(part, 0, *lists) if largest > 1 else 0
    for i in range(first):
        group[1] = beside[i]
        if is_wanted[1]:
            found = _put(found, numbers, batch, group)
        second = _add_beside(beside[i], first, *lists) if largest > 2 else 0
        for j in range(i + 1, second):
            group[2] = beside[j]
            if is_wanted[2]:
                found = _put(found, numbers, batch, group)
            third = _add_beside(beside[j], second, *lists) if largest > 3 else 0
            for k in range(j + 1, third):
                group[3] = beside[k]
                found = _put(found, numbers, batch, group)
            group[3] = -1
            _forget(second, third, beside, is_known)
        group[2] = -1
        _forget(first, second, beside, is_known)
    _forget(0, first, beside, is_known)
    is_known[part] = is_known[sibling] = False
    return found


@compiled
def _add_beside(region, end, starts, stops, neighbours, newest, later, earlier, stands, beside, is_known):  # type: ignore[no-untyped-def]
    """Add the unknown neighbours of a region at the end of the list `beside`, and return its new end."""
    for place in range(starts[region], stops[region]):
        other = neighbours[place]
        if stands[other] and not is_known[other]:
            beside[end], is_known[other] = other, True
            end += 1
    place = newest[region]
    while place >= 0:
        other = later[place]
        if stands[other] and not is_known[other]:
            beside[end], is_known[other] = other, True
            end += 1
        place = earlier[place]
    return end


@compiled
def _forget(start, end, beside, is_known):  # type: ignore[no-untyped-def]
    for place in range(start, end):
        is_known[beside[place]] = False


@compiled
def _largest_wanted(numbers, counts):  # type: ignore[no-untyped-def]
    """The largest size of which there are fewer groups than wanted; 0 for none."""
    largest = 0
    for kind in range(MOST_PARTS):
        if numbers[kind] < counts[kind]:
            largest = kind + 1
    return largest


@compiled
def _put(found, numbers, batch, group):  # type: ignore[no-untyped-def]
    """Write and count a group after the others, its regions ascending; return the array, or a larger one."""
    total = numbers[0] + numbers[1] + numbers[2] + numbers[3]
    if total == len(found):
        larger = np.empty((2 * total, found.shape[1]), np.int64)
        for row in range(total):
            for column in range(found.shape[1]):
                larger[row, column] = found[row, column]
        found = larger
    found[total, 0] = batch
    size = 0
    for part in range(MOST_PARTS):
        region = group[part]
        place = part + 1
        while place > 1 and region >= 0 and region < found[total, place - 1]:
            found[total, place] = found[total, place - 1]
            place -= 1
        found[total, place] = region
        size += region >= 0
    numbers[size - 1] += 1
    return found


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
