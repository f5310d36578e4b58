import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_settings import QUICK
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from grounding import Grounder
from grounding.checkpoint import load_checkpoint, loading, save_checkpoint, saving
from grounding.config import choose_model
from grounding.models import (
    Architecture,
    efficientnet_lite2_imagenet,
    timm_classifier,
    torchvision_classifier,
    with_units,
)
from grounding.vocabulary import Vocabulary

WORDS = Vocabulary({"cat": (0,), "dog": (1, 2), "red": (3,)}, 4, frozenset({"cat", "dog"}), {"cat": 9})
METRICS = {"step": 200, "precision": 0.25}
FILES = ["metrics.json", "model.safetensors", "settings.json", "vocabulary.tsv"]


@pytest.fixture(scope="module")
def small():
    """A network of which all weights are trained; batch norm, and a head that is a convolution, come elsewhere."""
    options = {"layer": "features.5", "window": 3, "short_side": 64}
    return with_units(torchvision_classifier(name="squeezenet1_1", weights=None, **options), WORDS)


@pytest.fixture(scope="module")
def lite2():
    """The packaged network with a head of four units."""
    return with_units(efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64), WORDS)


@pytest.fixture
def folder(small, tmp_path):
    """A checkpoint."""
    save(tmp_path / "runs" / "tags", small)
    return tmp_path / "runs" / "tags"


def save(folder, classifier, *, only_head=False, half=False, metrics=METRICS, settings=None):
    save_checkpoint(
        folder, classifier, settings=settings or {"steps": 200}, metrics=metrics, only_head=only_head, half=half
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def outputs(classifier):
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return classifier.network(x)


def test_a_loaded_classifier_is_the_one_that_was_saved(folder, small):
    loaded = load_checkpoint(checkpoint=str(folder))
    assert torch.equal(outputs(loaded), outputs(small))
    assert not loaded.network.training
    for name in ("layer", "window", "mean", "std", "short_side", "architecture"):
        assert getattr(loaded, name) == getattr(small, name)
    assert vars(loaded.vocabulary).items() >= {"units": WORDS.units, "nouns": WORDS.nouns, "counts": {"cat": 9}}.items()
    assert sorted(contents(folder)) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["tags"]


def test_the_weights_have_the_metrics_as_metadata(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["metrics"]) == METRICS
    assert json.loads((folder / "metrics.json").read_text()) == METRICS
    assert json.loads((folder / "settings.json").read_text())["training"] == {"steps": 200}


def test_a_head_alone_is_saved_without_the_packaged_weights(lite2, tmp_path):
    save(tmp_path / "head", lite2, only_head=True)
    assert sorted(load_file(tmp_path / "head" / "model.safetensors")) == ["classifier.bias", "classifier.weight"]
    assert torch.equal(outputs(load_checkpoint(checkpoint=tmp_path / "head")), outputs(lite2))


@pytest.mark.parametrize("half", [False, True])
def test_packaged_units_of_a_head_are_not_stored(lite2, tmp_path, half):
    base = efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64)
    joined = with_units(lite2, Vocabulary(WORDS.units | {"tabby": (4 + 281,)}, 4 + 1000))
    with torch.no_grad():
        for own, *parts in zip(*(c.network.classifier.parameters() for c in (joined, lite2, base)), strict=True):
            own.copy_(torch.cat(parts))
    save(tmp_path / "head", joined, only_head=True, half=half)
    stored = load_file(tmp_path / "head" / "model.safetensors")
    assert {name: len(value) for name, value in stored.items()} == {"classifier.bias": 4, "classifier.weight": 4}
    loaded = load_checkpoint(checkpoint=tmp_path / "head")
    assert loaded.vocabulary.units == joined.vocabulary.units
    tolerance = 0.02 if half else 0
    torch.testing.assert_close(outputs(loaded), outputs(joined), atol=tolerance, rtol=0)
    torch.testing.assert_close(outputs(loaded)[:, 4:], outputs(base), atol=tolerance, rtol=0)
    with torch.no_grad():
        joined.network.classifier.weight[-1] += 1  # differs from the packaged weights
    save(tmp_path / "own", joined, only_head=True, half=half)
    assert len(load_file(tmp_path / "own" / "model.safetensors")["classifier.bias"]) == 1004


