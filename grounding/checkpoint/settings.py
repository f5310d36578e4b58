"""The files of a checkpoint, and the plain values in its ``settings.json``, checked."""

import json
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from grounding.architectures import LITE2, STRIDES, Architecture
from grounding.models import AVERAGE, LARGEST, SMALLEST, Pooling

WEIGHTS, VOCABULARY, SETTINGS, METRICS = "model.safetensors", "vocabulary.tsv", "settings.json", "metrics.json"
BASE = "efficientnet_lite2"  # the packaged ImageNet network, of which a checkpoint holds only what differs
BASE_UNITS = 1000


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """A classifier without its weights and vocabulary.

    Args:
        architecture: the network.
        layer: the module at which attention stops.
        window: width of the sliding classifier's window in cells, or None.
        mean: mean of red, green and blue in [0, 1], which is subtracted from a photo.
        std: standard deviation of each colour, by which the difference is divided.
        short_side: pixels to which a photo's shorter side is scaled.
        base: `BASE` where the checkpoint holds the head and the weights that differ from those of the packaged network;
            None where it holds all weights.
        kept: number of the head's last units that are the base's own. Their weights are packaged, and not stored.
        training: hyperparameters and data of the training, any plain values.
        pooling: how responses at places were pooled in training; the average in checkpoints that do not say.

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    architecture: Architecture
    layer: str
    window: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int
    base: str | None
    kept: int
    training: dict[str, Any]
    pooling: Pooling = AVERAGE

    def __post_init__(self) -> None:
        architecture = self.architecture
        is_valid = {
            "architecture": isinstance(architecture.library, str)
            and isinstance(architecture.name, str)
            and architecture.output_stride in (None, *STRIDES),
            "layer": isinstance(self.layer, str),
            "window": self.window is None or (type(self.window) is int and self.window > 0),
            "mean": _is_colour(self.mean),
            "std": _is_colour(self.std) and all(value > 0 for value in self.std),
            "short_side": type(self.short_side) is int and SMALLEST <= self.short_side <= LARGEST,
            "base": self.base is None or (self.base == BASE and is_lite2(architecture)),
            "kept": type(self.kept) is int and (self.kept == 0 or (self.base is not None and self.kept == BASE_UNITS)),
            "training": isinstance(self.training, dict),
        }
        for name, valid in is_valid.items():
            if not valid:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")


def is_lite2(architecture: Architecture) -> bool:
    """Whether an architecture is EfficientNet-Lite2, whose weights are packaged, at any output stride."""
    return replace(architecture, output_stride=None) == LITE2


def _is_colour(values: tuple[Any, ...]) -> bool:
    return len(values) == 3 and all(type(value) in (int, float) and abs(value) < 1000 for value in values)


def read_settings(path: Path) -> CheckpointSettings:
    """Read the settings of a checkpoint.

    Raises:
        ValueError: the file cannot be read or does not hold such settings.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    names = [field.name for field in fields(CheckpointSettings)]
    required = {field.name for field in fields(CheckpointSettings) if field.default is MISSING}
    if not isinstance(values, dict) or not required <= values.keys() <= set(names):
        raise ValueError(f"{path}: expected the settings of a checkpoint, an object with {', '.join(names)}")
    try:
        values["architecture"] = Architecture(**values["architecture"])
        values |= {name: tuple(values[name]) for name in ("mean", "std")}
    except TypeError:
        raise ValueError(
            f"{path}: expected an architecture with library and name, and mean and std of three colours each"
        ) from None
    try:
        if "pooling" in values:
            values["pooling"] = Pooling(**values["pooling"])
        return CheckpointSettings(**values)
    except TypeError:
        raise ValueError(f"{path}: expected a pooling with kind and sharpness") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
