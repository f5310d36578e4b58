import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from grounding.records import Segments
from proposals import MCG, SCG


@pytest.fixture(scope="module")
def propose():
    return MCG(count=150)


def scene(height=100, width=150):
    pixels = np.full((height, width, 3), (60, 90, 120), np.uint8)
    pixels[height // 4 : height * 3 // 4, width * 4 // 15 : width * 2 // 3] = (200, 60, 60)
    return pixels


SQUARE = torch.tensor([[40.0, 25.0, 100.0, 75.0]])  # of the scene


@pytest.fixture(scope="module")
def cat(examples):
    """The face of a cat, 120×150 pixels."""
    return np.ascontiguousarray(examples["chelsea"][40:160, 120:270])


@pytest.fixture(scope="module")
def cat_segments(propose, cat):
    return propose(cat)


def test_segments_are_ranked_and_as_many_as_wanted(cat_segments):
    assert isinstance(cat_segments, Segments)
    assert len(cat_segments) == 150
    assert (cat_segments.scores.diff() <= 0).all()
    assert cat_segments.superpixels.shape == (120, 150)


def test_boxes_are_tight_around_outlines(cat_segments):
    for index in range(0, 150, 13):
        y, x = torch.nonzero(cat_segments.mask(index), as_tuple=True)
        assert cat_segments.boxes[index].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert cat_segments.areas()[index] == cat_segments.mask(index).sum()


def test_no_two_segments_are_nearly_the_same(cat_segments):
    masks = torch.stack([cat_segments.mask(index).flatten() for index in range(150)]).float()
    shared = masks @ masks.T
    union = masks.sum(1)[:, None] + masks.sum(1) - shared
    assert (shared / union - torch.eye(150)).max() < 0.951


def test_an_object_on_a_plain_ground_is_among_the_first(propose):
    assert box_iou(propose(scene()).boxes[:10], SQUARE).max() > 0.9
    assert box_iou(SCG(count=10)(scene()).boxes, SQUARE).max() > 0.9


def test_the_same_photo_has_the_same_segments_in_any_form(propose, cat_segments, cat):
    tensor = torch.from_numpy(cat).permute(2, 0, 1) / 255
    again = propose(tensor)
    assert torch.equal(again.boxes, cat_segments.boxes)
    assert torch.equal(again.superpixels, cat_segments.superpixels)
    assert all(map(torch.equal, again.members, cat_segments.members))


def test_threads_do_not_disturb_each_other(propose, cat_segments, cat):
    photos = [cat, scene(), cat, cat[::-1], cat]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(propose, photos))
    for index in (0, 2, 4):
        assert torch.equal(found[index].boxes, cat_segments.boxes)
        assert torch.equal(found[index].scores, cat_segments.scores)


def test_a_mask_is_found_from_either_end_or_not_at_all(cat_segments):
    assert torch.equal(cat_segments.mask(-1), cat_segments.mask(149))
    with pytest.raises(IndexError):
        cat_segments.mask(150)


def test_fewer_segments_are_the_first_of_more(cat_segments, cat):
    assert torch.equal(MCG(count=40)(cat).boxes, cat_segments.boxes[:40])


def test_large_photos_are_looked_at_in_a_smaller_copy_and_mapped_back():
    large = scene().repeat(8, 0).repeat(8, 1)  # 800×1200
    regions = MCG(count=50, longest_side=150)(large)
    assert regions.superpixels.shape == (100, 150)
    assert (regions.boxes >= 0).all()
    assert (regions.boxes[:, 2] <= 1200).all()
    assert (regions.boxes[:, 3] <= 800).all()
    assert box_iou(regions.boxes, SQUARE * 8).max() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15), (16, 16), (17, 100), (64, 64)])
@pytest.mark.parametrize("fill", [0, 127, 255])
def test_photos_of_one_colour_have_few_or_no_segments(propose, size, fill):
    regions = propose(np.full((*size, 3), fill, np.uint8))
    assert len(regions) <= 20
    assert min(size) >= 16 or len(regions) == 0


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (20, 600)])
def test_noise_of_any_size_is_no_error(propose, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    regions = propose(pixels)
    assert torch.isfinite(regions.boxes).all()
    assert torch.isfinite(regions.scores).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_twenty_megapixels_fit_in_two_gigabytes():
    code = (
        "import numpy as np, torch; torch.set_num_threads(1); from proposals import MCG, EdgeBoxes\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (4000, 5000, 3), np.uint8)\n"
        "MCG()(pixels); EdgeBoxes()(pixels)\n"
        "print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Not ru_maxrss, which a process has from the one that started it.
    peak = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) * 1024 < 2e9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"count": 0}, "MCG: count must be from 1 to 100000, got 0"),
        ({"count": "many"}, "MCG: count must be from 1"),
        ({"likely": -1}, "MCG: likely must be from 0 to 100000, got -1"),
        ({"longest_side": 8}, "MCG: longest_side must be from 16"),
        ({"most_superpixels": 1}, "MCG: most_superpixels must be from 2"),
        ({"scales": (1.0, 0.5)}, r"candidates must be 4 rows \(singles to 4-tuples\) of 3 counts"),
        ({"scales": (1.0, 0.0, 0.5)}, "scales of edges are a list"),
        ({"scales": 1.0}, "scales of edges are a list"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"candidates": 7}, "candidates must be 4 rows"),
        ({"candidates": [[0] * 4] * 4}, "not all 0 in a column"),
        ({"candidates": [[1, 2, 3, "x"]] * 4}, "candidates must be 4 rows"),
        ({"ranker": "nowhere.safetensors"}, "nowhere.safetensors: no ranker can be read"),
        ({"edges": "nowhere.safetensors"}, "nowhere.safetensors: weights of edges cannot be read"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        MCG(**setting)


def test_grounding_scores_segments(grounder, examples):
    assert isinstance(grounder.propose, MCG)
    (grounding,) = grounder([examples["coffee"][:200, 100:300]], phrases=[["cup"]])
    assert grounding.phrases[0].is_attended
    assert len(grounding.phrases[0].regions) == 10


def test_the_contour_map_shows_where_things_end(propose):
    contours = propose.contour_map(scene())
    assert contours.shape == (201, 301)
    assert contours[100, 70:90].max() > 0.5  # the left side of the square
    assert contours[10:30, 10:30].max() < 0.2
