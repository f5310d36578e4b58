"""Regions from the numbers of published files, checked, best first."""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from grounding.records import Regions, Segments

Floats: TypeAlias = NDArray[np.float64]

FORMS = ("xyxy", "xyxy_inclusive", "yxyx_inclusive", "xywh")  # all but the first count pixels from 1
BOXES = ("bbs", "bboxes", "boxes")  # variables of MATLAB files, of which the first that is there counts
SCORES = ("bboxes_scores", "boxScores", "scores")


def finite_numbers(value: Any, name: str) -> Floats:
    """An array as float64.

    Args:
        value: value of a variable in a file.
        name: name of the array, for errors.

    Raises:
        ValueError: it is no array of numbers, or one of them is NaN or infinite.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError(f"{name} should be a matrix of numbers")
    numbers = value.astype(np.float64)
    if not (np.abs(numbers) <= np.finfo(np.float32).max).all():  # false for NaN, too
        raise ValueError(f"{name} should be finite numbers, but some are NaN or infinite")
    return numbers


def from_fields(fields: dict[str, Any], form: str | None, size: tuple[int, int]) -> Regions:
    """The proposals for a photo of a size (height, width) in the variables of a MATLAB file, best first.

    The usual form is x, y, w, h, score, as EdgeBoxes writes; but four columns named ``boxes`` or ``bboxes`` are
    up, left, down, right, as MCG, selective search and the released sets of EdgeBoxes for VOC have them.

    Args:
        fields: the variables.
        form: one of ``FORMS``; None for the usual one.
        size: (height, width) of the photo in pixels.

    Raises:
        ValueError: there are no proposals, or they have another type or shape.
    """
    if {"superpixels", "labels"} <= fields.keys():
        return to_segments(fields, size)
    name = _boxes_name(fields)
    if isinstance(fields[name], list):
        raise ValueError(f"{name} is a cell array, of a whole data set: give the file as path, not its folder")
    rows = finite_numbers(fields[name], name)
    if rows.size == 0:
        rows = np.zeros((0, 4))
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise ValueError(f"{name} should have 4 or 5 columns, got {_times(rows.shape)}")
    usual = "yxyx_inclusive" if name in ("boxes", "bboxes") and rows.shape[1] == 4 else "xywh"
    return to_regions(rows, next((fields[n] for n in SCORES if n in fields), None), form or usual, size)


def _boxes_name(fields: dict[str, Any]) -> str:
    """The variable of a MATLAB file that holds boxes.

    Raises:
        ValueError: there is none, or several could be meant.
    """
    for name in BOXES:
        if name in fields:
            return name
    arrays = {n: v for n, v in fields.items() if isinstance(v, np.ndarray) and n not in SCORES}
    matrices = [n for n, v in arrays.items() if v.dtype.kind in "biuf" and v.ndim == 2 and v.shape[1] in (4, 5)]
    if len(matrices) != 1:
        raise ValueError(
            "expected superpixels and labels, or bbs, bboxes or boxes, or a single matrix of 4 or 5 columns; "
            f"found {', '.join(fields) or 'no variable'}"
        )
    return matrices[0]


def to_segments(fields: dict[str, Any], size: tuple[int, int]) -> Segments:
    """Segments from the variables of MCG, best first.

    Boxes are computed from the superpixels: ``bboxes`` belong to the proposals that MCG's own suppression has left.

    Args:
        fields: ``superpixels`` (H, W), ``labels``, the superpixels of each proposal, and perhaps ``scores``.
        size: (height, width) of the photo.

    Raises:
        ValueError: a variable has another type or shape, or names a superpixel that is not there.
    """
    partition = finite_numbers(fields["superpixels"], "superpixels")
    if (partition % 1).any():
        raise ValueError("superpixels should be whole numbers")
    if partition.shape != size:
        raise ValueError(
            f"superpixels should have the photo's size, {_times(size)} (height×width), not {_times(partition.shape)}"
        )
    ids, superpixels = np.unique(partition, return_inverse=True)
    superpixels = superpixels.reshape(size)
    offsets, members = _members(fields["labels"], ids)
    start, end = _extents(superpixels, len(ids))
    corners = np.minimum.reduceat(start[members], offsets[:-1]), np.maximum.reduceat(end[members], offsets[:-1])
    scores = _scores(fields.get("scores"), len(offsets) - 1)
    segments = Segments(
        torch.from_numpy(np.hstack(corners).astype(np.float32)),
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(superpixels.astype(np.int32)),
        (torch.from_numpy(offsets), torch.from_numpy(members)),
    )
    return segments[_best_first(scores)]


def _members(cells: Any, ids: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """The superpixels of each proposal in CSR form, by their place among the sorted numbers of all superpixels.

    Args:
        cells: the numbers of the superpixels in each proposal.
        ids: the numbers of all superpixels, ascending.
    """
    if not isinstance(cells, list):
        raise ValueError("labels should be a cell array, one cell for each proposal")
    labels = [finite_numbers(cell, f"cell {i} of labels").ravel() for i, cell in enumerate(cells, 1)]
    sizes = np.array([len(cell) for cell in labels], np.int64)
    if not sizes.all():
        raise ValueError(f"cell {sizes.argmin() + 1} of labels names no superpixel")
    owners, named = np.arange(len(labels)).repeat(sizes), np.concatenate([np.zeros(0), *labels])
    places = np.searchsorted(ids, named).clip(max=len(ids) - 1)
    is_missing = ids[places] != named
    if is_missing.any():
        first = is_missing.argmax()
        raise ValueError(f"cell {owners[first] + 1} of labels names superpixel {named[first]:g}, which is not there")
    once = np.unique(owners * len(ids) + places)  # a superpixel named twice counts once
    return np.searchsorted(once, np.arange(len(labels) + 1) * len(ids)), once % len(ids)


def _extents(superpixels: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first column and row of each superpixel, and those after its last one; (count, 2) each."""
    start, end = np.full((count, 2), max(superpixels.shape)), np.zeros((count, 2), np.int64)
    for axis, places in enumerate(np.indices(superpixels.shape)[::-1]):
        np.minimum.at(start[:, axis], superpixels, places)
        np.maximum.at(end[:, axis], superpixels, places + 1)
    return start, end


