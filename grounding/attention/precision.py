"""Arithmetic in full float32 on every device."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

# TF32 keeps 10 of the 23 bits of a factor's mantissa, and bfloat16 keeps 7. With emulated TF32, c-MWP maps of the
# default network moved by about 1 % of their sum, and single cells by up to 4 % of the greatest one.


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute in full float32 and deterministically within a ``with`` block, whatever the process has chosen outside.

    Autocast, TF32 and bfloat16 products are off, and cuDNN takes no algorithm whose sums depend on the order in which
    threads finish. Autocast belongs to the thread; the other switches belong to the process: they are set by the first
    block that is entered, in whatever thread, and set back when the last one is left, also by an exception.

    Args:
        device_type: the kind of device on which the block computes, such as ``cpu`` or ``cuda``.

    >>> with full_precision("cpu"):
    ...     torch.backends.cudnn.deterministic
    True
    >>> torch.backends.cudnn.deterministic
    False
    """
    with torch.autocast(device_type, enabled=False):
        _switches.enter()
        try:
            yield
        finally:
            _switches.leave()


class _Switches:
    """The switches of the process, and how many blocks need them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._before = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._blocks:
                with ExitStack() as changes:  # undone at once if a switch cannot be set
                    self._set(changes)
                    self._before = changes.pop_all()
            self._blocks += 1

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._before.close()

    def _set(self, changes: ExitStack) -> None:
        cudnn: Any = torch.backends.cudnn
        _change(changes, cudnn, "deterministic", True)
        _change(changes, cudnn, "benchmark", False)  # it picks algorithms by their speed, another one in every process
        if not hasattr(cudnn, "fp32_precision"):  # torch < 2.9
            _change(changes, cudnn, "allow_tf32", False)
            changes.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
            return
        mkldnn: Any = torch.backends.mkldnn
        for operation in (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul):
            if operation.fp32_precision not in ("ieee", "none"):
                _change(changes, operation, "fp32_precision", "ieee")


def _change(changes: ExitStack, owner: object, name: str, value: object) -> None:
    changes.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


_switches = _Switches()
