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
from proposals.mcg.watershed import Ints, Labels, Reals, adjacency, side_heights, sums_over, watershed

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
    partitions, trees = zip(*map(_mean_hierarchy, strengths), strict=True)
    partition, between = partitions[0]
    contours = [_align(partition, own.superpixels, *tree) for (own, _), tree in zip(partitions, trees, strict=True)]
    if partition.count > most_superpixels:
        combined = _average_linkage(partition, np.mean(contours, axis=0))
        coarse = hg.labelisation_horizontal_cut_from_num_regions(*combined, most_superpixels, "at_most")
        finer = between
        partition, between = _partition(np.asarray(coarse)[partition.superpixels])
        contours = [_border_means(partition, between, contour[finer]) for contour in contours]
    if len(contours) > 1:
        contours.insert(0, np.mean(contours, axis=0))
    return partition, [_merge(partition, contour) for contour in contours]


def _mean_hierarchy(strength: Floats) -> tuple[tuple[Partition, Labels], tuple[Any, Reals]]:
    """Merge the basins of edges (h, w) by the mean strength of their borders.

    Returns:
        The partition into basins, the pairs between pixels (see `adjacency`), and the tree over it with its altitudes.
    """
    smooth = _smooth(strength)
    partition, between = _partition(watershed(smooth))
    return (partition, between), _average_linkage(partition, _border_means(partition, between, side_heights(smooth)))


def _smooth(strength: Floats) -> Reals:
    """Strength smoothed, so that a wide edge is one border and not two, and 0 where it is too weak for an edge."""
    smooth = cv2.GaussianBlur(strength, (0, 0), SMOOTHING, borderType=cv2.BORDER_REPLICATE)
    return np.where(smooth < WEAKEST, 0, smooth).astype(np.float64)


def _partition(labels: NDArray[Any]) -> tuple[Partition, Labels]:
    """The partition into connected regions of equal labels (h, w), and the pairs between pixels (see `adjacency`)."""
    superpixels, pairs, between = adjacency(labels)
    lengths = sums_over(between, np.ones(between.shape), len(pairs))
    return Partition(superpixels, pairs, lengths), between


def _border_means(partition: Partition, between: Labels, values: Reals) -> Reals:
    """The mean (E,) along each border of a partition, of values (h, w, 2) between pixels."""
    return sums_over(between, values, len(partition.pairs)) / partition.lengths


def _align(partition: Partition, own: Labels, tree: Any, altitudes: Reals) -> Reals:
    """The strength of a hierarchy's contours on the borders of a partition, (E,).

    A superpixel counts to the finest region of the hierarchy with which it shares most pixels, and so to all regions
    around that one.

    Args:
        partition: whose borders are asked for.
        own: (h, w), the finest regions of the hierarchy.
        tree: of the hierarchy, over those regions.
        altitudes: of the tree's nodes.
    """
    width = int(own.max()) + 1
    shared, pixels = np.unique(partition.superpixels.ravel().astype(np.int64) * width + own.ravel(), return_counts=True)
    order = np.argsort(pixels, kind="stable")  # the last to be written is the largest
    leaf = np.zeros(partition.count, np.int64)
    leaf[shared[order] // width] = shared[order] % width
    ends = leaf[partition.pairs]
    contour: Reals = altitudes[tree.lowest_common_ancestor(ends[:, 0].copy(), ends[:, 1].copy())]
    return contour


def _merge(partition: Partition, contour: Reals) -> Hierarchy:
    """Merge the two regions with the weakest border, by its mean strength, until one region is left."""
    if len(partition.pairs) == 0:
        return Hierarchy(np.zeros(1, np.int64), np.zeros(1))
    tree, altitudes = _average_linkage(partition, contour)
    return Hierarchy(np.asarray(tree.parents(), np.int64), np.asarray(altitudes, np.float64))


def _average_linkage(partition: Partition, contour: Reals) -> tuple[Any, Reals]:
    """higra's tree over the superpixels, and the altitudes of its nodes."""
    graph = hg.UndirectedGraph(partition.count)
    graph.add_edges(*partition.pairs.T)
    tree, altitudes = hg.binary_partition_tree_average_linkage(graph, contour, partition.lengths)
    return tree, altitudes


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
