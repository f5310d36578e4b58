"""Hierarchies of regions: watersheds of edges at several scales, aligned and combined (Pont-Tuset et al. 2017, 3-4).

The mathematics of graphs and trees is higra's. All hierarchies of a photo are binary trees over one partition into
superpixels, so that any of their regions is a set of the same superpixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from proposals.edges import Floats
from proposals.mcg.trees import higra as hg

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]

SMOOTHING = 1.0  # σ of edges, in pixels
WEAKEST = 0.02  # smoothed strength below which there is no edge


@dataclass(frozen=True, eq=False)
class Partition:
    """A photo of (h, w) pixels, cut into n superpixels."""

    superpixels: NDArray[np.int32]  # (h, w), from 0 to n - 1
    pairs: Ints  # (E, 2), superpixels that share a border
    lengths: NDArray[np.float64]  # (E,), of the shared borders, in pixels

    @property
    def count(self) -> int:
        return int(self.superpixels.max()) + 1

    @property
    def areas(self) -> NDArray[np.float64]:
        """Pixels of each superpixel, (n,)."""
        return np.bincount(self.superpixels.ravel()).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A binary tree over n superpixels: leaves 0 to n - 1 and regions n to 2n - 2, each after its parts."""

    parents: Ints  # (2n - 1,); the root is its own parent
    altitudes: NDArray[np.float64]  # (2n - 1,), the contour strength at which a region appears; 0 for superpixels

    @property
    def children(self) -> Ints:
        """The two parts of each region that is no superpixel, (n - 1, 2), the lower number first."""
        count = (len(self.parents) + 1) // 2
        order = np.argsort(self.parents[:-1], kind="stable")
        return order.reshape(-1, 2) if count > 1 else np.zeros((0, 2), np.int64)


def build_hierarchies(strengths: Sequence[Floats], *, most_superpixels: int) -> tuple[Partition, list[Hierarchy]]:
    """The partition of a photo, and its hierarchies: the combined one, then one for each scale.

    Args:
        strengths: edges (h, w) in [0, 1] detected at each scale, from fine to coarse, all in the photo's resolution.
        most_superpixels: where the finest watershed has more, the combined hierarchy's weakest contours are removed.

    Returns:
        The partition and its hierarchies; where there is one scale, its hierarchy is the combined one, too.

    >>> strength = np.zeros((8, 12), np.float32)
    >>> strength[:, 6] = 1
    >>> partition, hierarchies = build_hierarchies([strength], most_superpixels=10)
    >>> partition.count, len(hierarchies)
    (2, 1)
    """
    grid = hg.get_4_adjacency_graph(strengths[0].shape)
    trees = [
        hg.mean_pb_hierarchy(grid, hg.weight_graph(grid, _smooth(strength), hg.WeightFunction.mean))
        for strength in strengths
    ]
    labels = _leaves_of_pixels(trees[0][0])
    graph, partition = _partition(grid, labels.reshape(strengths[0].shape))
    contours = [_align(partition, tree, altitudes) for tree, altitudes in trees]  # (E,) of each scale
    combined = hg.binary_partition_tree_average_linkage(graph, np.mean(contours, axis=0), partition.lengths)
    if partition.count > most_superpixels:
        coarse = hg.labelisation_horizontal_cut_from_num_regions(*combined, most_superpixels, "at_most")
        between_pixels = [hg.rag_back_project_edge_weights(graph, contour) for contour in contours]
        graph, partition = _partition(grid, np.asarray(coarse).reshape(strengths[0].shape))
        contours = [hg.rag_accumulate_on_edges(graph, hg.Accumulators.mean, contour) for contour in between_pixels]
    if len(contours) > 1:
        contours.insert(0, np.mean(contours, axis=0))
    return partition, [_merge(graph, contour, partition.lengths) for contour in contours]


def _smooth(strength: Floats) -> NDArray[np.float64]:
    """Strength smoothed, so that a wide edge is one border and not two, and 0 where it is too weak for an edge."""
    smooth = cv2.GaussianBlur(strength, (0, 0), SMOOTHING, borderType=cv2.BORDER_REPLICATE)
    return np.where(smooth < WEAKEST, 0, smooth).astype(np.float64)


def _leaves_of_pixels(tree: Any) -> Ints:
    """The number of the tree's leaf in which each pixel lies, (hw,)."""
    graph = hg.CptHierarchy.get_leaf_graph(tree)
    return np.asarray(hg.CptRegionAdjacencyGraph.get_vertex_map(graph), np.int64)


def _partition(grid: Any, labels: NDArray[Any]) -> tuple[Any, Partition]:
    """The connected regions of equal labels (h, w) of a pixel grid: higra's graph of them, and their record."""
    graph = hg.make_region_adjacency_graph_from_labelisation(grid, labels)
    superpixels = np.asarray(hg.CptRegionAdjacencyGraph.get_vertex_map(graph), np.int32).reshape(labels.shape)
    lengths = hg.rag_accumulate_on_edges(graph, hg.Accumulators.counter, np.ones(grid.num_edges()))
    pairs = np.stack(graph.edge_list(), 1).astype(np.int64)
    return graph, Partition(superpixels, pairs, np.asarray(lengths, np.float64))


def _align(partition: Partition, tree: Any, altitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strength of a hierarchy's contours on the borders of a partition, (E,).

    A superpixel counts to the finest region of the hierarchy with which it shares most pixels, and so to all regions
    around that one.
    """
    own = _leaves_of_pixels(tree)
    width = own.max() + 1
    shared, pixels = np.unique(partition.superpixels.ravel().astype(np.int64) * width + own, return_counts=True)
    order = np.argsort(pixels, kind="stable")  # the last to be written is the largest
    leaf = np.zeros(partition.count, np.int64)
    leaf[shared[order] // width] = shared[order] % width
    ends = leaf[partition.pairs]
    contour: NDArray[np.float64] = altitudes[tree.lowest_common_ancestor(ends[:, 0].copy(), ends[:, 1].copy())]
    return contour


def _merge(graph: Any, contour: NDArray[np.float64], lengths: NDArray[np.float64]) -> Hierarchy:
    """Merge the two regions with the weakest border, by its mean strength, until one region is left."""
    if graph.num_edges() == 0:
        return Hierarchy(np.zeros(1, np.int64), np.zeros(1))
    tree, altitudes = hg.binary_partition_tree_average_linkage(graph, contour, lengths)
    return Hierarchy(np.asarray(tree.parents(), np.int64), np.asarray(altitudes, np.float64))


def contour_map(partition: Partition, hierarchy: Hierarchy) -> NDArray[np.float64]:
    """The ultrametric contour map, (2h + 1, 2w + 1): on a border, the strength at which its two sides merge."""
    tree = hg.Tree(hierarchy.parents)
    grid = hg.get_4_adjacency_graph(partition.superpixels.shape)
    leaves = partition.superpixels.ravel().astype(np.int64)
    sources, targets = grid.edge_list()
    common = tree.lowest_common_ancestor(leaves[sources], leaves[targets])
    contour = hierarchy.altitudes[common] * (leaves[sources] != leaves[targets])
    drawn: NDArray[np.float64] = hg.graph_4_adjacency_2_khalimsky(grid, contour, add_extra_border=True)
    return drawn


def calibrate(strength: NDArray[np.float64], *, threshold: float = 0.35, slope: float = 8.0) -> NDArray[np.float64]:
    """The sigmoid that the authors' release applies to the combined contour strength; zeros stay zero."""
    return np.where(strength > 0, 1 / (1 + np.exp(-slope * (strength - threshold))), 0)
