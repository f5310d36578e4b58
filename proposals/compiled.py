"""Compilation of numeric loops to machine code, by numba."""

from typing import Any

from numba import njit

# Threads run compiled loops side by side; dividing by zero gives infinity or NaN, without code to raise an error.
_OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(function: Any) -> Any:
    """Compile a function of arrays on its first call, and keep the machine code on disk for later processes.

    The first call in a fresh installation waits for the compiler, so that the loops here keep to what compiles
    quickly: numbers, indexing, ``np.empty`` and ``np.full``. Slices that are assigned to, ``np.sort``,
    ``np.concatenate``, ``heapq`` and arithmetic of whole arrays each cost up to two seconds; they are done outside.
    """
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder that it can write to
        return njit(**_OPTIONS)(function)