def to_regions(rows: Floats, scores: Any, form: str, size: tuple[int, int]) -> Regions:
    """Regions from boxes in one of ``FORMS``, best first.

    Args:
        rows: (N, 4), or (N, 5) with scores in the last column.
        scores: N numbers; None for those in the rows, or, without any, the order of the file.
        form: meaning of the columns.
        size: (height, width) of the photo; boxes may lie outside by up to one pixel, which is cut off.

    Raises:
        ValueError: a box is empty or lies outside the photo, or there are more or fewer scores.
    """
    height, width = size
    boxes = rows[:, :4].copy()
    if form == "yxyx_inclusive":
        boxes = boxes[:, [1, 0, 3, 2]]
    if form != "xyxy":
        boxes[:, :2] -= 1
    if form == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    clipped = boxes.clip(0, [width, height, width, height])
    is_wrong = (np.abs(clipped - boxes) > 1).any(1) | (clipped[:, :2] >= clipped[:, 2:]).any(1)
    if is_wrong.any():
        which = is_wrong.argmax()
        row = ", ".join(f"{value:g}" for value in rows[which, :4])
        raise ValueError(
            f"box {which + 1} ({row}), as {form}, is empty or outside the photo of {_times(size)} pixels "
            f"(height×width); form may be {', '.join(FORMS)}"
        )
    ranks = rows[:, 4] if rows.shape[1] == 5 else _scores(scores, len(rows))
    regions = Regions(torch.from_numpy(clipped.astype(np.float32)), torch.from_numpy(ranks.astype(np.float32)))
    return regions[_best_first(ranks)]


def _scores(value: Any, count: int) -> Floats:
    """The scores of a file, (N,); without any, numbers from 1 downwards, so that its order stays."""
    if value is None:
        return 1 - np.arange(count) / max(count, 1)
    scores = finite_numbers(value, "the scores").ravel()
    if len(scores) != count:
        raise ValueError(f"{count} proposals should have as many scores, got {len(scores)}")
    return scores


def _best_first(scores: Floats) -> torch.Tensor:
    return torch.from_numpy(np.argsort(-scores, kind="stable"))


def _times(shape: tuple[int, ...]) -> str:
    """A shape as text, such as 30×40."""
    return "×".join(map(str, shape))
