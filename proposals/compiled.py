"""Loops that numba compiles."""

from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """Compile a function of arrays, and keep the result for later runs where a folder for it can be written to."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # no such folder
        return njit(function)
