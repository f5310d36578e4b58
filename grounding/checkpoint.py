"""Checkpoints: a trained classifier in one folder.

| file | holds |
|---|---|
| ``model.safetensors`` | the weights, of the head alone where the rest is packaged; the metrics as metadata |
| ``vocabulary.tsv`` | which words mean which units (see `grounding.vocabulary.read_vocabulary`) |
| ``settings.json`` | the architecture, how photos are prepared, where attention stops, how it was trained |
| ``metrics.json`` | how good it was |

Weights and plain values: nothing is unpickled, and nothing is imported by a name that a checkpoint tells.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grounding.files import write_file
from grounding.messages import one_line
from grounding.models import (
    LARGEST,
    LITE2,
    SMALLEST,
    Architecture,
    Classifier,
    build,
    efficientnet_lite2,
    head_of,
    put_head,
)
from grounding.vocabulary import format_vocabulary, read_vocabulary

PACKAGED = Path(__file__).resolve().parent / "weights"  # checkpoints that come with the package, by name
WEIGHTS, VOCABULARY, SETTINGS, METRICS = "model.safetensors", "vocabulary.tsv", "settings.json", "metrics.json"
BASE = "efficientnet_lite2"  # the packaged ImageNet network, to which a checkpoint may be a head
BASE_UNITS = 1000
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}  # what weights may be stored as


@dataclass(frozen=True, slots=True)
class _Settings:
    """What ``settings.json`` says; plain values, checked."""

    architecture: Architecture
    layer: str
    window: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int
    base: str | None  # BASE: the weights are a head's
    kept: int  # last units of the head that are the base's own; they come with it, and are not stored
    training: dict[str, Any]

    def __post_init__(self) -> None:
        architecture = self.architecture
        is_right = {
            "architecture": isinstance(architecture.library, str) and isinstance(architecture.name, str),
            "layer": isinstance(self.layer, str),
            "window": self.window is None or (type(self.window) is int and self.window > 0),
            "mean": _is_colour(self.mean),
            "std": _is_colour(self.std) and all(value > 0 for value in self.std),
            "short_side": type(self.short_side) is int and SMALLEST <= self.short_side <= LARGEST,
            "base": self.base is None or (self.base == BASE and architecture == LITE2),
            "kept": type(self.kept) is int and (self.kept == 0 or (self.base is not None and self.kept == BASE_UNITS)),
            "training": isinstance(self.training, dict),
        }
        for name, is_so in is_right.items():
            if not is_so:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")


def _is_colour(values: tuple[Any, ...]) -> bool:
    return len(values) == 3 and all(type(value) in (int, float) and abs(value) < 1000 for value in values)


def save_checkpoint(
    folder: Path,
    classifier: Classifier,
    *,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    only_head: bool,
    half: bool,
) -> None:
    """Write a checkpoint; or renew the weights and metrics of one that is there and has the same settings and words.

    A new folder appears whole, and each file of an old one changes whole; whatever else is in it stays.

    Args:
        folder: of the checkpoint.
        classifier: what is saved; its architecture must be known.
        settings: how it was trained, plain values for JSON.
        metrics: how good it is, plain values.
        only_head: save the last layer alone; the rest must be the packaged EfficientNet-Lite2 as it is.
        half: weights in half precision, save statistics of batch norm and tensors with values too large for it.

    Raises:
        ValueError: the classifier cannot be saved so, or the folder holds a checkpoint of other settings or words.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    described = _describe(classifier, settings, only_head)
    _check_loadable(classifier, described)
    saved = _saved(classifier.network, classifier.vocabulary.size, described)
    about = _as_json("metrics", dict(metrics))
    text = {
        VOCABULARY: format_vocabulary(classifier.vocabulary).encode(),
        SETTINGS: _as_json("settings", asdict(described)).encode(),
    }
    contents = {
        WEIGHTS: save({name: _packed(name, value, half) for name, value in saved.items()}, {"metrics": about}),
        METRICS: about.encode(),
    }
    if not os.path.lexists(folder):
        _create(folder, contents | text)
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder, as a checkpoint is")
    if (folder / SETTINGS).exists():
        _check_same(folder, text)
    else:  # the trainer's own things may be there; the settings come last, and without them it is no checkpoint
        contents |= text
    for name, content in contents.items():
        write_file(folder / name, content)


