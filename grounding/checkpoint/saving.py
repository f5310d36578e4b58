"""Writing checkpoints."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.checkpoint.network import build_network, count_kept_units, describe_mismatch, stored_tensors
from grounding.checkpoint.settings import BASE, METRICS, SETTINGS, VOCABULARY, WEIGHTS, CheckpointSettings
from grounding.files import write_file
from grounding.models import LITE2, Classifier
from grounding.vocabulary import format_vocabulary


def save_checkpoint(
    folder: Path,
    classifier: Classifier,
    *,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    only_head: bool,
    half: bool,
) -> None:
    """Write a checkpoint, or replace the weights and metrics of one with the same settings and vocabulary.

    A new folder appears only when it is complete. In an existing folder, each file is replaced as a whole, and files
    that do not belong to the checkpoint stay.

    Args:
        folder: the checkpoint.
        classifier: a classifier whose architecture is known.
        settings: hyperparameters and data of the training, plain values for JSON.
        metrics: quality of the classifier, plain values for JSON.
        only_head: store the last layer alone; all other weights must be those of the packaged EfficientNet-Lite2.
        half: store weights in half precision, except the statistics of batch norm and tensors with values too large.

    Raises:
        ValueError: the classifier cannot be saved like this, or the folder holds a checkpoint of another training run.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    described = _describe(classifier, settings, only_head)
    _check_loadable(classifier, described)
    tensors = {
        name: _as_stored(name, value, half)
        for name, value in stored_tensors(classifier.network, classifier.vocabulary.size, described).items()
    }
    metrics_text = _as_json("metrics", dict(metrics))
    weights_and_metrics = {
        WEIGHTS: save(tensors, {"metrics": metrics_text}),
        METRICS: metrics_text.encode(),
    }
    vocabulary_and_settings = {
        VOCABULARY: format_vocabulary(classifier.vocabulary).encode(),
        SETTINGS: _as_json("settings", asdict(described)).encode(),
    }
    if not os.path.lexists(folder):
        _create_folder(folder, weights_and_metrics | vocabulary_and_settings)
    elif not folder.is_dir():
        raise ValueError(f"{folder} is not a folder, so no checkpoint can be written to it")
    elif (folder / SETTINGS).exists():
        _check_same_run(folder, vocabulary_and_settings)
        _write_files(folder, weights_and_metrics)
    else:  # a training run's folder, without a checkpoint so far; the settings, which make it one, are written last
        _write_files(folder, weights_and_metrics | vocabulary_and_settings)


def _describe(classifier: Classifier, training: Mapping[str, Any], only_head: bool) -> CheckpointSettings:
    architecture = classifier.architecture
    if architecture is None:
        raise ValueError("a classifier whose architecture has no name in torchvision or timm cannot be saved")
    if only_head and architecture != LITE2:
        raise ValueError(
            f"only_head=true is for {LITE2}, whose other weights are packaged, not for {architecture}: "
            "use only_head=false"
        )
    try:
        return CheckpointSettings(
            architecture=architecture,
            layer=classifier.layer,
            window=classifier.window,
            mean=classifier.mean,
            std=classifier.std,
            short_side=classifier.short_side,
            base=BASE if only_head else None,
            kept=count_kept_units(classifier.network, classifier.vocabulary.size) if only_head else 0,
            training=dict(training),
        )
    except ValueError as error:
        raise ValueError(f"the classifier cannot be saved: {error}") from None


def _check_loadable(classifier: Classifier, settings: CheckpointSettings) -> None:
    """Check that `load_checkpoint` will accept the checkpoint and restore the same network."""
    units = classifier.vocabulary.size
    rebuilt = build_network(settings, units)
    state, expected = classifier.network.state_dict(), rebuilt.state_dict()
    mismatch = describe_mismatch(state, expected)
    if mismatch:
        raise ValueError(f"the network is not {settings.architecture} with a head of {units} units: {mismatch}")
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} of the network holds NaN or infinity and is not saved")
    for name in expected.keys() - stored_tensors(rebuilt, units, settings).keys():
        if not torch.equal(state[name].cpu(), expected[name]):
            raise ValueError(
                f"only_head=true would lose {name}, which differs from the packaged weights: use only_head=false"
            )


def _as_stored(name: str, value: Tensor, half: bool) -> Tensor:
    """A tensor on the CPU in single precision, or in half precision where asked for and possible."""
    value = value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
    is_statistic = name.endswith(("running_mean", "running_var"))
    if not half or not value.is_floating_point() or is_statistic:
        return value
    halved = value.half()
    return halved if halved.isfinite().all() else value


def _as_json(name: str, values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the {name} of a checkpoint must be plain values for JSON: {error}") from None


def _create_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files to a temporary folder beside it, which is then renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:80]}.", suffix=".part"))
    try:
        _write_files(part, contents)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # after a successful rename there is nothing left to remove


def _write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        write_file(folder / name, content)


def _check_same_run(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            raise ValueError(
                f"{path} belongs to another training run: choose another folder, or delete the one that is there"
            )
