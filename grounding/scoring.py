"""Scores of regions from an attention map, S_R / A_R^γ (paper, section 6.3.1), and suppression of near duplicates."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from grounding.records import Regions, Segments

FINEST = 400  # cells along the longer side of the map that boxes are scored on


def score_regions(attention: Tensor, regions: Regions, size: tuple[int, int], *, area_exponent: float) -> Tensor:
    """f(R) = S_R / A_R^γ of all regions of a photo: of segments where there are outlines, else of boxes.

    Shapes:
        attention: (h, w), non-negative, of the whole photo at any resolution.
        regions: N, in pixels of the photo.
        size: (height, width) of the photo in pixels.
        returns: (N,), non-negative.

    Raises:
        ValueError: attention or boxes hold NaN, or attention is negative.
    """
    enlarged = scoring_map(attention, regions, size)
    return score(*region_sums(enlarged, regions, size), area_exponent=area_exponent).to(attention.dtype)


def score(inside: Tensor, area: Tensor, *, area_exponent: float) -> Tensor:
    """f(R) = S_R / A_R^γ; γ = 0 ranks by the sum, 1 by the mean. 0 for an empty region."""
    is_empty = area <= 0
    return torch.where(is_empty, 0.0, inside.clamp(min=0) / area.masked_fill(is_empty, 1) ** area_exponent)


def scoring_map(attention: Tensor, regions: Regions, size: tuple[int, int]) -> Tensor:
    """Attention at the resolution that regions are scored at: the superpixels', or `FINEST` cells at most."""
    if isinstance(regions, Segments):
        return enlarge(attention, (regions.superpixels.shape[0], regions.superpixels.shape[1]))
    height, width = size
    shrink = min(1.0, FINEST / max(height, width))
    return enlarge(attention, (max(round(height * shrink), 1), max(round(width * shrink), 1)))


def region_sums(enlarged: Tensor, regions: Regions, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """S_R and A_R of all regions on their `scoring_map`, (N,) and (N,), float64; every γ shares them."""
    if isinstance(regions, Segments):
        return segment_sums(enlarged, regions.superpixels, *regions.members)
    cells_per_pixel = torch.tensor([enlarged.shape[1] / size[1], enlarged.shape[0] / size[0]] * 2)
    return box_sums(enlarged, regions.boxes * cells_per_pixel)


def enlarge(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """An attention map (h, w) at another resolution (height, width), bicubic as in the paper, never negative."""
    return interpolate(attention[None, None], size, mode="bicubic", align_corners=False)[0, 0].clamp(min=0)


def box_sums(attention: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """S_R and A_R of boxes, from a summed-area table; exact for boxes whose edges fall between cells.

    Shapes:
        attention: (h, w), non-negative.
        boxes: (N, 4), xyxy in cells of the map; what lies outside counts neither as attention nor as area.
        returns: (N,) and (N,), float64.

    Raises:
        ValueError: the map or the boxes hold NaN, or the map is negative.
    """
    _check(attention)
    if not boxes.isfinite().all():
        raise ValueError("boxes hold NaN or infinity")
    height, width = attention.shape
    table = torch.nn.functional.pad(attention.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x1, y1, x2, y2 = boxes.double().unbind(1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    inside = _at(table, y2, x2) - _at(table, y1, x2) - _at(table, y2, x1) + _at(table, y1, x1)
    return inside, (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def _at(table: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """A summed-area table between its grid points, which is bilinear since attention is constant within a cell."""
    top = y.long().clamp(max=table.shape[0] - 2)
    left = x.long().clamp(max=table.shape[1] - 2)
    down, right = y - top, x - left
    upper = table[top, left] * (1 - right) + table[top, left + 1] * right
    lower = table[top + 1, left] * (1 - right) + table[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def segment_sums(attention: Tensor, superpixels: Tensor, offsets: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """S_R and A_R of segments that are sets of superpixels: one sum a superpixel, then sums of sums.

    Shapes:
        attention: (h, w), non-negative.
        superpixels: (h, w), the superpixel of each pixel, from 0.
        offsets, members: segment i consists of the superpixels members[offsets[i]:offsets[i + 1]]; (N + 1,), (M,).
        returns: (N,) and (N,), float64.

    Raises:
        ValueError: the map holds NaN or is negative, or its size is not that of the superpixels.
    """
    _check(attention)
    if attention.shape != superpixels.shape:
        raise ValueError(
            f"attention {tuple(attention.shape)} and superpixels {tuple(superpixels.shape)} differ in size"
        )
    count = int(torch.cat([superpixels.flatten(), members]).max()) + 1
    labels = superpixels.flatten().long()
    sums = torch.bincount(labels, attention.flatten().double(), minlength=count)
    areas = torch.bincount(labels, minlength=count).double()
    return _sum_by_segment(sums, offsets, members), _sum_by_segment(areas, offsets, members)


def _sum_by_segment(values: Tensor, offsets: Tensor, members: Tensor) -> Tensor:
    running = torch.nn.functional.pad(values[members.long()].cumsum(0), (1, 0))
    return running[offsets[1:].long()] - running[offsets[:-1].long()]


def _check(attention: Tensor) -> None:
    if attention.ndim != 2 or not attention.isfinite().all() or (attention < 0).any():
        raise ValueError("expected an attention map (h, w), non-negative and without NaN")


def suppress(regions: Regions, *, overlap: float) -> Regions:
    """Sort regions best first, and drop each that overlaps a better one by more than this IoU."""
    return regions[unsuppressed(regions, overlap=overlap)]


def unsuppressed(regions: Regions, *, overlap: float) -> Tensor:
    """Which regions `suppress` keeps, best first: their indices.

    Raises:
        ValueError: a score is NaN.
    """
    from torchvision.ops import nms

    if regions.scores.isnan().any():
        raise ValueError("a region's score is NaN")
    order = regions.scores.argsort(descending=True, stable=True)
    # Equal scores stay in the order given; nms alone does not promise it.
    ranks = torch.arange(len(regions), 0, -1, dtype=torch.float32, device=regions.boxes.device)
    return order[nms(regions.boxes[order].float(), ranks, overlap)]
