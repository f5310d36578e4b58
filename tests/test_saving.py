"""Groundings that are saved in a folder, or shown."""

import json
import os
from hashlib import sha256
from importlib.metadata import version

import pytest
import torch
from exported import grounding, outlines
from PIL import Image
from safetensors.torch import load_file

from grounding.draw import draw_grounding
from grounding.images import load_image

PHOTO = Image.new("RGB", (80, 60), "tan")


def test_a_saved_grounding_has_its_picture_maps_values_and_what_made_them(quick_grounder, tmp_path, examples):
    path = tmp_path / "cat.png"
    Image.fromarray(examples["chelsea"]).resize((120, 90)).save(path)
    (found,) = quick_grounder([path], ["A cat, and an ineffable quiddity"])
    folder = found.save(tmp_path / "new" / "cat")
    assert sorted(file.name for file in folder.iterdir()) == [
        "grounding.json",
        "manifest.json",
        "maps.safetensors",
        "picture.png",
    ]
    assert json.loads((folder / "grounding.json").read_text("utf-8")) == json.loads(json.dumps(found.to_dict()))
    maps = load_file(folder / "maps.safetensors")
    assert list(maps) == ["phrase_0"]
    assert torch.equal(maps["phrase_0"], found.phrases[0].attention)
    with Image.open(folder / "picture.png") as picture:
        assert picture.tobytes() == draw_grounding(load_image(path), found).tobytes() == found.show().tobytes()
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["image"] == str(path)
    assert manifest["settings"]["proposals"]["edges"] == "gradient"
    assert manifest["versions"]["torch"] == version("torch")
    assert manifest["files"] == {
        name: sha256((folder / name).read_bytes()).hexdigest()
        for name in ("picture.png", "maps.safetensors", "grounding.json")
    }


def test_a_grounding_without_maps_is_saved_too(tmp_path):
    one = grounding(outlines())
    without = type(one)(one.captions, one.size, one.phrases[2:3])
    folder = without.save(tmp_path / "saved", PHOTO)
    assert load_file(folder / "maps.safetensors") == {}
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["settings"] is None


def test_a_notebook_shows_the_picture():
    picture = grounding(outlines()).show(PHOTO)
    assert picture._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "does not know its photo: give image="),
        (Image.new("RGB", (60, 80)), "the photo has 60×80 pixels, but the grounding is of one of 80×60"),
        ("nowhere.jpg", "nowhere.jpg: no such file"),
    ],
)
def test_a_photo_that_is_not_known_or_another_one_is_refused(tmp_path, image, message):
    with pytest.raises(ValueError, match=message):
        grounding(outlines()).save(tmp_path / "saved", image)
    with pytest.raises(ValueError, match=message):
        grounding(outlines()).show(image)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "letters.txt").write_text("Dear …")
    for folder in (tmp_path, tmp_path / "letters.txt"):
        with pytest.raises(ValueError, match="exists: name a new folder"):
            grounding(outlines()).save(folder, PHOTO)
    (tmp_path / "empty").mkdir()
    assert grounding(outlines()).save(tmp_path / "empty", PHOTO) == tmp_path / "empty"


def test_a_full_disk_leaves_nothing_half_saved(tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if target.name == "grounding.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match=r"saved cannot be written: .*No space left"):
        grounding(outlines()).save(tmp_path / "saved", PHOTO)
    assert list(tmp_path.iterdir()) == []
