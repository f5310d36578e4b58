import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_settings import QUICK
from safetensors import safe_open
from safetensors.torch import load_file
from saved_checkpoints import FILES, METRICS, WORDS, contents, outputs, save, small_classifier

from grounding import Grounder
from grounding.architectures import Architecture
from grounding.checkpoint import load_checkpoint, loading, saving
from grounding.config import choose_model
from grounding.models import Pooling, efficientnet_lite2_imagenet, timm_classifier, with_units
from grounding.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def small():
    return small_classifier()


@pytest.fixture(scope="module")
def lite2():
    """The packaged network with a head of four units."""
    return with_units(efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64), WORDS)


@pytest.fixture
def folder(small, tmp_path):
    """A checkpoint."""
    save(tmp_path / "runs" / "tags", small)
    return tmp_path / "runs" / "tags"


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
    save(tmp_path / "head", lite2)
    assert sorted(load_file(tmp_path / "head" / "model.safetensors")) == ["classifier.bias", "classifier.weight"]
    assert torch.equal(outputs(load_checkpoint(checkpoint=tmp_path / "head")), outputs(lite2))


@pytest.mark.parametrize("half", [False, True])
def test_packaged_units_of_a_head_are_not_stored(lite2, tmp_path, half):
    base = efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64)
    joined = with_units(lite2, Vocabulary(WORDS.units | {"tabby": (4 + 281,)}, 4 + 1000))
    with torch.no_grad():
        for own, *parts in zip(*(c.network.classifier.parameters() for c in (joined, lite2, base)), strict=True):
            own.copy_(torch.cat(parts))
    save(tmp_path / "head", joined, half=half)
    stored = load_file(tmp_path / "head" / "model.safetensors")
    assert {name: len(value) for name, value in stored.items()} == {"classifier.bias": 4, "classifier.weight": 4}
    loaded = load_checkpoint(checkpoint=tmp_path / "head")
    assert loaded.vocabulary.units == joined.vocabulary.units
    tolerance = 0.02 if half else 0
    torch.testing.assert_close(outputs(loaded), outputs(joined), atol=tolerance, rtol=0)
    torch.testing.assert_close(outputs(loaded)[:, 4:], outputs(base), atol=tolerance, rtol=0)
    with torch.no_grad():
        joined.network.classifier.weight[-1] += 1  # differs from the packaged weights
    save(tmp_path / "own", joined, half=half)
    assert len(load_file(tmp_path / "own" / "model.safetensors")["classifier.bias"]) == 1004


def test_only_tensors_that_differ_from_the_packaged_ones_are_stored(lite2, tmp_path):
    trained = with_units(lite2, WORDS)
    trained.network.bn2.running_mean[3] += 0.1
    trained.network.blocks[6][0].conv_dw.weight.data.mul_(1.5)
    save(tmp_path / "upper", trained)
    stored = sorted(load_file(tmp_path / "upper" / "model.safetensors"))
    assert stored == ["blocks.6.0.conv_dw.weight", "bn2.running_mean", "classifier.bias", "classifier.weight"]
    assert torch.equal(outputs(load_checkpoint(checkpoint=tmp_path / "upper")), outputs(trained))
    assert not torch.equal(outputs(trained), outputs(lite2))


def test_a_checkpoint_says_how_its_network_was_dilated_and_its_responses_pooled(tmp_path):
    options = {"layer": "blocks.5.0.bn1", "window": 1, "short_side": 64}
    dilated = with_units(efficientnet_lite2_imagenet(**options, output_stride=16), WORDS)
    dilated = replace(dilated, pooling=Pooling("lse", 2.0))
    save(tmp_path / "tags", dilated)
    settings = json.loads((tmp_path / "tags" / "settings.json").read_text())
    assert settings["architecture"]["output_stride"] == 16
    assert settings["pooling"] == {"kind": "lse", "sharpness": 2.0}
    assert sorted(load_file(tmp_path / "tags" / "model.safetensors")) == ["classifier.bias", "classifier.weight"]
    loaded = load_checkpoint(checkpoint=tmp_path / "tags")
    assert (loaded.architecture, loaded.pooling) == (dilated.architecture, dilated.pooling)
    assert torch.equal(outputs(loaded), outputs(dilated))
    own = load_checkpoint(checkpoint=tmp_path / "tags", output_stride=None)
    assert own.architecture.output_stride is None
    assert not torch.equal(outputs(own), outputs(dilated))


def test_a_checkpoint_that_names_neither_stride_nor_pooling_is_loaded_as_before(folder, small):
    settings = json.loads((folder / "settings.json").read_text())
    del settings["pooling"], settings["architecture"]["output_stride"]
    (folder / "settings.json").write_text(json.dumps(settings))
    loaded = load_checkpoint(checkpoint=folder)
    assert (loaded.architecture, loaded.pooling) == (small.architecture, Pooling())
    assert torch.equal(outputs(loaded), outputs(small))


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
    save(tmp_path / "head", lite2)
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
