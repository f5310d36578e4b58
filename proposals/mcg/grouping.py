"""Combinatorial grouping: distinct candidates with their features (Pont-Tuset et al. 2017, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proposals.mcg.candidates import find_candidates, leaf_intervals
from proposals.mcg.duplicates import distinct_outlines, distinct_parts
from proposals.mcg.hierarchy import Hierarchy, Partition
from proposals.mcg.outlines import Outlines, find_borders, outline
from proposals.mcg.watershed import Ints, Reals

NEAR_DUPLICATE = 0.95  # Jaccard index
FEATURES = 16


@dataclass(frozen=True, eq=False)
class Groups:
    """N candidate regions of one photo, as sets of the superpixels of its partition."""

    members: tuple[Ints, Ints]  # CSR (offsets (N + 1,), superpixels), ascending within a candidate
    boxes: Reals  # (N, 4), xyxy in pixels of the partition
    areas: Reals  # (N,), in pixels
    features: NDArray[np.float32]  # (N, 16), see `group`

    @staticmethod
    def none() -> "Groups":
        """No groups at all."""
        none = np.zeros(0)
        return Groups(
            (np.zeros(1, np.int64), np.zeros(0, np.int64)),
            none.reshape(0, 4),
            none,
            np.zeros((0, FEATURES), np.float32),
        )

    def __len__(self) -> int:
        return len(self.areas)

    def __getitem__(self, keep: Ints) -> "Groups":
        """The groups with these indices (K,), in that order."""
        offsets, indices = self.members
        sizes = np.diff(offsets)[keep]
        kept = np.concatenate([[0], np.cumsum(sizes)])
        within = np.arange(kept[-1]) - np.repeat(kept[:-1], sizes)
        chosen = indices[np.repeat(offsets[:-1][keep], sizes) + within]
        return Groups((kept, chosen), self.boxes[keep], self.areas[keep], self.features[keep])


def group(partition: Partition, hierarchies: Sequence[Hierarchy], counts: Sequence[Sequence[int]]) -> Groups:
    """The candidates of all hierarchies, with holes filled and near duplicates removed.

    Args:
        partition: the photo's superpixels.
        hierarchies: over the partition; the first gives contours their strength.
        counts: numbers of singles, pairs, triplets and 4-tuples: four rows, with a column for each hierarchy.

    The sixteen features are, with lengths relative to the photo's side √(hw) and areas to the photo's: the contour
    strength at which the last part appears and at which the first disappears, the area of the smallest part over that
    of the largest, area, perimeter, the sum and the mean of the contour's strength, perimeter² / area, the sum over
    √area, the box (x1, y1, x2, y2), its area, the area's share of it, and its width over its height.
    """
    if partition.count < 2:
        return Groups.none()
    borders = find_borders(partition, hierarchies[0])
    intervals, orders, histories = [], [], []
    for column, hierarchy in enumerate(hierarchies):
        found = find_candidates(partition, hierarchy, [row[column] for row in counts])
        starts, ends, order = leaf_intervals(hierarchy)
        parts = np.where((found >= 0)[..., None], np.stack([starts[found], ends[found]], 2), 0)
        running = np.concatenate([[0], np.cumsum(borders.areas[order])])  # area before each place of the order
        # Most candidates are a large region and something tiny beside it: these go before anything is measured.
        kept = distinct_parts(parts, running, jaccard=NEAR_DUPLICATE)
        found, parts = found[kept], parts[kept]
        histories.append(_histories(hierarchy, found, running[parts[..., 1]] - running[parts[..., 0]]))
        intervals.append(parts + column * partition.count)  # of all hierarchies' orders, one after the other
        orders.append(order)
    outlines = outline(np.concatenate(intervals), np.concatenate(orders), borders)
    kept = distinct_outlines(
        outlines.members, borders.areas, outlines.areas, outlines.boxes, jaccard=NEAR_DUPLICATE
    )  # fmt: skip
    features = np.column_stack([np.concatenate(histories), _shapes(outlines, partition.superpixels.shape)])
    return Groups(outlines.members, outlines.boxes, outlines.areas, features.astype(np.float32))[kept]


def _histories(hierarchy: Hierarchy, found: Ints, areas: Reals) -> Reals:
    """The first three features of candidates, (N, 3): of their parts (N, 4), -1 for none, and the parts' areas."""
    is_part = found >= 0
    return np.column_stack(
        [
            np.where(is_part, hierarchy.altitudes[found], -np.inf).max(1),
            np.where(is_part, hierarchy.altitudes[hierarchy.parents][found], np.inf).min(1),
            np.where(is_part, areas, np.inf).min(1) / areas.max(1),
        ]
    )


def _shapes(outlines: Outlines, size: tuple[int, ...]) -> Reals:
    """The other thirteen features of candidates, (N, 13), in a photo of some size (height, width)."""
    height, width = size
    side = (height * width) ** 0.5
    area, length, strength, box = outlines.areas, outlines.perimeters, outlines.strengths, outlines.boxes
    box_width, box_height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    return np.column_stack(
        [
            area / side**2,
            length / side,
            strength / side,
            strength / np.maximum(outlines.inner, 1),
            length**2 / area,
            strength / np.sqrt(area),
            box / [width, height, width, height],
            box_width * box_height / side**2,
            area / (box_width * box_height),
            box_width / box_height,
        ]
    )
