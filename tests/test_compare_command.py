"""``python -m grounding compare``: mostly within this process, once in a process of its own."""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured_squares import NAMES, SIDE, photo
from command_settings import composed
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import grounding.__main__ as command
from grounding.comparison.command_line import compare_all
from grounding.comparison.comparer import build_attentions
from grounding.comparison.methods import read_methods
from grounding.config import CONFIG_DIR, CompareSettings, compose_command
from grounding.draw import colour_of
from grounding.images import load_image, to_pixels
from grounding.quoting import quote_free_text
from grounding.scoring import enlarge

ROOT = Path(command.__file__).resolve().parent.parent
SMALL = (  # a network with random weights, by its import path
    "model=module",
    "model.path=coloured_squares:small_network",
    f"model.class_names=[{','.join(NAMES)}]",
    f"model.short_side={SIDE}",
)
LAYER = """model.layer="'1'\""""  # Hydra takes what looks like a number for one, except between quotes


@pytest.fixture
def compared(tmp_path):
    """Run the command's body with words of a command line; the files that it wrote, and how many photos failed."""
    runs = count()

    def run(*words):
        out = tmp_path / f"out{next(runs)}"
        out.mkdir()
        torch.manual_seed(0)
        overrides = quote_free_text([*SMALL, *words])
        failures = compare_all(composed(*overrides, config="compare"), overrides, out)
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


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shows(path, colour):
    """The number of pixels of a picture that have exactly this colour."""
    with Image.open(path) as picture:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((np.asarray(picture) == rgb).all(-1).sum())


def test_every_photo_gets_a_picture_its_maps_and_what_made_them(compared, photos):
    files, failures = compared(f"image={photos}", "phrases=a red square", "phrases=a blue square")
    assert failures == 0
    assert set(files) == {f"{name}.{kind}" for name in ("red", "blue") for kind in ("png", "npz", "json")}
    stored = np.load(files["blue.npz"])
    assert stored["methods"].tolist() == ["Grad", "Deconv", "LRP", "CAM", "MWP", "c-MWP"]
    assert stored["phrases"].tolist() == ["a red square", "a blue square"]
    assert stored["size"].tolist() == [72, 96]
    shapes = [stored[f"map_1_{column}"].shape for column in range(6)]
    assert shapes == [(SIDE, 64)] * 3 + [(12, 16)] + [(24, 32)] * 2
    assert all(stored[f"map_0_{column}"].dtype == np.float32 for column in range(6))
    values = read(files["blue.json"])
    assert values["image"].endswith("blue.png")
    assert values["methods"][5]["model"]["path"] == "coloured_squares:small_network"
    assert values["methods"][5]["attention"]["contrastive"] is True
    assert "scoring" not in values["methods"][5]["attention"]
    places = [(cell["phrase"], cell["method"]) for cell in values["cells"]]
    assert places == [(row, column) for row in range(2) for column in range(6)]


def test_methods_may_differ_in_model_attention_and_alpha(compared, photos):
    files, _ = compared(
        f"image={photos}/red.png",
        "phrases=a red square",
        "methods=attention=mwp alpha=1.5",
        f"methods=attention=cmwp {LAYER}",
        "methods=model.short_side=96",
    )
    stored = np.load(files["red.npz"])
    assert stored["methods"].tolist() == ["MWP, α 1.5", "c-MWP, layer 1", "short_side 96"]
    assert [stored[f"map_0_{column}"].shape for column in range(3)] == [(24, 32), (SIDE, 64), (48, 64)]
    boxes = [cell["box"] for cell in read(files["red.json"])["cells"]]
    assert boxes[0] is not None
    assert boxes[1:] == [None, None]


def test_a_map_is_that_of_the_method_alone(compared, photos):
    """The last method of several gives what it gives alone, called from Python."""
    files, _ = compared(f"image={photos}/red.png", "phrases=a red square", "phrases=a blue square")
    torch.manual_seed(0)
    (method,) = read_methods(["attention=cmwp"], quote_free_text(list(SMALL)))
    (attention,) = build_attentions([method])
    prepared = attention.prepare(load_image(photos / "red.png"))
    (expected,) = attention([prepared], [["red square"]])
    stored = torch.from_numpy(np.load(files["red.npz"])["map_0_5"])
    torch.testing.assert_close(stored, expected.maps["red square"])


def test_methods_of_one_model_share_its_weights():
    texts = ["attention=mwp", "attention=cmwp alpha=1", f"attention=mwp {LAYER}"]
    first, second, third = build_attentions(read_methods(texts, quote_free_text(list(SMALL))))
    assert first.classifier is second.classifier
    assert first.classifier is not third.classifier


