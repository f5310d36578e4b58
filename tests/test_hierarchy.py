import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from proposals.mcg.hierarchy import build_hierarchies, calibrate, contour_map
from proposals.mcg.trees import higra as hg
from proposals.mcg.watershed import adjacency, side_heights, sums_over, watershed


@st.composite
def edge_maps(draw, scales=3):
    height, width = draw(st.integers(4, 14)), draw(st.integers(4, 14))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([3, 1000]))  # few levels: flat zones and ties
    return [(random.integers(0, levels, (height, width)) / levels).astype(np.float32) for _ in range(scales)]


def brute_pairs(superpixels):
    pairs = {}
    for a, b in ((superpixels[:-1], superpixels[1:]), (superpixels[:, :-1], superpixels[:, 1:])):
        for u, v in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            if u != v:
                key = (min(u, v), max(u, v))
                pairs[key] = pairs.get(key, 0) + 1
    return pairs


@settings(max_examples=40)
@given(edge_maps(scales=1))
def test_the_grid_has_the_watershed_and_the_borders_of_its_graph(maps):
    """higra's watershed, regions and borders, of the grid as a graph, are the same to the last number."""
    strength = maps[0].astype(np.float64)
    grid = hg.get_4_adjacency_graph(strength.shape)
    heights = hg.weight_graph(grid, strength, hg.WeightFunction.mean)
    basins = hg.labelisation_watershed(grid, heights)
    assert (watershed(strength) == basins).all()
    regions = hg.make_region_adjacency_graph_from_labelisation(grid, basins)
    superpixels, pairs, between = adjacency(basins)
    assert (superpixels.ravel() == hg.CptRegionAdjacencyGraph.get_vertex_map(regions)).all()
    assert (pairs == np.stack(regions.edge_list(), 1)).all()
    sums = hg.rag_accumulate_on_edges(regions, hg.Accumulators.sum, heights)
    assert (sums_over(between, side_heights(strength), len(pairs)) == sums).all()


@settings(max_examples=40)
@given(edge_maps(), st.sampled_from([2, 7, 1000]))
def test_superpixels_are_connected_and_know_their_borders(maps, most):
    partition, hierarchies = build_hierarchies(maps, most_superpixels=most)
    assert partition.count <= most
    assert partition.superpixels.shape == maps[0].shape
    for superpixel in range(partition.count):
        assert label(partition.superpixels == superpixel)[1] == 1
    found = {
        (min(u, v), max(u, v)): length
        for (u, v), length in zip(partition.pairs.tolist(), partition.lengths.tolist(), strict=True)
    }
    assert found == brute_pairs(partition.superpixels)
    assert len(hierarchies) == 4


@settings(max_examples=40)
@given(edge_maps(), st.sampled_from([7, 1000]))
def test_hierarchies_are_binary_and_rise(maps, most):
    partition, hierarchies = build_hierarchies(maps, most_superpixels=most)
    for hierarchy in hierarchies:
        nodes = np.arange(2 * partition.count - 1)
        assert (hierarchy.parents[:-1] > nodes[:-1]).all()
        assert hierarchy.parents[-1] == nodes[-1]
        assert (np.bincount(hierarchy.parents[:-1], minlength=len(nodes))[partition.count :] == 2).all()
        assert (hierarchy.altitudes[: partition.count] == 0).all()
        assert (hierarchy.altitudes <= hierarchy.altitudes[hierarchy.parents] + 1e-9).all()
        for region, parts in enumerate(hierarchy.children, partition.count):
            assert (hierarchy.parents[parts] == region).all()


@settings(max_examples=40)
@given(edge_maps(scales=1))
def test_regions_merge_across_the_weakest_mean_border(maps):
    """The definition as loops: of all borders, the one with the least mean strength goes first."""
    partition, (hierarchy,) = build_hierarchies(maps, most_superpixels=10**6)
    # The strengths of the borders, as the finest hierarchy has them.
    leaves = partition.count
    border = {}
    for (u, v), length in zip(partition.pairs.tolist(), partition.lengths.tolist(), strict=True):
        border[frozenset((u, v))] = (altitude_between(hierarchy, u, v) * length, length)
    altitudes = []
    for region in range(leaves, 2 * leaves - 1):
        pair = min(border, key=lambda pair: border[pair][0] / border[pair][1])
        strength, length = border.pop(pair)
        altitudes.append(strength / length)
        for other in [other for other in border if other & pair]:
            s, n = border.pop(other)
            (rest,) = other - pair
            old = border.get(frozenset((rest, region)), (0, 0))
            border[frozenset((rest, region))] = (old[0] + s, old[1] + n)
    assert np.allclose(hierarchy.altitudes[leaves:], altitudes)


def altitude_between(hierarchy, u, v):
    above = {u}
    while hierarchy.parents[u] != u:
        u = hierarchy.parents[u]
        above.add(u)
    while v not in above:
        v = hierarchy.parents[v]
    return hierarchy.altitudes[v]


@settings(max_examples=40)
@given(edge_maps(), st.sampled_from([9, 1000]))
def test_a_contour_is_as_strong_as_what_merges_its_sides(maps, most):
    partition, hierarchies = build_hierarchies(maps, most_superpixels=most)
    height, width = partition.superpixels.shape
    for hierarchy in hierarchies[:2]:
        contour = contour_map(partition, hierarchy)
        assert contour.shape == (2 * height + 1, 2 * width + 1)
        for y in range(height):
            for x in range(width - 1):
                u, v = partition.superpixels[y, x : x + 2]
                expected = altitude_between(hierarchy, u, v) if u != v else 0
                assert contour[2 * y + 1, 2 * x + 2] == pytest.approx(expected)


def test_scales_agree_on_what_all_of_them_see():
    """Two halves, seen at all scales, and noise that each scale has for itself."""
    random = np.random.default_rng(0)
    maps = [random.random((40, 60)).astype(np.float32) * 0.2 for _ in range(3)]
    for strength in maps:
        strength[:, 30] = 1
    partition, hierarchies = build_hierarchies(maps, most_superpixels=50)
    for hierarchy in hierarchies:
        strong = contour_map(partition, hierarchy)[1::2] > hierarchy.altitudes.max() * 0.7
        assert strong[:, 59:64].any(1).all()  # on one side of the column, or on the other
        assert not strong[:, :59].any()
        assert not strong[:, 64:].any()


def test_one_colour_is_one_superpixel():
    partition, hierarchies = build_hierarchies([np.zeros((20, 30), np.float32)] * 3, most_superpixels=100)
    assert partition.count == 1
    assert all(len(hierarchy.parents) == 1 for hierarchy in hierarchies)
    assert contour_map(partition, hierarchies[0]).max() == 0


def test_calibration_keeps_order_and_zeros():
    calibrated = calibrate(np.array([0, 0.1, 0.35, 0.9]))
    assert calibrated[0] == 0
    assert calibrated[2] == pytest.approx(0.5)
    assert (np.diff(calibrated) > 0).all()