def test_a_head_alone_is_refused_where_other_weights_would_be_lost(small, lite2, tmp_path):
    with pytest.raises(ValueError, match=r"only_head=true is for timm's tf_efficientnet_lite2.* not for torchvision's"):
        save(tmp_path / "head", small, only_head=True)
    trained = with_units(lite2, WORDS)
    trained.network.bn2.running_mean[3] += 0.1
    with pytest.raises(ValueError, match=r"lose bn2\.running_mean, .*: use only_head=false"):
        save(tmp_path / "head", trained, only_head=True)
    assert not (tmp_path / "head").exists()


def test_tensors_too_large_for_half_precision_stay_in_single_precision(tmp_path):
    options = {"layer": "x", "window": None, "short_side": 64}
    classifier = with_units(timm_classifier(name="tf_efficientnet_lite0", pretrained=False, **options), WORDS)
    network = classifier.network
    network.bn1.running_var.fill_(1e-9)  # zero in half precision
    network.bn1.weight.data.fill_(3e-5)
    network.classifier.bias.data.fill_(1e5)  # infinite
    save(tmp_path / "half", classifier, half=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert stored["conv_stem.weight"].dtype == torch.float16
    assert stored["bn1.running_var"].dtype == stored["classifier.bias"].dtype == torch.float32
    loaded = load_checkpoint(checkpoint=tmp_path / "half")
    assert torch.equal(loaded.network.bn1.running_var, network.bn1.running_var)
    assert {value.dtype for value in loaded.network.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(outputs(loaded), outputs(classifier), rtol=1e-2, atol=1e-2)


def test_settings_can_be_changed_when_loading(folder):
    changed = load_checkpoint(checkpoint=folder, layer="features.3", window=None, short_side=128)
    assert (changed.layer, changed.window, changed.short_side) == ("features.3", None, 128)
    assert load_checkpoint(checkpoint=folder, window=5).window == 5
    with pytest.raises(ValueError, match="short_side must be from 32"):
        load_checkpoint(checkpoint=folder, short_side=0)


def test_saving_and_loading_draw_no_random_numbers(folder, lite2, tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    save(tmp_path / "head", lite2, only_head=True)
    load_checkpoint(checkpoint=folder)
    assert torch.equal(torch.rand(1), expected)


def test_saving_again_replaces_the_weights_and_metrics_alone(folder, small):
    (folder / "training").mkdir()
    (folder / "training" / "state").write_text("a state")
    trained = with_units(small, WORDS)
    save(folder, trained, metrics={"step": 400})
    assert torch.equal(outputs(load_checkpoint(checkpoint=folder)), outputs(trained))
    assert json.loads((folder / "metrics.json").read_text()) == {"step": 400}
    assert (folder / "training" / "state").read_text() == "a state"


def test_a_folder_with_other_files_becomes_a_checkpoint(small, tmp_path):
    (tmp_path / "tags" / "training").mkdir(parents=True)
    save(tmp_path / "tags", small)
    assert torch.equal(outputs(load_checkpoint(checkpoint=tmp_path / "tags")), outputs(small))


def test_a_checkpoint_of_another_training_run_is_left_alone(folder, small):
    before = contents(folder)
    with pytest.raises(ValueError, match=r"settings\.json belongs to another training run: choose another folder"):
        save(folder, small, settings={"steps": 300})
    with pytest.raises(ValueError, match=r"vocabulary\.tsv belongs to another training"):
        save(folder, replace(small, vocabulary=Vocabulary({"cow": (0,)}, 4)))
    assert contents(folder) == before
    (folder.parent / "file").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        save(folder.parent / "file", small)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_checkpoint_whole(folder, small, error, monkeypatch):
    before = contents(folder)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        save(folder, with_units(small, WORDS), metrics={"step": 400})
    assert contents(folder) == before
    assert torch.equal(outputs(load_checkpoint(checkpoint=folder)), outputs(small))


@pytest.mark.parametrize("failing", [(os, "replace"), (Path, "rename")])
def test_a_failed_first_write_leaves_nothing(small, tmp_path, failing, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(*failing, fail)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "tags", small)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_checkpoint_until_all_files_are_written(small, tmp_path, monkeypatch):
    write = saving.write_file

    def fail_at_last(path, content):
        if path.name == "settings.json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(saving, "write_file", fail_at_last)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, small)
    with pytest.raises(ValueError, match=r"is not a checkpoint .*: it lacks settings\.json$"):
        load_checkpoint(checkpoint=tmp_path)


def test_a_classifier_that_could_not_be_loaded_is_not_saved(small, tmp_path):
    with pytest.raises(ValueError, match="whose architecture has no name"):
        save(tmp_path / "tags", replace(small, architecture=None))
    with pytest.raises(ValueError, match=r"is not torchvision's squeezenet1_0 with a head of 4 units: features\.0"):
        save(tmp_path / "tags", replace(small, architecture=Architecture("torchvision", "squeezenet1_0")))
    with pytest.raises(
        ValueError, match=r"is not .* a head of 1 units: classifier\.1\.weight is \(4, 512, 1, 1\), not"
    ):
        save(tmp_path / "tags", replace(small, vocabulary=Vocabulary({"cat": (0,)}, 1)))
    with pytest.raises(ValueError, match=r"window cannot be 2\.5"):
        save(tmp_path / "tags", replace(small, window=2.5))
    with pytest.raises(ValueError, match="the metrics of a checkpoint must be plain values"):
        save(tmp_path / "tags", small, metrics={"loss": float("nan")})
    with pytest.raises(ValueError, match="the settings of a checkpoint must be plain values"):
        save(tmp_path / "tags", small, settings={"data": Path("photos")})
    diverged = with_units(small, WORDS)
    diverged.network.classifier[1].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"classifier\.1\.bias of the network holds NaN"):
        save(tmp_path / "tags", diverged)
    assert not (tmp_path / "tags").exists()


def with_tensors(change):
    def break_it(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return break_it


def with_settings(**values):
    def break_it(folder):
        settings = json.loads((folder / "settings.json").read_text())
        (folder / "settings.json").write_text(json.dumps({**settings, **values}))

    return break_it


def with_file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


SQUEEZENET = {"library": "torchvision", "name": "squeezenet1_1"}
BROKEN = {
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        r"is not a checkpoint .* lacks model\.safetens",
    ),
    "no vocabulary": (
        lambda folder: (folder / "vocabulary.tsv").unlink(),
        r"is not a checkpoint .* lacks vocabulary\.tsv",
    ),
    "no folder": (shutil.rmtree, "no checkpoint '.*tags': there is no such folder, and the package has"),
    "truncated": (
        lambda folder: os.truncate(folder / "model.safetensors", 10_000),
        r"model\.safetensors: truncated, or not safetensors",
    ),
    "empty weights": (with_file("model.safetensors", b""), r"model\.safetensors: truncated, or not safetensors"),
    "a pickle": (
        lambda folder: torch.save({"a": torch.zeros(3)}, folder / "model.safetensors"),
        r"model\.safetensors: truncated, or not safetensors",
    ),
    "no JSON": (with_file("settings.json", b"{"), r"settings\.json: not JSON"),
    "no text": (with_file("settings.json", b"\xff\xfe\x00"), r"settings\.json: not JSON"),
    "deep JSON": (with_file("settings.json", b"[" * 100_000), r"settings\.json: not JSON"),
    "other JSON": (with_file("settings.json", b"[]"), r"settings\.json: expected the settings of a checkpoint, an obj"),
    "more settings": (with_settings(_target_="os.system"), r"settings\.json: expected the settings of a checkpoint"),
    "an import": (
        with_settings(architecture={"_target_": "os.system", "command": "ls"}),
        r"settings\.json: expected an architecture with library and name",
    ),
    "no architecture": (with_settings(architecture=None), r"settings\.json: expected an architecture"),
    "unknown library": (
        with_settings(architecture={"library": "os", "name": "system"}),
        r"settings\.json: networks come from torchvision or timm, not from 'os'",
    ),
    "unknown network": (
        with_settings(architecture={"library": "timm", "name": "hf-hub:a/b"}),
        r"settings\.json: timm has no classifier 'hf-hub:a/b'",
    ),
    "name of another type": (
        with_settings(architecture={"library": "timm", "name": 3}),
        r"settings\.json: architecture cannot be",
    ),
    "layer": (with_settings(layer=None), r"settings\.json: layer cannot be None"),
    "window": (with_settings(window=True), r"settings\.json: window cannot be True"),
    "mean": (with_settings(mean=[0.5, 10**400, 0.5]), r"settings\.json: mean cannot be"),
    "NaN": (with_settings(mean=[0.5, float("nan"), 0.5]), r"settings\.json: mean cannot be"),
    "no mean": (with_settings(mean=0.5), r"settings\.json: expected .* three colours"),
    "std": (with_settings(std=[1, 1, 0]), r"settings\.json: std cannot be"),
    "short side": (with_settings(short_side=5000), r"settings\.json: short_side cannot be 5000"),
    "base of another architecture": (with_settings(base="efficientnet_lite2"), r"settings\.json: base cannot be"),
    "kept without a base": (with_settings(kept=1000), r"settings\.json: kept cannot be 1000"),
    "training": (with_settings(training=[]), r"settings\.json: training cannot be \[\]"),
    "another architecture": (
        with_settings(architecture={"library": "torchvision", "name": "squeezenet1_0"}),
        r"model\.safetensors: features\.0\.weight is \(64, 3, 3, 3\), not .*; a checkpoint of another architecture\?",
    ),
    "a missing tensor": (
        with_tensors(lambda tensors: tensors.pop("features.0.bias")),
        r"model\.safetensors: features\.0\.bias is missing; a checkpoint of another architecture\?",
    ),
    "a head without weights": (
        with_tensors(lambda tensors: tensors.pop("classifier.1.weight")),
        r"model\.safetensors: classifier\.1\.weight is missing",
    ),
    "a tensor too many": (
        with_tensors(lambda tensors: tensors.update(more=torch.zeros(1))),
        r"model\.safetensors: more is unknown",
    ),
    "whole numbers": (
        with_tensors(lambda tensors: tensors.update({"features.0.bias": torch.zeros(64, dtype=torch.int64)})),
        r"features\.0\.bias is of torch\.int64, not torch\.float32",
    ),
    "NaN in weights": (
        with_tensors(lambda tensors: tensors["features.0.bias"].fill_(torch.nan)),
        r"model\.safetensors: features\.0\.bias holds NaN",
    ),
    "a wrong vocabulary": (
        with_file("vocabulary.tsv", b"cat\t0\ndog\t1\n"),
        r"model\.safetensors: the network has 4 units, but vocabulary\.tsv has 2: a wrong vocabulary\?",
    ),
    "a broken vocabulary": (with_file("vocabulary.tsv", b"cat 0\n"), r"vocabulary\.tsv, line 1: expected"),
    "an empty vocabulary": (with_file("vocabulary.tsv", b""), "at least one output unit"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_error_of_a_broken_checkpoint_names_it_in_one_line(folder, kind):
    break_it, message = BROKEN[kind]
    break_it(folder)
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(checkpoint=str(folder))
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_packaged_checkpoint_is_loaded_by_its_name(folder, small, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "PACKAGED", folder.parent)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(outputs(load_checkpoint(checkpoint="tags")), outputs(small))
    for name in ("stag", "", "a\0b"):
        with pytest.raises(ValueError, match="no such folder, and the package has tags"):
            load_checkpoint(checkpoint=name)


@pytest.mark.parametrize(
    "name", ["it's a 'run', no. 1", "a=b, c: d; {e} [f]", "${oc.env:HOME} \\${x}", "???", "null", "猫\\"]
)
def test_a_grounder_loads_a_checkpoint_from_a_folder_of_any_name(small, tmp_path, name, monkeypatch):
    save(tmp_path / name, small)
    monkeypatch.chdir(tmp_path)
    for model in (name, Path(name), tmp_path / name, str(tmp_path / name)):
        assert choose_model(model) == choose_model(tmp_path / name)
    grounder = Grounder.load(name, *QUICK, "attention.signed=compose", "model.short_side=96")
    assert torch.equal(outputs(grounder.attention.classifier), outputs(small))
    assert grounder.attention.classifier.short_side == 96
    (grounding,) = grounder([torch.rand(3, 70, 90)], phrases=[["red dog"]])
    assert grounding.phrases[0].words == ("red", "dog")


def test_an_unknown_model_is_answered_with_the_names_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "googlenet").mkdir()
    assert choose_model("googlenet") == ["model=googlenet"]
    assert choose_model(Path("googlenet"))[0] == "model=checkpoint"
    for model in ("nonet", "runs/nonet", Path("nonet"), ""):
        with pytest.raises(ValueError, match=r"neither a model \(.*googlenet.*\) nor the folder of a checkpoint$"):
            Grounder.load(model)
    with pytest.raises(ValueError, match=r"googlenet is not a checkpoint .*: it lacks settings\.json, vocabulary\.tsv"):
        Grounder.load(Path("googlenet"))
