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

from grounding.checkpoint.network import (
    build_network,
    count_kept_units,
    describe_mismatch,
    head_tensors,
    storable_tensors,
)
from grounding.checkpoint.settings import BASE, METRICS, SETTINGS, VOCABULARY, WEIGHTS, CheckpointSettings, is_lite2
from grounding.files import write_file
from grounding.models import Classifier
from grounding.vocabulary import format_vocabulary


def save_checkpoint(
    folder: Path,
    classifier: Classifier,
    *,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    half: bool,
) -> None:
    """Write a checkpoint, or replace the weights and metrics of one with the same settings and vocabulary.

    Of an EfficientNet-Lite2, whose ImageNet weights are packaged, only the head and the tensors that differ from the
    packaged ones are written, and of the head only the units that are not the packaged ones.

    A new folder appears only when it is complete. In an existing folder, each file is replaced as a whole, and files
    that do not belong to the checkpoint stay.

    Args:
        folder: the checkpoint.
        classifier: a classifier whose architecture is known.
        settings: hyperparameters and data of the training, plain values for JSON.
        metrics: quality of the classifier, plain values for JSON.
        half: store weights in half precision, except the statistics of batch norm and tensors with values too large.

    Raises:
        ValueError: the classifier cannot be saved like this, or the folder holds a checkpoint of another training run.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    described = _describe(classifier, settings)
    tensors = {name: _as_stored(name, value, half) for name, value in _stored_tensors(classifier, described).items()}
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


def _describe(classifier: Classifier, training: Mapping[str, Any]) -> CheckpointSettings:
    architecture = classifier.architecture
    if architecture is None:
        raise ValueError("a classifier whose architecture has no name in torchvision, timm or caffe cannot be saved")
    has_base = is_lite2(architecture)
    try:
        return CheckpointSettings(
            architecture=architecture,
            layer=classifier.layer,
            window=classifier.window,
            mean=classifier.mean,
            std=classifier.std,
            short_side=classifier.short_side,
            base=BASE if has_base else None,
            kept=count_kept_units(classifier.network, classifier.vocabulary.size) if has_base else 0,
            training=dict(training),
            pooling=classifier.pooling,
        )
    except ValueError as error:
        raise ValueError(f"the classifier cannot be saved: {error}") from None


def _stored_tensors(classifier: Classifier, settings: CheckpointSettings) -> dict[str, Tensor]:
    """The tensors from which `load_checkpoint` restores the network: those of the head, and all that are not packaged.

    Raises:
        ValueError: the network is not the one that its settings describe, or holds NaN or infinity.
    """
    units = classifier.vocabulary.size
    rebuilt = build_network(settings, units)
    state, expected = classifier.network.state_dict(), rebuilt.state_dict()
    mismatch = describe_mismatch(state, expected)
    if mismatch:
        raise ValueError(f"the network is not {settings.architecture} with a head of {units} units: {mismatch}")
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} of the network holds NaN or infinity and is not saved")
    tensors = storable_tensors(classifier.network, units, settings)
    if settings.base is None:
        return tensors
    head = head_tensors(rebuilt, units)
    return {
        name: value for name, value in tensors.items() if name in head or not torch.equal(value.cpu(), expected[name])
    }


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
