from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes

from proposals.mcg.candidates import find_candidates, leaf_intervals
from proposals.mcg.grouping import NEAR_DUPLICATE, group
from proposals.mcg.hierarchy import Hierarchy, Partition, build_hierarchies

PLENTY = 10**6


@st.composite
def scenes(draw, most=9):
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = draw(st.integers(5, 16)), draw(st.integers(5, 16))
    maps = [random.random(size).astype(np.float32) for _ in range(3)]
    return build_hierarchies(maps, most_superpixels=draw(st.integers(2, most)))


def leaves_of(hierarchy, region):
    leaves = (len(hierarchy.parents) + 1) // 2
    if region < leaves:
        return {region}
    first, second = np.flatnonzero(hierarchy.parents[:-1] == region)
    return leaves_of(hierarchy, first) | leaves_of(hierarchy, second)


def brute_candidates(partition, hierarchy, size):
    """All groups of so many touching regions that exist together, in turn: those of each part of each split."""
    leaves = partition.count
    members = [leaves_of(hierarchy, region) for region in range(2 * leaves - 1)]
    pairs = {frozenset(pair) for pair in partition.pairs.tolist()}

    def touch(a, b):
        return any(frozenset((u, v)) in pairs for u in members[a] for v in members[b])

    def is_connected(regions):
        reached, rest = {regions[0]}, set(regions[1:])
        while more := {b for b in rest if any(touch(a, b) for a in reached)}:
            reached |= more
            rest -= more
        return not rest

    found = [(2 * leaves - 2,)] if size == 1 else []
    for split in range(2 * leaves - 2, leaves - 1, -1):
        standing = [r for r in range(2 * leaves - 2) if r < split <= hierarchy.parents[r]]
        new = [r for r in standing if hierarchy.parents[r] == split]
        for part in new:
            found += [
                regions
                for regions in combinations(standing, size)
                if set(regions) & set(new) == {part} and is_connected(regions)
            ]
    return found


def listed(candidates):
    return [tuple(region for region in row if region >= 0) for row in candidates.tolist()]


@settings(max_examples=12)
@given(scenes(), st.integers(0, 60))
def test_candidates_are_the_first_groups_of_touching_regions_that_exist_together(scene, count):
    partition, hierarchies = scene
    all_of_a_size = [brute_candidates(partition, hierarchies[0], size) for size in range(1, 5)]
    for most in (count, PLENTY):
        expected = [group for groups in all_of_a_size for group in groups[:most]]
        assert listed(find_candidates(partition, hierarchies[0], [most] * 4)) == expected
    for size, groups in enumerate(all_of_a_size, 1):
        only = [count if size == wanted else 0 for wanted in range(1, 5)]
        assert listed(find_candidates(partition, hierarchies[0], only)) == groups[:count]


@settings(max_examples=20)
@given(scenes(most=30))
def test_every_region_is_an_interval_of_leaves(scene):
    partition, hierarchies = scene
    for hierarchy in hierarchies:
        starts, ends, order = leaf_intervals(hierarchy)
        assert sorted(order) == list(range(partition.count))
        for region in range(2 * partition.count - 1):
            assert set(order[starts[region] : ends[region]]) == leaves_of(hierarchy, region)


def masks_of(partition, groups):
    offsets, members = groups.members
    return [np.isin(partition.superpixels, members[offsets[i] : offsets[i + 1]]) for i in range(len(groups))]


def perimeter(mask):
    padded = np.pad(mask, 1).astype(int)
    return np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


@settings(max_examples=12)
@given(scenes(most=25), st.sampled_from([3, 50]))
def test_groups_are_filled_measured_and_distinct(scene, count):
    partition, hierarchies = scene
    groups = group(partition, hierarchies, [[count] * 4] * 4)
    masks = masks_of(partition, groups)
    height, width = partition.superpixels.shape
    side = (height * width) ** 0.5
    for mask, box, area, features in zip(masks, groups.boxes, groups.areas, groups.features, strict=True):
        assert (binary_fill_holes(mask) == mask).all()
        y, x = np.nonzero(mask)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert area == mask.sum()
        box_area = (box[2] - box[0]) * (box[3] - box[1])
        assert features[3] == pytest.approx(area / side**2)
        assert features[4] == pytest.approx(perimeter(mask) / side)
        assert features[7] == pytest.approx(perimeter(mask) ** 2 / area)
        assert features[9:13] == pytest.approx(box / [width, height, width, height])
        assert features[13] == pytest.approx(box_area / side**2)
        assert features[14] == pytest.approx(area / box_area)
        assert features[15] == pytest.approx((box[2] - box[0]) / (box[3] - box[1]))
        assert 0 <= features[0] <= features[1] + 1e-6
        assert 0 < features[2] <= 1
    for a, b in combinations(masks, 2):
        assert (a & b).sum() / (a | b).sum() < NEAR_DUPLICATE + 1e-9


@settings(max_examples=10)
@given(scenes(most=8))
def test_no_candidate_is_lost_but_to_a_near_duplicate(scene):
    partition, hierarchies = scene
    groups = group(partition, hierarchies, [[PLENTY] * 4] * 4)
    assert len(groups) == 0 if partition.count == 1 else len(groups) > 0
    kept = masks_of(partition, groups)
    for hierarchy in hierarchies if len(groups) else []:
        for size in range(1, 5):
            for regions in brute_candidates(partition, hierarchy, size):
                members = set().union(*(leaves_of(hierarchy, region) for region in regions))
                mask = np.isin(partition.superpixels, list(members))
                # Parts are compared before holes are filled, and outlines after: two steps of near duplicates.
                near = [(m & mask).sum() / (m | mask).sum() for m in kept]
                filled = binary_fill_holes(mask)
                near += [(m & filled).sum() / (m | filled).sum() for m in kept]
                assert max(near) > NEAR_DUPLICATE**2 - 0.05


def test_a_ring_is_filled():
    """Three superpixels around a fourth: the three together are the whole square."""
    superpixels = np.zeros((30, 30), np.int32)
    superpixels[5:25, 5:25] = 1
    superpixels[15:25, 5:15] = 2
    superpixels[15:25, 15:25] = 3
    superpixels[10:20, 10:20] = 4
    pairs = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)])
    partition = Partition(superpixels, pairs, np.ones(len(pairs)))
    # 1 and 2, with 3 the ring, with 4 the square, with 0 the photo.
    hierarchy = Hierarchy(np.array([8, 5, 5, 6, 7, 6, 7, 8, 8]), np.array([0, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4]))
    groups = group(partition, [hierarchy], [[100]] * 4)
    squares = [area for box, area in zip(groups.boxes.tolist(), groups.areas, strict=True) if box == [5, 5, 25, 25]]
    assert squares.count(400) == 1  # the ring and the square are one group, not two
    assert 300 not in squares
    assert 100 in groups.areas


def test_two_superpixels_make_no_pair():
    """The pair would be the photo itself, and nothing else was asked for."""
    strength = np.zeros((20, 20), np.float32)
    strength[:, 10] = 1
    partition, hierarchies = build_hierarchies([strength], most_superpixels=100)
    assert partition.count == 2
    assert len(group(partition, hierarchies, [[0], [5], [0], [0]])) == 0


def test_a_photo_without_contours_has_no_groups():
    partition, hierarchies = build_hierarchies([np.zeros((20, 20), np.float32)] * 3, most_superpixels=100)
    assert len(group(partition, hierarchies, [[100] * 4] * 4)) == 0
