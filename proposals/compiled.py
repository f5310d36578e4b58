"""Compilation of numeric loops to machine code, by numba."""

import os
from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """Compile a function of arrays on its first call, and keep the machine code on disk for later processes.

    Threads can run the machine code side by side. Dividing by zero in it gives infinity or NaN.

    The first call in a fresh installation waits for the compiler. So that it waits for seconds only, such functions use
    numbers, indexing, ``np.empty`` and ``np.full`` alone. Assignments to slices, ``np.sort``,
    ``np.concatenate``, ``heapq`` and arithmetic of whole arrays take up to two seconds each; they belong outside.
    """
    # Without a home folder, numba would make a folder named "~" in the current one.
    has_home = os.path.expanduser("~") != "~"
    try:
        return njit(cache=has_home or "NUMBA_CACHE_DIR" in os.environ, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it can write to
        return njit(nogil=True, error_model="numpy")(function)
