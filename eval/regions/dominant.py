"""Dominant objects: one box for a name, around the attention above a multiple of its mean (paper, 6.2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from eval.metrics import bootstrap, shares
from eval.regions.photos import Size
from eval.regions.result import ALPHAS, DominantObjects
from eval.result import Measured
from grounding.peaks import bright_box, dominant_box
from grounding.scoring import enlarge

CORRECT = 0.5  # IoU of a correct box


def overlaps_by_alpha(attention: Tensor | None, region: Tensor, size: Size) -> tuple[float, ...]:
    """The IoU of the box for each of `ALPHAS` with the region; 0 for all of them without attention.

    Args:
        attention: (h, w), non-negative, of the whole photo at any resolution.
        region: a mask (H, W), of which the tightest box counts, or boxes (N, 4), of which the best one counts.
        size: (height, width) of the photo, to which attention is enlarged.
    """
    if attention is None or attention.isnan().any():
        return (0.0,) * len(ALPHAS)
    enlarged = enlarge(attention, size)
    truth = bright_box(region.float(), 0)[None] if region.dtype == torch.bool else region
    boxes = torch.stack([dominant_box(enlarged, alpha) for alpha in ALPHAS])
    best = box_iou(boxes.double(), truth.double()).nan_to_num(nan=0.0).amax(1)
    return tuple(best.tolist())


def errors_by_alpha(overlaps: Sequence[Sequence[float]]) -> list[float]:
    """The localisation error for each of `ALPHAS`: the share of pairs, at least one, whose box has an IoU below .5."""
    return [float(share) for share in (np.array(overlaps) < CORRECT).mean(0)]


def choose_alpha(overlaps: Sequence[Sequence[float]]) -> float:
    """The least α with the least error over pairs, at least one.

    >>> choose_alpha([[0.1, 0.6, 0.7] + [0.0] * 18])
    0.5
    """
    errors = errors_by_alpha(overlaps)
    return ALPHAS[errors.index(min(errors))]


def score_dominant(
    photos: Sequence[str],
    overlaps: Sequence[Sequence[float]],
    *,
    alpha: float,
    chosen_on: int | None,
    rounds: int = 1000,
    seed: int = 0,
) -> DominantObjects:
    """The localisation error over pairs, with an interval over photos.

    Args:
        photos: the photo of each pair.
        overlaps: the IoU of each pair for each of `ALPHAS`.
        alpha: one of them.
        chosen_on: number of other photos on which it was chosen; None where it was given.
        rounds: number of bootstrap samples of the photos; 0 for no interval.
        seed: the seed of the bootstrap.
    """
    errors = errors_by_alpha(overlaps)
    wrong = np.array([[each[ALPHAS.index(alpha)] < CORRECT] for each in overlaps], np.float64)
    once = np.ones(len(wrong))
    (share,), (interval,) = shares(wrong, once), bootstrap(photos, wrong, once, rounds=rounds, seed=seed)
    return DominantObjects(
        alpha=alpha,
        chosen_on=chosen_on,
        error=Measured(share, interval),
        errors={f"{each:g}": error for each, error in zip(ALPHAS, errors, strict=True)},
    )


def read_held_out(path: str, names: Sequence[str]) -> frozenset[str]:
    """The photos that a list names, one a line, with or without their endings; at least one is not in it.

    Args:
        path: the list.
        names: the names of all photos.

    Raises:
        ValueError: there is no such list, or it has none or all of the photos.
    """
    file = Path(path).expanduser()
    try:
        listed = set(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
    found = frozenset(name for name in names if name in listed or Path(name).stem in listed)
    if not found or len(found) == len(names):
        raise ValueError(f"{file}: expected some of the {len(names)} photos, found {len(found) or 'none'} of them")
    return found
