import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from grounding import Grounder
from grounding.records import Segments
from proposals import MCG, SCG


@pytest.fixture(scope="module")
def propose():
    return MCG(count=300)


def scene(height=200, width=300):
    pixels = np.full((height, width, 3), (60, 90, 120), np.uint8)
    pixels[50:150, 80:200] = (200, 60, 60)
    return pixels


@pytest.fixture(scope="module")
def of_cat(propose, examples):
    return propose(examples["chelsea"])


def test_segments_are_ranked_and_as_many_as_wanted(of_cat):
    assert isinstance(of_cat, Segments)
    assert len(of_cat) == 300
    assert (of_cat.scores.diff() <= 0).all()
    assert of_cat.superpixels.shape == (300, 451)


def test_boxes_are_tight_around_outlines(of_cat):
    for index in range(0, 300, 23):
        y, x = torch.nonzero(of_cat.mask(index), as_tuple=True)
        assert of_cat.boxes[index].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert of_cat.areas()[index] == of_cat.mask(index).sum()


def test_no_two_segments_are_nearly_the_same(of_cat):
    masks = torch.stack([of_cat.mask(index).flatten() for index in range(100)]).float()
    shared = masks @ masks.T
    union = masks.sum(1)[:, None] + masks.sum(1) - shared
    assert (shared / union - torch.eye(100)).max() < 0.951


def test_an_object_on_a_plain_ground_is_among_the_first(propose):
    truth = torch.tensor([[80.0, 50.0, 200.0, 150.0]])
    assert box_iou(propose(scene()).boxes[:10], truth).max() > 0.9
    assert box_iou(SCG(count=10)(scene()).boxes, truth).max() > 0.9


def test_the_same_photo_has_the_same_segments_in_any_form(propose, of_cat, examples):
    tensor = torch.from_numpy(examples["chelsea"]).permute(2, 0, 1) / 255
    again = propose(tensor)
    assert torch.equal(again.boxes, of_cat.boxes)
    assert torch.equal(again.superpixels, of_cat.superpixels)
    assert all(map(torch.equal, again.members, of_cat.members))


def test_a_mask_is_found_from_either_end_or_not_at_all(of_cat):
    assert torch.equal(of_cat.mask(-1), of_cat.mask(299))
    with pytest.raises(IndexError):
        of_cat.mask(300)


def test_fewer_segments_are_the_first_of_more(of_cat, examples):
    assert torch.equal(MCG(count=40)(examples["chelsea"]).boxes, of_cat.boxes[:40])


def test_large_photos_are_looked_at_in_a_smaller_copy_and_mapped_back(propose):
    large = scene().repeat(8, 0).repeat(8, 1)  # 1600×2400
    regions = propose(large)
    assert max(regions.superpixels.shape) == 640
    assert (regions.boxes >= 0).all()
    assert (regions.boxes[:, 2] <= 2400).all()
    assert (regions.boxes[:, 3] <= 1600).all()
    assert box_iou(regions.boxes, torch.tensor([[640.0, 400.0, 1600.0, 1200.0]])).max() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15), (16, 16), (17, 300), (64, 64), (400, 500)])
@pytest.mark.parametrize("fill", [0, 127, 255])
def test_photos_of_one_colour_have_few_or_no_segments(propose, size, fill):
    regions = propose(np.full((*size, 3), fill, np.uint8))
    assert len(regions) <= 20
    assert min(size) >= 16 or len(regions) == 0


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (40, 3000)])
def test_noise_of_any_size_is_no_error(propose, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    regions = propose(pixels)
    assert torch.isfinite(regions.boxes).all()
    assert torch.isfinite(regions.scores).all()


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
        ({"theta": 1.5}, "MCG: theta must be from 0 to 1"),
        ({"longest_side": 8}, "MCG: longest_side must be from 16"),
        ({"most_superpixels": 1}, "MCG: most_superpixels must be from 2"),
        ({"scales": (1.0, 0.5)}, r"candidates must be 4 rows \(singles to 4-tuples\) of 3 counts"),
        ({"scales": (1.0, 0.0, 0.5)}, "scales of edges are a list"),
        ({"scales": 1.0}, "scales of edges are a list"),
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


def test_grounding_scores_segments(examples):
    grounder = Grounder.load(None, "proposals=mcg", "proposals.count=200")
    (grounding,) = grounder([examples["coffee"]], phrases=[["cup"]])
    assert grounding.phrases[0].is_attended
    assert len(grounding.phrases[0].regions) == 10


def test_the_contour_map_shows_where_things_end(propose):
    contours = propose.contour_map(scene())
    assert contours.shape == (401, 601)
    assert contours[200, 150:170].max() > 0.5  # the left side of the square
    assert contours[20:60, 20:60].max() < 0.2