def _describe(classifier: Classifier, settings: Mapping[str, Any], only_head: bool) -> _Settings:
    architecture = classifier.architecture
    if architecture is None:
        raise ValueError("a classifier whose architecture has no name in torchvision or timm cannot be saved")
    if only_head and architecture != LITE2:
        raise ValueError(f"only_head=true is for {LITE2}, whose other weights are packaged, not for {architecture}")
    try:
        return _Settings(
            architecture,
            classifier.layer,
            classifier.window,
            classifier.mean,
            classifier.std,
            classifier.short_side,
            BASE if only_head else None,
            _kept_units(classifier) if only_head else 0,
            dict(settings),
        )
    except ValueError as error:
        raise ValueError(f"the classifier cannot be saved: {error}") from None


def _kept_units(classifier: Classifier) -> int:
    """How many of the last units are the base's own, which are others' weights and come with their package."""
    units = classifier.vocabulary.size
    with torch.random.fork_rng(devices=[]):  # as in `_blank`
        own = head_of(efficientnet_lite2(), BASE_UNITS)[1]
    head = head_of(classifier.network, units)[1]
    pairs = [(head.get_parameter(name).cpu(), weight) for name, weight in own.named_parameters()]
    is_same = units > BASE_UNITS and all(torch.equal(rows[-BASE_UNITS:], weight) for rows, weight in pairs)
    return BASE_UNITS if is_same else 0


def _check_loadable(classifier: Classifier, settings: _Settings) -> None:
    """That loading will find what it expects: too late to learn otherwise when a training has ended."""
    units = classifier.vocabulary.size
    blank = _blank(settings, units)
    state, expected = classifier.network.state_dict(), blank.state_dict()
    misfit = _misfit(state, expected)
    if misfit:
        raise ValueError(f"the network is not {settings.architecture} with a head of {units} units: {misfit}")
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} of the network holds NaN or infinity, and is not saved")
    for name in expected.keys() - _saved(blank, units, settings).keys():
        if not torch.equal(state[name].cpu(), expected[name]):
            raise ValueError(f"only_head=true would lose {name}, which is not as packaged: say only_head=false")


def _saved(network: nn.Module, units: int, settings: _Settings) -> dict[str, Tensor]:
    """Those of a network's tensors that its checkpoint holds, of the head the rows of its own units."""
    if settings.base is None:
        return network.state_dict()
    path = head_of(network, units)[0] + "."
    stored = units - settings.kept
    return {name: value[:stored] for name, value in network.state_dict().items() if name.startswith(path)}


def _packed(name: str, value: Tensor, half: bool) -> Tensor:
    """A tensor as it is stored."""
    value = value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
    is_statistic = name.endswith(("running_mean", "running_var"))
    if not half or not value.is_floating_point() or is_statistic:
        return value
    halved = value.half()
    return halved if halved.isfinite().all() else value


def _as_json(what: str, values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the {what} of a checkpoint must be plain values for JSON: {error}") from None


def _create(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:80]}.", suffix=".part"))
    try:
        for name, content in contents.items():
            write_file(part / name, content)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # by now it is elsewhere, if all went well


def _check_same(folder: Path, text: Mapping[str, bytes]) -> None:
    for name, content in text.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            raise ValueError(f"{path} belongs to another training: choose another folder, or delete this one")


def load_checkpoint(
    *,
    checkpoint: str | Path,
    layer: str | None = None,
    window: int | Literal["as trained"] | None = "as trained",
    short_side: int | None = None,
) -> Classifier:
    """The classifier of a checkpoint, in evaluation mode.

    Args:
        checkpoint: its folder, or the name of one in the package.
        layer: where attention stops; None: as saved.
        window: of the sliding classifier, in cells; None: it sees the whole photo at once.
        short_side: to which a photo's shorter side is scaled, in pixels; None: as saved.

    Raises:
        ValueError: there is no such checkpoint, or it is damaged.
    """
    folder = _find(checkpoint)
    settings = _read_settings(folder / SETTINGS)
    vocabulary = read_vocabulary(folder / VOCABULARY)
    tensors = _read_weights(folder / WEIGHTS)
    try:
        network = _blank(settings, vocabulary.size)
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS}: {error}") from None
    try:
        _fill(network, tensors, vocabulary.size, settings)
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    return Classifier(
        network.eval(),
        vocabulary,
        settings.layer if layer is None else layer,
        settings.window if window == "as trained" else window,
        settings.mean,
        settings.std,
        settings.short_side if short_side is None else short_side,
        architecture=settings.architecture,
    )


