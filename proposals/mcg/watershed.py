"""Watersheds of edges, and which of their regions touch: loops over the grid of a photo's pixels.

They number regions and borders as higra does for a grid that is given as a graph, without that graph, whose edges take
most of the time.
"""

import numpy as np
from numpy.typing import NDArray

from proposals.compiled import compiled

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Labels = NDArray[np.int32]  # (h, w)


def watershed(strength: Reals) -> Labels:
    """The basin of each pixel, (h, w), from 1: pixels from which a drop of water flows to the same minimum.

    Water flows across the lowest sides of a pixel; the height of a side between two pixels is the mean of their
    strengths (watershed cuts, Cousty et al. 2009).

    Args:
        strength: (h, w).
    """
    labels = np.zeros(strength.shape, np.int32)
    _flood(np.ascontiguousarray(strength).ravel(), strength.shape[1], labels.ravel())
    return labels


def adjacency(labels: NDArray[np.integer]) -> tuple[Labels, Ints, Labels]:
    """The connected regions of equal labels, and the pairs of them that touch.

    Args:
        labels: (h, w).

    Returns:
        superpixels: (h, w), the region of each pixel, from 0, in the order of their first pixels.
        pairs: (E, 2), the regions that share a border, the lower number first.
        between: (h, w, 2), the pair between a pixel and the one to its right, and the one below; -1 within a region.
    """
    height, width = labels.shape
    superpixels = np.full(height * width, -1, np.int32)
    between = np.full((height * width, 2), -1, np.int32)
    pairs = _connect(labels.astype(np.int32).ravel(), width, superpixels, between)
    return superpixels.reshape(labels.shape), pairs, between.reshape(height, width, 2)


def side_heights(strength: Reals) -> Reals:
    """The height of the side between a pixel and the one to its right, and the one below, (h, w, 2); 0 at the rim."""
    heights = np.zeros((*strength.shape, 2))
    heights[:, :-1, 0] = (strength[:, :-1] + strength[:, 1:]) / 2
    heights[:-1, :, 1] = (strength[:-1] + strength[1:]) / 2
    return heights


def sums_over(between: Labels, values: Reals, count: int) -> Reals:
    """The sums (count,) of values (h, w, 2) along the border of each pair."""
    is_border = between >= 0
    sums: Reals = np.bincount(between[is_border], values[is_border], minlength=count).astype(np.float64)
    return sums


@compiled
def _beside(pixel, side, width, pixels):  # type: ignore[no-untyped-def]
    """The pixel above, to the left, to the right or below (side 0 to 3); -1 where there is none."""
    if side == 0:
        return pixel - width if pixel >= width else -1
    if side == 1:
        return pixel - 1 if pixel % width > 0 else -1
    if side == 2:
        return pixel + 1 if pixel % width < width - 1 else -1
    return pixel + width if pixel + width < pixels else -1


@compiled
def _flood(strength, width, labels):  # type: ignore[no-untyped-def]
    pixels = len(strength)
    lowest = np.empty(pixels, np.float64)  # the height of a pixel's lowest side
    for pixel in range(pixels):
        lowest[pixel] = np.inf
        for side in range(4):
            other = _beside(pixel, side, width, pixels)
            if other >= 0:
                lowest[pixel] = min(lowest[pixel], (strength[pixel] + strength[other]) / 2)
    is_free = np.full(pixels, True)  # not on the stream
    stream = np.empty(pixels, np.int64)  # the pixels that the water has reached, one after the other
    waiting = np.empty(pixels, np.int64)  # those of them from which it still flows on
    basins = 0
    for source in range(pixels):
        if labels[source] > 0:
            continue
        label, length, top = 0, 1, 1
        stream[0] = waiting[0] = source
        is_free[source] = False
        while top > 0 and label == 0:
            top -= 1
            pixel = waiting[top]
            for side in range(4):
                other = _beside(pixel, side, width, pixels)
                if other < 0 or not is_free[other] or (strength[pixel] + strength[other]) / 2 != lowest[pixel]:
                    continue
                if labels[other] > 0:
                    label = labels[other]
                    break
                is_lower = lowest[other] < lowest[pixel]
                if is_lower:
                    top = 0
                stream[length] = waiting[top] = other
                is_free[other] = False
                length += 1
                top += 1
                if is_lower:
                    break
        if label == 0:
            basins += 1
            label = basins
        for place in range(length):
            labels[stream[place]] = label
            is_free[stream[place]] = True


@compiled
def _connect(labels, width, superpixels, between):  # type: ignore[no-untyped-def]
    """Fill in what `adjacency` returns, for arrays of pixels one after the other; return the pairs."""
    pixels = len(labels)
    stack = np.empty(pixels, np.int64)
    last_pair = np.empty(pixels, np.int64)  # of each region, the last one with it
    pairs = np.empty((3 * pixels, 2), np.int64)
    regions = count = 0
    for source in range(pixels):
        if superpixels[source] >= 0:
            continue
        first, top = count, 1  # first: of the pairs with this region
        stack[0], superpixels[source] = source, regions
        while top > 0:
            top -= 1
            pixel = stack[top]
            for side in range(4):
                other = _beside(pixel, side, width, pixels)
                if other < 0:
                    continue
                region = superpixels[other]
                if labels[other] == labels[pixel]:
                    if region < 0:
                        superpixels[other] = regions
                        stack[top] = other
                        top += 1
                elif region >= 0:
                    if last_pair[region] < first:
                        pairs[count, 0], pairs[count, 1] = region, regions
                        last_pair[region] = count
                        count += 1
                    between[min(pixel, other), 1 if side == 0 or side == 3 else 0] = last_pair[region]
        last_pair[regions] = -1
        regions += 1
    return pairs[:count]
