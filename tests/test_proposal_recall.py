import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.proposals import average_recall, best_overlaps, recall
from grounding.records import Regions, Segments
from proposals.overlaps import box_overlaps, mask_overlaps

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(0, 6)


def boxes_in(random, count, height, width):
    corners = random.random((count, 2, 2)) * (width, height)
    return torch.tensor(np.sort(corners, 1).reshape(count, 4), dtype=torch.float32)


def random_segments(random, count, height, width, shrink=1):
    superpixels = torch.from_numpy(random.integers(0, 9, (height // shrink, width // shrink)))
    has = random.random((count, 9)) < 0.4
    offsets = torch.from_numpy(np.concatenate([[0], has.sum(1).cumsum()]))
    members = (offsets, torch.from_numpy(np.nonzero(has)[1]))
    return Segments(boxes_in(random, count, height, width), torch.zeros(count), superpixels, members)


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@given(seeds, counts, counts, st.sampled_from([1, 2, 4]))
def test_segments_overlap_as_their_masks_do(seed, objects, proposals, shrink):
    random = np.random.default_rng(seed)
    segments = random_segments(random, proposals, 12, 16, shrink)
    masks = random.random((objects, 12, 16)) < 0.3
    overlaps = mask_overlaps(segments, torch.from_numpy(masks))
    assert overlaps.shape == (objects, proposals)
    for n in range(proposals):
        outline = segments.mask(n).numpy().repeat(shrink, 0).repeat(shrink, 1)
        for k in range(objects):
            assert overlaps[k, n] == pytest.approx(iou(outline, masks[k]))


@given(seeds, counts, counts)
def test_boxes_overlap_as_their_masks_do(seed, objects, proposals):
    random = np.random.default_rng(seed)
    boxes = boxes_in(random, proposals, 12, 16).round()
    masks = random.random((objects, 12, 16)) < 0.3
    overlaps = mask_overlaps(Regions(boxes, torch.zeros(proposals)), torch.from_numpy(masks))
    assert overlaps.shape == (objects, proposals)
    for n, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        outline = np.zeros((12, 16), bool)
        outline[y1:y2, x1:x2] = True
        for k in range(objects):
            assert overlaps[k, n] == pytest.approx(iou(outline, masks[k]))


@given(seeds, counts, counts)
def test_boxes_overlap_boxes(seed, objects, proposals):
    random = np.random.default_rng(seed)
    regions = Regions(boxes_in(random, proposals, 12, 16), torch.zeros(proposals))
    truth = boxes_in(random, objects, 12, 16)
    overlaps = box_overlaps(regions, truth)
    assert overlaps.shape == (objects, proposals)
    for k, a in enumerate(truth.double().tolist()):
        for n, b in enumerate(regions.boxes.double().tolist()):
            width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
            height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
            assert overlaps[k, n] == pytest.approx(width * height / (areas - width * height))


def test_empty_boxes_overlap_nothing():
    empty = torch.full((1, 4), 3.0)
    assert box_overlaps(Regions(empty, torch.zeros(1)), empty).item() == 0
    assert mask_overlaps(Regions(empty, torch.zeros(1)), torch.zeros(1, 8, 8, dtype=torch.bool)).item() == 0


def test_the_first_proposals_count():
    overlaps = np.array([[0.1, 0.6, 0.3], [0.2, 0.0, 0.9]])
    best = best_overlaps(overlaps, (1, 2, 500, None))
    assert best.tolist() == [[0.1, 0.6, 0.6, 0.6], [0.2, 0.2, 0.9, 0.9]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_no_objects_or_no_proposals_are_shapes(shape):
    best = best_overlaps(np.zeros(shape), (10, None))
    assert best.shape == (shape[0], 2)
    assert not best.any()


def test_recall_counts_an_overlap_that_just_suffices():
    best = np.array([0.5, 0.7, 0.85, 0.2])
    assert recall(best, (0.5, 0.7, 0.85)).tolist() == [0.75, 0.5, 0.25]
    assert average_recall(np.array([1.0, 0.0])) == 0.5
    assert average_recall(np.array([0.55])) == pytest.approx(0.2)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_recall_falls_as_more_overlap_is_asked(best):
    found = recall(np.array(best), np.linspace(0, 1, 21))
    assert (np.diff(found) <= 0).all()
    assert found[0] == 1


def test_no_objects_have_no_recall():
    with pytest.raises(ValueError, match="one object or more"):
        recall(np.zeros(0), (0.5,))
