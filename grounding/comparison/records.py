"""The comparison of methods in a photo, and the files that hold it."""

import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from grounding.comparison.methods import Method


@dataclass(frozen=True, eq=False)
class Cell:
    """What a method finds for a phrase."""

    words: tuple[str, ...]  # words that the model knows
    skipped_words: tuple[str, ...]  # words that the model does not know
    attention: Tensor | None  # (h, w) float32, non-negative, of the whole photo; None where no word is known
    # The share of the winning probability that reached the layer; None where the method does not measure it.
    reached: float | None
    peak: tuple[int, int] | None  # the pixel (x, y) of greatest attention; None where there is no attention
    box: tuple[float, ...] | None  # xyxy, around attention above α times its mean; None without α or attention


@dataclass(frozen=True, eq=False)
class Comparison:
    """The maps of M methods for P phrases in a photo.

    Raises:
        ValueError: there is not a cell for each phrase and each method.
    """

    size: tuple[int, int]  # (height, width) of the photo in pixels
    phrases: tuple[str, ...]
    methods: tuple[Method, ...]
    cells: tuple[tuple[Cell, ...], ...]  # P rows of M

    def __post_init__(self) -> None:
        if [len(row) for row in self.cells] != [len(self.methods)] * len(self.phrases):
            raise ValueError(f"expected {len(self.phrases)} rows of {len(self.methods)} cells")

    def to_dict(self) -> dict[str, Any]:
        """All values but the maps, as plain Python values for JSON."""
        return {
            "size": list(self.size),
            "phrases": list(self.phrases),
            "methods": [asdict(method) for method in self.methods],
            "cells": [
                {
                    "phrase": row,
                    "method": column,
                    "words": list(cell.words),
                    "skipped_words": list(cell.skipped_words),
                    "reached": cell.reached,
                    "peak": cell.peak and list(cell.peak),
                    "box": cell.box and list(cell.box),
                }
                for row, cells in enumerate(self.cells)
                for column, cell in enumerate(cells)
            ],
        }


def npz_bytes(comparison: Comparison) -> bytes:
    """The content of an ``.npz`` file with all maps, readable without pickle.

    ``map_0_1`` is the map of the first phrase by the second method, (h, w) float32, not scaled; it is left out where no
    word of the phrase is known. ``phrases`` and ``methods`` are their names, ``size`` is that of the photo.
    """
    maps = {
        f"map_{row}_{column}": cell.attention.numpy()
        for row, cells in enumerate(comparison.cells)
        for column, cell in enumerate(cells)
        if cell.attention is not None
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        phrases=np.array(comparison.phrases, dtype=np.str_),
        methods=np.array([method.name for method in comparison.methods], dtype=np.str_),
        size=np.array(comparison.size),
        **maps,  # type: ignore[arg-type]
    )
    return buffer.getvalue()
