"""Overlap of proposals with objects, by boxes and by outlines."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from grounding.records import Regions, Segments
from grounding.scoring import box_sums

Floats = NDArray[np.float64]


def box_overlaps(regions: Regions, true_boxes: Tensor) -> Floats:
    """IoU of each object's box with each of N proposals' boxes, in the order of the proposals.

    Shapes:
        true_boxes: (K, 4), xyxy in pixels of the photo.
        returns: (K, N).

    >>> regions = Regions(torch.tensor([[0.0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([0.9, 0.1]))
    >>> box_overlaps(regions, torch.tensor([[0.0, 0, 2, 4]]))
    array([[0.5, 0. ]])
    """
    overlaps: Floats = box_iou(true_boxes.double(), regions.boxes.double()).numpy()
    return np.nan_to_num(overlaps)  # two empty boxes have NaN


def mask_overlaps(regions: Regions, masks: Tensor) -> Floats:
    """IoU of each object's mask with each of N proposals: with its outline where it has one, else with its box.

    No mask is made of any proposal: the area that a segment shares with an object is a sum over superpixels, that of a
    box comes from a summed-area table.

    Shapes:
        masks: (K, H, W), bool, at the size of the photo.
        returns: (K, N); 0 where both are empty.
    """
    if isinstance(regions, Segments):
        shared, areas = _shared_by_segments(regions, masks)
    else:
        shared, areas = _shared_by_boxes(regions, masks)
    union = masks.flatten(1).sum(1)[:, None].numpy() + areas - shared
    return shared / np.where(union > 0, union, 1)


def _shared_by_segments(segments: Segments, masks: Tensor) -> tuple[Floats, Floats]:
    """Pixels in both an object and a segment, (K, N), and in each segment, (N,)."""
    from scipy.sparse import csr_matrix

    height, width = masks.shape[1:]
    rows, columns = (
        (torch.arange(size) * have // size)  # superpixels may belong to a smaller copy
        for size, have in zip((height, width), segments.superpixels.shape, strict=True)
    )
    labels = segments.superpixels[rows[:, None], columns].long()
    count = int(torch.cat([segments.superpixels.flatten(), segments.members[1]]).max()) + 1  # some have no pixels
    pixels = torch.bincount(labels.flatten(), minlength=count).double().numpy()
    inside = np.zeros((count, len(masks)))
    for k, mask in enumerate(masks):
        inside[:, k] = torch.bincount(labels[mask], minlength=count)
    offsets, indices = (each.numpy() for each in segments.members)
    members = csr_matrix((np.ones(len(indices)), indices, offsets), shape=(len(segments), count))
    return (members @ inside).T, members @ pixels


def _shared_by_boxes(regions: Regions, masks: Tensor) -> tuple[Floats, Floats]:
    """Pixels in both an object and a box, (K, N), and in each box, (N,); both count parts of pixels."""
    shared = [box_sums(mask.double(), regions.boxes)[0].numpy() for mask in masks]
    _, areas = box_sums(torch.ones(masks.shape[1:]), regions.boxes)
    return np.array(shared).reshape(len(masks), len(regions)), areas.numpy()
