import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.io import savemat

import train.edges
from grounding.coco import CocoObject, object_boxes, object_masks, read_photos
from proposals.edges import EdgeDetector
from proposals.mcg import MCG
from proposals.mcg.ranking import load_forest
from train.bsds import find_photos, read_annotated
from train.edges import EdgeTraining, train_edges
from train.ranker import train_ranker

FEW = EdgeTraining(steps=4, batch_size=2, crop=32, ema_decay=0.5)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bsds(tmp_path_factory):
    """Two photos of a square each, and what two people drew."""
    root = tmp_path_factory.mktemp("bsds")
    for split, left in (("train", 10), ("val", 20)):
        (root / "images" / split).mkdir(parents=True)
        (root / "groundTruth" / split).mkdir(parents=True)
        pixels = np.full((64, 80, 3), 50, np.uint8)
        pixels[15:50, left:60] = (200, 80, 40)
        Image.fromarray(pixels).save(root / "images" / split / f"{left}.jpg")
        people = np.empty((1, 2), object)
        for person in range(2):
            segments = np.ones((64, 80), np.uint16)
            segments[15:50, left + person : 60] = 2
            boundaries = np.zeros((64, 80), np.uint8)
            boundaries[15:50, left] = 1
            people[0, person] = {"Segmentation": segments, "Boundaries": boundaries}
        savemat(root / "groundTruth" / split / f"{left}.mat", {"groundTruth": people})
    return root


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Three photos of a rectangle each, and the outline of it."""
    root = tmp_path_factory.mktemp("coco")
    (root / "images").mkdir()
    images, objects = [], []
    for index in range(3):
        pixels = np.full((90, 120, 3), 60, np.uint8)
        x1, y1, x2, y2 = 20 + 10 * index, 15, 90, 70
        pixels[y1:y2, x1:x2] = (210, 60, 50)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": 90, "width": 120})
        objects.append(
            {
                "image_id": index,
                "category_id": 7,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                "iscrowd": 0,
            }
        )
    crowd = {"counts": [90 * 119, 90], "size": [90, 120]}  # the last column
    objects.append({"image_id": 0, "category_id": 7, "bbox": [119, 0, 1, 90], "segmentation": crowd, "iscrowd": 1})
    content = {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "box"}]}
    (root / "instances.json").write_text(json.dumps(content))
    return root


def test_annotations_of_bsds500_are_read(bsds):
    photos = find_photos(bsds, "train", "val")
    assert [photo.stem for photo in photos] == ["10", "20"]
    drawn = read_annotated(photos[0])
    assert drawn.boundaries.shape == drawn.segments.shape == (2, 64, 80)
    assert drawn.boundaries[0].sum() == 35
    with pytest.raises(ValueError, match="has the splits"):
        find_photos(bsds, "tset")
    with pytest.raises(ValueError, match=r"no photos of BSDS500 in .*get BSDS500 from"):
        find_photos(bsds, "test")


def test_objects_of_coco_are_read_without_crowds(coco):
    photos, categories = read_photos(coco / "instances.json", coco / "images")
    assert categories == ("box",)
    assert [len(photo.things) for photo in photos] == [1, 1, 1]
    crowd = photos[0].objects[1].mask(photos[0].size)
    assert crowd[:, -1].all()
    assert crowd.sum() == 90
    mask = object_masks(photos[0])[0]
    y, x = torch.nonzero(mask, as_tuple=True)
    assert object_boxes(photos[0]).tolist() == [[x.min(), y.min(), x.max() + 1, y.max() + 1]]
    assert mask.sum() == 70 * 55


def test_run_lengths_of_another_size_are_refused():
    crowd = CocoObject("box", (0, 0, 3, 2), (1, 5), is_crowd=True)
    assert crowd.mask((2, 3)).tolist() == [[False, True, True], [True, True, True]]
    with pytest.raises(ValueError, match="run lengths of 6 pixels, but the photo has 3×3"):
        crowd.mask((3, 3))


@pytest.mark.slow
def test_an_interrupted_training_of_edges_ends_with_the_same_weights(bsds, tmp_path, monkeypatch):
    monkeypatch.setattr(train.edges, "SAVE_EVERY", 2)
    whole = load_file(train_edges(str(bsds), str(tmp_path / "whole.safetensors"), training=FEW))

    take_step = train.edges._take_step

    def killed(photos, training, state, device):
        if state.step == 3:
            raise KeyboardInterrupt
        return take_step(photos, training, state, device)

    monkeypatch.setattr(train.edges, "_take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_edges(str(bsds), str(tmp_path / "parts.safetensors"), training=FEW)
    monkeypatch.setattr(train.edges, "_take_step", take_step)
    parts = load_file(train_edges(str(bsds), str(tmp_path / "parts.safetensors"), training=FEW))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    (tmp_path / "parts.safetensors").unlink()  # its state is still there
    again = load_file(train_edges(str(bsds), str(tmp_path / "parts.safetensors"), training=FEW))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert EdgeDetector(tmp_path / "parts.safetensors")(np.zeros((20, 20, 3), np.uint8)).strength.shape == (20, 20)


def test_a_state_of_other_settings_is_refused(bsds, tmp_path):
    output = tmp_path / "edges.safetensors"
    train_edges(str(bsds), str(output), training=EdgeTraining(steps=1, batch_size=1, crop=32))
    with pytest.raises(ValueError, match=r"belongs to other settings \(batch_size\): choose another"):
        train_edges(str(bsds), str(output), training=EdgeTraining(steps=1, batch_size=2, crop=32))
    output.with_name("edges.safetensors.state").write_bytes(b"junk")
    with pytest.raises(ValueError, match="no state of a training run"):
        train_edges(str(bsds), str(output), training=EdgeTraining(steps=1, batch_size=1, crop=32))


@pytest.mark.slow
def test_the_ranker_learns_which_segment_is_an_object(bsds, coco, tmp_path):
    output = train_ranker(
        str(tmp_path / "ranker.safetensors"),
        coco=str(coco),
        bsds=str(bsds),
        samples=50,
        trees=5,
        least_leaf=2,
        folds=3,
        workers=1,
    )
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == [f"fold_{i}.safetensors" for i in range(3)]
    load_forest(output)
    segments = MCG(count=5, ranker=output)(coco / "images" / "0.png")
    assert abs(segments.areas()[0] - 70 * 55) < 0.2 * 70 * 55  # the rectangle is first


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"annotations": [{}], "images": []}'])
def test_broken_instances_are_named(tmp_path, content):
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ValueError, match=r"instances\.json: these are not instances as COCO writes them"):
        read_photos(tmp_path / "instances.json", tmp_path)


def test_settings_out_of_range_are_refused(coco, tmp_path):
    with pytest.raises(ValueError, match="EdgeTraining: crop must be from 32"):
        EdgeTraining(crop=-3)
    for folds in (1, 4):
        with pytest.raises(ValueError, match="folds must be 0, or from 2 to the number of COCO's photos"):
            train_ranker(str(tmp_path / "ranker.safetensors"), coco=str(coco), folds=folds)


def test_a_ranker_needs_photos(tmp_path):
    with pytest.raises(ValueError, match=r"name task\.coco=FOLDER, task\.bsds=FOLDER or both"):
        train_ranker(str(tmp_path / "ranker.safetensors"))
    with pytest.raises(ValueError, match=r"instances\.json"):
        train_ranker(str(tmp_path / "ranker.safetensors"), coco=str(tmp_path))
