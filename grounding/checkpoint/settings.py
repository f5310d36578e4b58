"""The files of a checkpoint, and the plain values in its ``settings.json``, checked."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grounding.models import LARGEST, LITE2, SMALLEST, Architecture

WEIGHTS, VOCABULARY, SETTINGS, METRICS = "model.safetensors", "vocabulary.tsv", "settings.json", "metrics.json"
BASE = "efficientnet_lite2"  # the packaged ImageNet network, for which a checkpoint may hold a head alone
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
        base: `BASE` where the checkpoint holds a head for the packaged network; None where it holds all weights.
        kept: number of the head's last units that are the base's own. Their weights are packaged, and not stored.
        training: hyperparameters and data of the training, any plain values.

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

    def __post_init__(self) -> None:
        architecture = self.architecture
        is_valid = {
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
        for name, valid in is_valid.items():
            if not valid:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")


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
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"{path}: expected the settings of a checkpoint, an object with {', '.join(names)}")
    try:
        values["architecture"] = Architecture(**values["architecture"])
        values |= {name: tuple(values[name]) for name in ("mean", "std")}
    except TypeError:
        raise ValueError(
            f"{path}: expected an architecture with library and name, and mean and std of three colours each"
        ) from None
    try:
        return CheckpointSettings(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