def _find(checkpoint: str | Path) -> Path:
    name = str(checkpoint)
    is_name = name == Path(name).name
    packaged = PACKAGED / name
    folder = packaged if is_name and (packaged / SETTINGS).is_file() else Path(name).expanduser()
    if not name or not folder.is_dir():
        names = sorted(path.parent.name for path in PACKAGED.glob(f"*/{SETTINGS}"))
        raise ValueError(
            f"no checkpoint {name!r}: there is no such folder, and the package has {', '.join(names) or 'none'}"
        )
    missing = [part for part in (SETTINGS, VOCABULARY, WEIGHTS) if not (folder / part).is_file()]
    if missing:
        raise ValueError(f"{folder} is no checkpoint, which python -m train writes: it lacks {', '.join(missing)}")
    return folder


def _read_settings(path: Path) -> _Settings:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    names = [field.name for field in fields(_Settings)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"{path}: expected the settings of a checkpoint, an object with {', '.join(names)}")
    try:
        values["architecture"] = Architecture(**values["architecture"])
        values |= {name: tuple(values[name]) for name in ("mean", "std")}
    except TypeError:
        raise ValueError(
            f"{path}: expected an architecture with library and name, and mean and std of three colours"
        ) from None
    try:
        return _Settings(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated, or not safetensors: {one_line(error)}") from None


def _blank(settings: _Settings, units: int) -> nn.Module:
    """The network before its weights are there, or with the packaged ones below a fresh head."""
    with torch.random.fork_rng(devices=[]):  # a training that saves draws the same numbers as one that does not
        if settings.base is None:
            return build(settings.architecture, units)
        network = efficientnet_lite2()
        own = head_of(network, BASE_UNITS)[1]
        put_head(network, BASE_UNITS, units)
        if settings.kept >= units:
            raise ValueError(f"kept={settings.kept} of {units} units leaves none of its own")
        if settings.kept:
            head = head_of(network, units)[1]
            with torch.no_grad():
                for name, weight in own.named_parameters():
                    head.get_parameter(name)[-settings.kept :] = weight
        return network


def _fill(network: nn.Module, tensors: dict[str, Tensor], units: int, settings: _Settings) -> None:
    """Give a network its weights.

    Raises:
        ValueError: they are of another network, or not finite.
    """
    expected = _saved(network, units, settings)
    head = head_of(network, units)[0] + ".weight"
    found = tensors[head].shape if head in tensors else expected[head].shape
    if found != expected[head].shape and found[1:] == expected[head].shape[1:]:
        count = found[0] + settings.kept
        raise ValueError(f"its network has {count} units, but {VOCABULARY} {units}: a wrong vocabulary?")
    misfit = _misfit(tensors, expected)
    if misfit:
        raise ValueError(f"{misfit}; a checkpoint of another architecture?")
    state = network.state_dict()
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")
        expected[name].copy_(value)
        if settings.kept:  # of the same precision as those beside them
            rows = state[name][-settings.kept :]
            rows.copy_(rows.to(value.dtype))


def _misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first thing in which tensors are not what is expected, in words."""
    for name, like in expected.items():
        if name not in tensors:
            return f"{name} is missing"
        if tensors[name].shape != like.shape:
            return f"{name} is {tuple(tensors[name].shape)}, not {tuple(like.shape)}"
        if tensors[name].dtype != like.dtype and not {tensors[name].dtype, like.dtype} <= FLOATS:
            return f"{name} is of {tensors[name].dtype}, not {like.dtype}"
    unknown = next((name for name in tensors if name not in expected), None)
    return None if unknown is None else f"{unknown} is unknown"
