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
    large = scene().repeat(4, 0).repeat(4, 1)  # 800×1200
    regions = EdgeBoxes(longest_side=300)(large)
    assert (regions.boxes[:, :2] >= 0).all()
    assert (regions.boxes[:, 2] <= 1200).all()
    assert (regions.boxes[:, 3] <= 800).all()
    assert box_iou(regions.boxes, torch.tensor([[320.0, 200.0, 800.0, 600.0]])).max() > 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15), (16, 16), (17, 300), (1200, 900)])
@pytest.mark.parametrize("fill", [0, 255])
def test_blank_photos_of_any_size_have_no_boxes(size, fill):
    assert len(EdgeBoxes()(np.full((*size, 3), fill, np.uint8))) == 0


def test_the_same_photo_has_the_same_boxes_whatever_came_before(examples):
    search = EdgeBoxes()
    cat, cup = examples["chelsea"][60:200, 100:260], examples["coffee"][:140, :160]
    first = search(cat)
    search(cup)
    assert len(first) > 20
    for _ in range(3):
        assert torch.equal(search(cat).boxes, first.boxes)


def test_threads_do_not_disturb_each_other(examples):
    search = EdgeBoxes(count=100)
    cat, cup = examples["chelsea"][60:200, 100:260], examples["coffee"][:140, :160]
    expected = [search(cat).boxes, search(cup).boxes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(search, [cat, cup] * 4))
    assert all(torch.equal(found[index].boxes, expected[index % 2]) for index in range(8))


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
    ("name", "value"),
    [
        ("count", 0),
        ("count", "many"),
        ("step", 0.999),
        ("step", 0),
        ("overlap", 2),
        ("least_area", 0),
        ("longest_side", 0),
        ("least_score", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"EdgeBoxes: {name} must be from"):
        EdgeBoxes(**{name: value})


def test_settings_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="EdgeBoxes: edges must be learned or gradient, got 'sobel'"):
        EdgeBoxes(edges="sobel")
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        EdgeBoxes(device="abacus")
