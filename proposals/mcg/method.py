"""The whole method: the edges of a photo, their hierarchies, groups of regions, and the best of these."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from grounding.images import ImageSource, load_image
from grounding.limits import check_limits
from grounding.records import Segments
from proposals.edges import EdgeDetector, Pixels, shrink
from proposals.mcg.grouping import Groups, group
from proposals.mcg.hierarchy import Hierarchy, Partition, build_hierarchies, calibrate, contour_map
from proposals.mcg.ranking import RANKER, diversify, load_forest
from proposals.mcg.watershed import Reals

SMALLEST = 16  # pixels; a photo with a shorter side has no room for segments
LONGEST_SIDE = 640  # pixels
MOST_SUPERPIXELS = 2000
MCG_SCALES = (2.0, 1.0, 0.5)
# Numbers of singles, pairs, triplets and 4-tuples: for the combined hierarchy, then for each scale, fine to coarse.
MCG_CANDIDATES = ((90, 900, 200, 500), (2000, 700, 5000, 3000), (300, 700, 5000, 10_000), (300, 200, 300, 4000))
SCG_CANDIDATES = ((700,), (4000,), (6000,), (3000,))


class MCG:
    """Proposes segments of a photo, ranked by how likely they are objects and by how different they are.

    Threads may share one: a call changes nothing in it.

    Args:
        count: number of segments at most.
        scales: scales at which edges are detected, from fine to coarse.
        candidates: number of singles, pairs, triplets and 4-tuples (rows) of the combined hierarchy and of each scale's
            (columns); of the one hierarchy where there is one scale.
        likely: number of segments that come first, in many variants of likely objects; the others differ more.
        longest_side: larger photos are first scaled down to this, in pixels.
        most_superpixels: largest number of superpixels that segments consist of.
        edges: weights of the edge network; the package's own by default.
        ranker: trees of the ranking forest; the package's own by default.
        device: where the edge network runs; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: a setting is out of its range, a file cannot be read, or the device cannot be used.

    >>> import numpy as np
    >>> photo = np.full((60, 80, 3), 40, np.uint8)
    >>> photo[20:40, 30:60] = (200, 60, 60)
    >>> segments = MCG(count=100, device="cpu")(photo)
    >>> any(segments.mask(index)[20:40, 30:60].all() for index in range(len(segments)))
    True
    """

    def __init__(
        self,
        *,
        count: int = 500,
        scales: Sequence[float] = MCG_SCALES,
        candidates: Sequence[Sequence[int]] = MCG_CANDIDATES,
        likely: int = 400,
        longest_side: int = LONGEST_SIDE,
        most_superpixels: int = MOST_SUPERPIXELS,
        edges: str | Path | None = None,
        ranker: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        check_limits(
            "MCG",
            count=(count, 1, 100_000),
            likely=(likely, 0, 100_000),
            longest_side=(longest_side, SMALLEST, 4000),
            most_superpixels=(most_superpixels, 2, 100_000),
        )
        self.detect = EdgeDetector(edges, scales=scales, device=device)
        columns = len(scales) + (len(scales) > 1)
        if not _are_counts(candidates, columns):
            raise ValueError(
                f"MCG: candidates must be 4 rows (singles to 4-tuples) of {columns} counts, not all 0 in a column, "
                f"got {candidates!r}; for one scale, take SCG"
            )
        self.count = int(count)
        self.scales = tuple(scales)
        self.candidates = tuple(tuple(row) for row in candidates)
        self.likely = int(likely)
        self.longest_side = longest_side
        self.most_superpixels = int(most_superpixels)
        self.rank = load_forest(ranker or RANKER)

    def __call__(self, image: ImageSource) -> Segments:
        """Segments, best first; their superpixels are those of the photo, or of the smaller copy that was searched.

        Raises:
            ValueError: the image cannot be read (see `grounding.images.load_image`).
        """
        loaded = load_image(image)
        height, width = loaded.shape[-2:]
        pixels = shrink(loaded, self.longest_side)
        del loaded  # frees memory
        rows, columns = pixels.shape[:2]
        if min(rows, columns) < SMALLEST:
            return to_segments(Groups.none(), np.zeros(0), np.zeros((rows, columns), np.int32), (height, width))
        partition, hierarchies = self._hierarchies(pixels)
        groups = group(partition, hierarchies, self.candidates)
        chosen = diversify(groups.boxes, self.rank(groups.features), likely=self.likely, count=self.count)
        # The order stands for the scores: the values by which the first and the others are chosen cannot be compared.
        ranks = np.linspace(1, 0, len(chosen), endpoint=False)
        return to_segments(groups[chosen], ranks, partition.superpixels, (height, width))

    def contour_map(self, image: ImageSource) -> Reals:
        """The combined hierarchy as a calibrated ultrametric contour map, (2h + 1, 2w + 1).

        Raises:
            ValueError: the image cannot be read (see `grounding.images.load_image`).
        """
        pixels = shrink(load_image(image), self.longest_side)
        if min(pixels.shape[:2]) < SMALLEST:
            return np.zeros((2 * pixels.shape[0] + 1, 2 * pixels.shape[1] + 1))
        partition, hierarchies = self._hierarchies(pixels)
        return calibrate(contour_map(partition, hierarchies[0]))

    def _hierarchies(self, pixels: Pixels) -> tuple[Partition, list[Hierarchy]]:
        return find_hierarchies(pixels, self.detect, scales=self.scales, most_superpixels=self.most_superpixels)


# Single-scale combinatorial grouping.
SCG = partial(MCG, scales=(1.0,), candidates=SCG_CANDIDATES)


def _are_counts(candidates: object, columns: int) -> bool:
    """Whether candidates are four rows of counts, one for each column, and not all 0 in any column."""
    try:
        counts = np.array(candidates)
    except ValueError:
        return False
    return (
        counts.shape == (4, columns) and counts.dtype.kind == "i" and bool((counts >= 0).all() and counts.any(0).all())
    )


def find_hierarchies(
    pixels: Pixels,
    detect: EdgeDetector,
    *,
    scales: Sequence[float] = MCG_SCALES,
    most_superpixels: int = MOST_SUPERPIXELS,
) -> tuple[Partition, list[Hierarchy]]:
    """The partition of a photo (h, w, 3) and its hierarchies; settings as of `MCG`."""
    strengths = [detect.strength(pixels, scale) for scale in scales]
    return build_hierarchies(strengths, most_superpixels=most_superpixels)


def to_segments(groups: Groups, scores: Reals, superpixels: NDArray[np.int32], size: tuple[int, int]) -> Segments:
    """Groups as segments, in their order, with boxes in pixels of a photo of some size (height, width).

    Args:
        groups: N of them, best first.
        scores: (N,).
        superpixels: (h, w), of the photo or of a smaller copy.
        size: (height, width) of the photo in pixels.
    """
    rows, columns = superpixels.shape
    stretch = np.array([size[1] / columns, size[0] / rows] * 2)
    offsets, indices = groups.members
    return Segments(
        torch.from_numpy((groups.boxes * stretch).astype(np.float32)),
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(superpixels),
        (torch.from_numpy(offsets), torch.from_numpy(indices)),
    )
