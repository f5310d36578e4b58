"""Scores of regions from an attention map, S_R / A_R^γ (paper, section 6.3.1), and suppression of near duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from grounding.kinds import KINDS
from grounding.records import Regions, Segments

LONGEST_SIDE = 400  # cells of the map that boxes are scored on


@dataclass(frozen=True, slots=True)
class AreaExponents:
    """γ of S_R / A_R^γ for regions with outlines and for boxes, each from 0 to 10, and what kinds of things add to it.

    Args:
        segments: γ for regions with outlines.
        boxes: γ for boxes.
        by_kind: by a kind of `grounding.kinds.KINDS`, the number, from -10 to 10, that is added for phrases of this
            kind; nothing is added for others. The sum is at least 0.

    Raises:
        ValueError: a value is not a number in its range, or there is no such kind.
    """

    segments: float
    boxes: float
    by_kind: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in (self.segments, self.boxes):
            if not _is_number(value) or not 0 <= value <= 10:
                raise ValueError(f"scoring.area_exponent must be from 0 to 10, got {value!r}")
        for kind, value in self.by_kind.items():
            if kind not in KINDS:
                raise ValueError(f"scoring.area_exponent_by_kind: no kind {kind!r}; kinds are {', '.join(KINDS)}")
            if not _is_number(value) or not -10 <= value <= 10:
                raise ValueError(f"scoring.area_exponent_by_kind.{kind} must be from -10 to 10, got {value!r}")

    def for_phrase(self, kind: str | None, regions: Regions) -> float:
        """The γ for a phrase of this kind, among regions with outlines or boxes."""
        return self.shifted(self.segments if isinstance(regions, Segments) else self.boxes, kind)

    def shifted(self, exponent: float, kind: str | None) -> float:
        """A γ with what a kind adds to it.

        >>> exponents = AreaExponents(segments=0.4, boxes=0.3, by_kind={"part": 0.25, "scene": -0.5})
        >>> [exponents.shifted(0.25, kind) for kind in ("part", "scene", "being", None)]
        [0.5, 0.0, 0.25, 0.25]
        """
        return max(exponent + self.by_kind.get(kind, 0.0), 0.0) if kind else exponent


@dataclass(frozen=True, slots=True)
class Scoring:
    """Settings by which attention maps become ranked regions.

    Args:
        area_exponents: γ of the score S_R / A_R^γ, for segments and for boxes, and by the kind of thing.
        overlap: IoU above which a region gives way to a better one.
        count: the greatest number of regions that a phrase keeps.
        clothing_weight: weight of the map of a phrase's clothing ("a man in a red shirt") relative to that of its own
            words; 0 for none, as in the paper.
        understand: how far to go for words that the model does not know, one of `grounding.understanding.LEVELS`.
        least_probability: a phrase whose best box is less probably right than this is rejected; 0 rejects none.
        least_presence: a phrase that the photo shows less probably than this is rejected; 0 rejects none.

    Raises:
        ValueError: a value is out of its range.
    """

    area_exponents: AreaExponents
    overlap: float = 0.7
    count: int = 10
    clothing_weight: float = 0.0
    understand: str = "exact"
    least_probability: float = 0.0
    least_presence: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"scoring.overlap is an IoU from 0 to 1, got {self.overlap}")
        if self.count < 1:
            raise ValueError(f"scoring.count must be at least 1, got {self.count}")
        if not 0 <= self.clothing_weight <= 10:
            raise ValueError(f"scoring.clothing_weight must be from 0 to 10, got {self.clothing_weight}")
        for name in ("least_probability", "least_presence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"scoring.{name} must be from 0 to 1, got {getattr(self, name)}")

    def rejects(self, probability: float | None, presence: float | None) -> bool:
        """Whether a phrase with these probabilities is rejected; never where they are not known."""
        if probability is None or presence is None:
            return False
        return probability < self.least_probability or presence < self.least_presence


@dataclass(frozen=True, eq=False)
class Ranking:
    """Proposals ranked by an attention map, near duplicates dropped."""

    indices: Tensor  # (N,) int64, the proposals that remain, best first
    regions: Regions  # their boxes with their scores, float64
    mass: float  # sum of the map that regions were scored on; 0 where the proposals kept their own order


def rank_regions(
    attention: Tensor | None,
    proposals: Regions,
    size: tuple[int, int],
    *,
    area_exponents: Sequence[float],
    overlap: float,
) -> list[Ranking]:
    """Rank the proposals of a photo by S_R / A_R^γ and suppress near duplicates, once for each γ (paper, 6.3.1).

    Args:
        attention: (h, w), non-negative, of the whole photo at any resolution. None or all zeros keeps the proposals'
            own order and scores.
        proposals: N regions in pixels of the photo, `Segments` where there are outlines.
        size: (height, width) of the photo in pixels.
        area_exponents: the γ to rank with; sums of attention are shared by all of them.
        overlap: IoU above which a region gives way to a better one.

    Returns:
        A ranking for each γ, in their order.

    Raises:
        ValueError: attention, boxes or scores hold NaN, or attention is negative.
    """
    if attention is None or not attention.any():
        mass, scores = 0.0, [proposals.scores.double()] * len(area_exponents)
    else:
        enlarged = scoring_map(attention, proposals, size)
        inside, area = region_sums(enlarged, proposals, size)
        mass = float(enlarged.sum())
        scores = [score(inside, area, area_exponent=gamma) for gamma in area_exponents]
    rankings = []
    for found in scores:
        indices = unsuppressed(Regions(proposals.boxes, found), overlap=overlap)
        rankings.append(Ranking(indices, Regions(proposals.boxes[indices], found[indices]), mass))
    return rankings


def score(inside: Tensor, area: Tensor, *, area_exponent: float) -> Tensor:
    """Compute f(R) = S_R / A_R^γ (paper, section 6.3.1): γ = 0 ranks by the sum, 1 by the mean. Empty regions score 0.

    >>> inside, area = torch.tensor([4.0, 3.0]), torch.tensor([16.0, 1.0])
    >>> score(inside, area, area_exponent=0.5)
    tensor([1., 3.])
    """
    is_empty = area <= 0
    return torch.where(is_empty, 0.0, inside.clamp(min=0) / area.masked_fill(is_empty, 1) ** area_exponent)


def scoring_map(attention: Tensor, regions: Regions, size: tuple[int, int]) -> Tensor:
    """Attention at the resolution that regions are scored at: the superpixels', or `LONGEST_SIDE` cells at most."""
    if isinstance(regions, Segments):
        return enlarge(attention, (regions.superpixels.shape[0], regions.superpixels.shape[1]))
    height, width = size
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(attention: Tensor) -> None:
    if attention.ndim != 2 or not attention.isfinite().all() or (attention < 0).any():
        raise ValueError("expected an attention map (h, w), non-negative and without NaN")


def unsuppressed(regions: Regions, *, overlap: float) -> Tensor:
    """The indices, best first, of the regions that no better one overlaps by more than this IoU.

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
