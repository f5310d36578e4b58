"""``python -m grounding explain``: mostly within this process, once in a process of its own."""

import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured_squares import NAMES, SIDE, photo
from command_settings import composed
from PIL import Image

import grounding.__main__ as command
from grounding.explanation.command_line import explain_all
from grounding.images import to_pixels
from grounding.quoting import quote_free_text

ROOT = Path(command.__file__).resolve().parent.parent
SMALL = (  # a network with random weights, by its import path
    "model=module",
    "model.path=coloured_squares:small_network",
    f"model.class_names=[{','.join(NAMES)}]",
    f"model.short_side={SIDE}",
)


@pytest.fixture
def explained(tmp_path):
    """Run the command's body with words of a command line; the files that it wrote, and how many photos failed."""
    runs = count()

    def run(*words):
        out = tmp_path / f"out{next(runs)}"
        out.mkdir()
        torch.manual_seed(0)
        failures = explain_all(composed(*quote_free_text([*SMALL, *words]), config="explain"), out)
        return {path.name: path for path in out.iterdir()}, failures

    return run


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, unit in (("red", 0), ("blue", 1)):
        image = photo({unit: (10, 10)}, torch.Generator().manual_seed(unit))
        Image.fromarray(to_pixels(image)).resize((96, 72)).save(folder / f"{name}.png")
    return folder


def test_every_photo_gets_a_picture_a_file_and_a_table(explained, photos, capsys):
    files, failures = explained(f"image={photos}")
    assert failures == 0
    assert set(files) == {"red.png", "red.npz", "blue.png", "blue.npz"}
    with Image.open(files["red.png"]) as picture:
        assert picture.width == 960
    stored = np.load(files["blue.npz"])
    assert sorted(stored["names"]) == sorted(NAMES)
    assert stored["size"].tolist() == [72, 96]
    settings = json.loads(str(stored["settings"]))
    assert settings["model"]["path"] == "coloured_squares:small_network"
    assert settings["image"].endswith("blue.png")
    assert "scoring" not in settings["attention"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)


def test_classes_may_be_given_several_times_and_top_counts_the_others(explained, photos):
    files, _ = explained(f"image={photos}/red.png", "classes=blue square", "classes=2")
    assert np.load(files["red.npz"])["names"].tolist() == ["blue square", "Noise"]
    files, _ = explained(f"image={photos}/red.png", "top=2")
    assert len(np.load(files["red.npz"])["names"]) == 2
    files, _ = explained(f"image={photos}/red.png", "classes=noise")
    names = np.load(files["red.npz"])["names"].tolist()
    assert names[0] == "Noise"
    assert len(names) == 2


def test_other_methods_of_attention_can_be_chosen(explained, photos):
    files, _ = explained(f"image={photos}/red.png", "attention=grad")
    stored = np.load(files["red.npz"])
    assert stored["maps"].shape == (3, SIDE, 64)  # 72 × 96 pixels with a shorter side of 48
    assert np.isnan(stored["reached"]).all()


def test_a_bad_photo_is_reported_and_the_rest_goes_on(explained, photos, caplog):
    (photos / "broken.jpg").write_bytes(b"no photo")
    files, failures = explained(f"image={photos}")
    assert failures == 1
    assert "broken.jpg: not an image" in caplog.text
    assert set(files) == {"red.png", "red.npz", "blue.png", "blue.npz"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no photo: add image=PATH"),
        (["image=nowhere.jpg"], "nowhere.jpg: no such file"),
        (["image={}", "classes=blue sqare"], r"no class 'blue sqare': did you mean blue square"),
        (["image={}", "classes=3"], "no unit 3: its units are 0 to 2"),
        (["image={}", "top=0"], "top must be at least 1"),
        (["image={}", "model.path=nowhere:x"], "nowhere cannot be imported"),
        (["image={}", "model.path=torch.nn:Linear"], "cannot be called"),
        (["image={}", "model.weights_path=/no/such.pt"], "/no/such.pt: No such file"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(explained, photos, words, message):
    with pytest.raises(ValueError, match=message):
        explained(*[word.format(photos) for word in words])


@pytest.mark.slow
def test_the_whole_command_with_the_default_model(tmp_path, examples):
    """A cat is explained as one by the packaged ImageNet network, and texts arrive as typed."""
    path = tmp_path / "a cat, = $5 (1).jpg"
    Image.fromarray(examples["chelsea"]).save(path)
    words = [f"image={path}", "classes=Egyptian cat", "model.short_side=260", f"hydra.run.dir={tmp_path}/out"]
    run = subprocess.run(
        [sys.executable, "-m", "grounding", "explain", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    stored = np.load(tmp_path / "out" / "a cat, = $5 (1).npz")
    assert stored["names"][0] == "egyptian cat"
    assert stored["probabilities"].argmax() == 0
    assert len(stored["names"]) == 2


def test_help_helps_and_imports_nothing_heavy():
    code = """
import sys
from grounding.__main__ import main
sys.argv = ["grounding", "explain", "--help"]
try:
    main()
finally:
    print("heavy imports:", [name for name in ("torch", "spacy", "cv2", "skimage") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for words in ("classes=", "model=module", "attention: best, c_cam, c_deconv", "top: 5", "heavy imports: []"):
        assert words in run.stdout
