from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from proposals import EdgeBoxes
from proposals.edges import gradient_edges, thin


def scene(height=200, width=300):
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[50:150, 80:200] = (200, 60, 60)
    return pixels


def test_a_box_on_a_plain_ground_is_found():
    regions = EdgeBoxes(count=50)(scene())
    truth = torch.tensor([[80.0, 50.0, 200.0, 150.0]])
    assert box_iou(regions.boxes, truth).max() > 0.85
    assert len(regions) <= 50
    assert (regions.scores.diff() <= 0).all()


def test_boxes_lie_in_the_photo_at_its_own_scale():
    large = scene().repeat(8, 0).repeat(8, 1)  # 1600×2400
    regions = EdgeBoxes()(large)
    assert (regions.boxes[:, :2] >= 0).all()
    assert (regions.boxes[:, 2] <= 2400).all()
    assert (regions.boxes[:, 3] <= 1600).all()
    assert box_iou(regions.boxes, torch.tensor([[640.0, 400.0, 1600.0, 1200.0]])).max() > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15), (16, 16), (17, 300), (5000, 4000)])
@pytest.mark.parametrize("fill", [0, 255])
def test_blank_photos_of_any_size_have_no_boxes(size, fill):
    assert len(EdgeBoxes()(np.full((*size, 3), fill, np.uint8))) == 0


def test_the_same_photo_has_the_same_boxes_whatever_came_before(examples):
    search = EdgeBoxes()
    first = search(examples["chelsea"])
    search(examples["coffee"])
    for _ in range(3):
        assert torch.equal(search(examples["chelsea"]).boxes, first.boxes)


def test_threads_do_not_disturb_each_other(examples):
    search = EdgeBoxes(count=100)
    expected = search(examples["chelsea"]).boxes
    with ThreadPoolExecutor(4) as pool:
        for regions in pool.map(search, [examples["chelsea"]] * 8):
            assert torch.equal(regions.boxes, expected)


def test_edges_are_strong_where_colour_changes_and_point_across():
    edges = gradient_edges(scene())
    assert edges.strength.min() >= 0
    assert edges.strength.max() <= 1
    assert edges.strength[100, 79:81].max() > 0.5
    assert edges.strength[10, 10] == 0
    across = edges.orientation[100, 80]  # a vertical edge: its normal is horizontal
    assert min(across, np.pi - across) < 0.1
    assert abs(edges.orientation[50, 140] - np.pi / 2) < 0.1


def test_thin_edges_are_a_subset():
    edges = gradient_edges(scene())
    thinned = thin(edges)
    assert ((thinned == 0) | (thinned == edges.strength)).all()
    assert 0 < (thinned > 0.1).sum() < (edges.strength > 0.1).sum()


@pytest.mark.parametrize(
    "setting",
    [
        *({"count": 0}, {"count": "many"}, {"step": 0.999}, {"step": 0}, {"overlap": 2}, {"least_area": 0}),
        *({"longest_side": 0}, {"least_score": float("nan")}),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"EdgeBoxes: {name} must be from"):
        EdgeBoxes(**setting)
