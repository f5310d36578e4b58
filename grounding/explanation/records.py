"""The explanation of a photo, and the file that holds it."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from grounding.vocabulary import as_ranges


@dataclass(frozen=True, eq=False)
class Explanation:
    """The evidence for some classes in a photo.

    Shapes:
        names: K names of classes.
        units: for each class the output units that it means.
        probabilities: (K,), of each class in the whole photo, in [0, 1]; of a class with several units, the sum over
            those that exclude each other, or the greatest of labels that do not.
        maps: (K, h, w) float32, non-negative, at the resolution of the layer where attention stops.
        reached: (K,), the share of each class's winning probability that arrives at that layer; None for methods
            without it (see docs/attention.md).
        size: height and width of the photo in pixels.

    Raises:
        ValueError: the parts are of different lengths.
    """

    names: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    probabilities: Tensor
    maps: Tensor
    reached: Tensor | None
    size: tuple[int, int]

    def __post_init__(self) -> None:
        parts = [self.units, self.probabilities, self.maps, *([] if self.reached is None else [self.reached])]
        if self.maps.ndim != 3 or any(len(part) != len(self.names) for part in parts):
            raise ValueError(f"expected {len(self.names)} units, probabilities and maps, got {[*map(len, parts)]}")


def npz_bytes(explanation: Explanation, settings: Mapping[str, Any]) -> bytes:
    """The content of an ``.npz`` file with the explanation's fields under their names, readable without pickle.

    Units are texts such as ``281`` or ``151-268``, ``reached`` is NaN where it is not known, and ``settings`` is JSON.
    """
    missing = np.full(len(explanation.names), np.nan, dtype=np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(explanation.names, dtype=np.str_),
        units=np.array([as_ranges(units) for units in explanation.units], dtype=np.str_),
        probabilities=explanation.probabilities.numpy(),
        maps=explanation.maps.numpy(),
        reached=missing if explanation.reached is None else explanation.reached.numpy(),
        size=np.array(explanation.size),
        settings=np.array(json.dumps(settings, ensure_ascii=False)),
    )
    return buffer.getvalue()
