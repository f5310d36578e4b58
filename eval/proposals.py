"""Coverage of objects by proposals: the best overlap of each object, from which every recall follows.

An object counts as found at an IoU of t where some proposal overlaps it by t or more. Recall is over all objects of all
photos, and average recall its mean over IoU .5, .55 … .95 (Hosang et al. 2016).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IOU_OF_AVERAGE = np.arange(50, 100, 5) / 100

Floats = NDArray[np.float64]


def best_overlaps(overlaps: Floats, counts: Sequence[int | None]) -> Floats:
    """The best overlap of each object among the first proposals.

    Shapes:
        overlaps: (K, N), best proposal first.
        counts: C, how many proposals; None for all of them.
        returns: (K, C); 0 where there are no proposals.
    """
    return np.stack([overlaps[:, :count].max(1, initial=0) for count in counts], 1)


def recall(best: Floats, thresholds: Sequence[float] | Floats) -> Floats:
    """The share of objects that are found at each IoU.

    Shapes:
        best: (K,), the best overlap of each object, of all photos together.
        returns: as thresholds.

    Raises:
        ValueError: there are no objects.
    """
    if best.ndim != 1 or len(best) == 0:
        raise ValueError(f"expected the best overlaps of one object or more, got {best.shape}")
    return np.array([(best >= threshold).mean() for threshold in thresholds])


def average_recall(best: Floats) -> float:
    """The mean recall over IoU .5, .55 … .95; raises as `recall` does."""
    return float(recall(best, IOU_OF_AVERAGE).mean())