def test_boxes_hold_what_exceeds_a_multiple_of_the_mean(compared, photos):
    words = (f"image={photos}/red.png", "phrases=a red square", "methods=attention=mwp", "peaks=false")
    files, _ = compared(*words, "alpha=2")
    without, _ = compared(*words)
    too_great, _ = compared(*words, "alpha=1000")
    assert read(too_great["red.json"])["cells"][0]["box"] is None
    (cell,) = read(files["red.json"])["cells"]
    enlarged = enlarge(torch.from_numpy(np.load(files["red.npz"])["map_0_0"]), (72, 96))
    rows, columns = (enlarged > 2 * enlarged.mean()).nonzero().unbind(1)
    assert cell["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert cell["peak"] == [int(enlarged.argmax()) % 96, int(enlarged.argmax()) // 96]
    assert shows(files["red.png"], colour_of(0)) > shows(without["red.png"], colour_of(0)) + 100


def test_the_greatest_point_is_marked_unless_it_is_not_wanted(compared, photos):
    words = (f"image={photos}/red.png", "phrases=a red square", "methods=attention=cam")
    marked, _ = compared(*words)
    plain, _ = compared(*words, "peaks=false")
    assert shows(marked["red.png"], "#000000") > shows(plain["red.png"], "#000000") + 20


def test_columns_have_the_width_that_is_asked_for(compared, photos):
    files, _ = compared(f"image={photos}/red.png", "phrases=noise", "methods=attention=cam", "width=100")
    with Image.open(files["red.png"]) as picture:
        assert picture.width == 2 * (100 + 16) + 16


def test_a_phrase_that_a_model_does_not_know_has_no_map(compared, photos):
    files, failures = compared(f"image={photos}/red.png", "phrases=a quiddity", "methods=attention=mwp", "alpha=1")
    assert failures == 0
    (cell,) = read(files["red.json"])["cells"]
    assert cell["skipped_words"] == ["quiddity"]
    assert cell["peak"] is cell["box"] is cell["reached"] is None
    assert "map_0_0" not in np.load(files["red.npz"])


def test_a_bad_photo_is_reported_and_the_rest_goes_on(compared, photos, caplog):
    (photos / "broken.jpg").write_bytes(b"no photo")
    files, failures = compared(f"image={photos}", "phrases=noise", "methods=attention=mwp")
    assert failures == 1
    assert "broken.jpg: not an image" in caplog.text
    assert {"red.png", "blue.png"} < set(files)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phrases=noise"], "no photo: add image=PATH"),
        (["image={}"], "no phrase: add phrases="),
        (["image={}", "phrases= "], "the phrase is empty"),
        (["image=nowhere.jpg", "phrases=noise"], "nowhere.jpg: no such file"),
        (["image={}", "phrases=noise", "width=20"], "width must be from 64 to 4096 pixels, got 20"),
        (["image={}", "phrases=noise", "methods="], "methods=: it is empty"),
        (["image={}", "phrases=noise", "methods=mwp"], "methods differ in model=, attention=, alpha=, got 'mwp'"),
        (["image={}", "phrases=noise", "methods=device=cpu"], "methods differ in .*, got 'device=cpu'"),
        (["image={}", "phrases=noise", "methods=attention=mpw"], "methods=attention=mpw: .* 'attention/mpw'"),
        (["image={}", "phrases=noise", "methods=attention='mwp"], "No closing quotation"),
        (["image={}", "phrases=noise", "methods=alpha=-1"], "alpha must be at least 0, got -1"),
        (["image={}", "phrases=noise", "methods=model.layer=x"], "layer x: no layer 'x' in the network"),
        (["image={}", "phrases=noise", "model.path=nowhere:x"], "Grad: model.path: nowhere cannot be imported"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(compared, photos, words, message):
    with pytest.raises(ValueError, match=message):
        compared(*[word.format(photos) for word in words])


def test_a_method_that_refuses_the_network_is_reported_and_the_others_are_compared(compared, photos, caplog):
    words = ["methods=attention=mwp model.layer=x", "methods=attention=cmwp"]
    files, failures = compared(f"image={photos}/red.png", "phrases=a red square", *words)
    assert failures == 1
    assert "MWP, layer x: no layer 'x' in the network" in caplog.text
    assert np.load(files["red.npz"])["methods"].tolist() == ["c-MWP"]


def test_there_must_be_a_method():
    with pytest.raises(ValueError, match="no method: add methods="):
        read_methods([], [])


def test_settings_are_composed_within_another_command():
    with initialize_config_dir(str(ROOT / "conf" / "attention"), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        assert compose_command("compare", CompareSettings, ["alpha=3"]).alpha == 3
        with pytest.raises(ValueError, match="nothing"):
            compose_command("compare", CompareSettings, ["nothing=3"])
        assert GlobalHydra.instance().hydra is outer
    assert Path(CONFIG_DIR).is_dir()


@pytest.mark.slow
def test_the_whole_command(tmp_path, photos):
    """Texts arrive as typed, and settings of the command hold for every method."""
    words = [*SMALL, f"image={photos}/red.png", "phrases=a red square, (it's $5)", f"hydra.run.dir={tmp_path}/out"]
    columns = ["methods=attention=mwp", f"methods=attention=cmwp {LAYER}", "alpha=1"]
    run = subprocess.run(
        [sys.executable, "-m", "grounding", "compare", *words, *columns],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert f"2 of 2 methods compared in 1 of 1 photos; files are in {tmp_path}/out" in run.stderr
    stored = np.load(tmp_path / "out" / "red.npz")
    assert stored["phrases"].tolist() == ["a red square, (it's $5)"]
    assert stored["methods"].tolist() == ["MWP, α 1", "c-MWP, layer 1, α 1"]


def test_help_helps_and_imports_nothing_heavy():
    code = """
import sys
from grounding.__main__ import main
sys.argv = ["grounding", "compare", "--help"]
try:
    main()
finally:
    print("heavy imports:", [name for name in ("torch", "spacy", "cv2", "skimage") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for words in ("methods=", "attention: best, c_cam", "alpha: null", "heavy imports: []"):
        assert words in run.stdout
