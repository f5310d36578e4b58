"""Training in several processes, as ``torchrun`` starts them, or in one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Result = TypeVar("Result")


@dataclass(frozen=True)
class Share:
    """The share of the work that belongs to one process."""

    rank: int = 0  # number of the process, from 0
    world_size: int = 1  # number of processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0


ALONE = Share()


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Share, torch.device]]:
    """Join the processes that ``torchrun`` started, if it did, and leave them when the block ends.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` …; with several processes on GPUs, each takes the GPU of its local rank.

    Yields:
        This process's share of the work, and its device.
    """
    uses_gpu = torch.cuda.is_available() and device in ("auto", "cuda")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        chosen = "cuda" if uses_gpu else "cpu" if device == "auto" else device
        yield ALONE, torch.device(chosen)
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    dist.init_process_group("nccl" if uses_gpu else "gloo")
    try:
        if uses_gpu:
            torch.cuda.set_device(local_rank)
        yield Share(dist.get_rank(), world_size), torch.device(f"cuda:{local_rank}" if uses_gpu else "cpu")
    finally:
        dist.destroy_process_group()


def processes_on_this_machine() -> int:
    """Number of training processes that share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def first_then_others(share: Share, work: Callable[[], Result]) -> Result:
    """Do work whose result is kept in a file: the first process computes it, then the others read the file."""
    if share.world_size == 1:
        return work()
    result = work() if share.is_first else None
    dist.barrier()
    return work() if result is None else result


def gather(share: Share, value: Result) -> list[Result]:
    """The values of all processes, in the order of their ranks."""
    if share.world_size == 1:
        return [value]
    values: list[Any] = [None] * share.world_size
    dist.all_gather_object(values, value)
    return values


def mean_over_processes(share: Share, value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself is overwritten."""
    if share.world_size > 1:
        dist.all_reduce(value)
        value /= share.world_size
    return value
