"""Broken checkpoints: each gets an error of one line that names the file."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_checkpoints import save, small_classifier

from grounding.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def small():
    return small_classifier()


@pytest.fixture
def folder(small, tmp_path):
    """A checkpoint."""
    save(tmp_path / "runs" / "tags", small)
    return tmp_path / "runs" / "tags"


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
        r"settings\.json: networks come from torchvision, timm or caffe, not from 'os'",
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
    "output stride": (
        with_settings(architecture=SQUEEZENET | {"output_stride": 5}),
        r"settings\.json: architecture cannot be",
    ),
    "output stride of torchvision": (
        with_settings(architecture=SQUEEZENET | {"output_stride": 16}),
        r"settings\.json: torchvision's squeezenet1_1 takes no output stride",
    ),
    "no pooling": (with_settings(pooling=None), r"settings\.json: expected a pooling with kind and sharpness"),
    "pooling": (with_settings(pooling={"kind": "max"}), r"settings\.json: pooling must be average, lse or attention"),
    "sharpness": (
        with_settings(pooling={"kind": "lse", "sharpness": 0}),
        r"settings\.json: sharpness must be a number above 0",
    ),
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
