"""Proposing in many photos at once, in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from grounding.command import about
from grounding.config import build_part
from grounding.images import load_image
from proposals.store import File, Stored, key_of
from proposals.writer import Entry, arrays_of, stamp_of

AHEAD = 4  # photos that wait for each process
PATIENCE = 5.0  # seconds without a result, after which we say so
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Failure:
    """A photo without proposals, and why."""

    name: str
    error: str  # one line


@dataclass(frozen=True)
class Work:
    """What every process needs to know."""

    settings: dict[str, Any]  # of the proposals, plain values
    folder: Path  # at which the names of photos start
    store: Path | None  # with the proposals of earlier runs


class Worker:
    """Proposes in one photo after the other."""

    def __init__(self, work: Work) -> None:
        self.propose = build_part(work.settings)
        self.folder = work.folder
        self.stored = None if work.store is None else Stored(work.store)

    def __call__(self, name: str) -> Entry | Failure:
        """The proposals of a photo; whatever goes wrong is a failure of this photo alone."""
        path = self.folder / name
        try:
            stamp = stamp_of(path)  # first: a file that changes while we read it is read again by the next run
            image = load_image(path)
            key = key_of(image)
            is_known = self.stored is not None and key in self.stored
            arrays = None if is_known else arrays_of(self.propose(path))
            return Entry(File(name, key, stamp), (image.shape[1], image.shape[2]), arrays)
        except Exception as error:  # also those of libraries
            return Failure(name, about(path, error))


def propose_in(names: Sequence[str], work: Work, *, processes: int) -> Iterator[Entry | Failure | None]:
    """The proposals of photos as they are found, in any order; None where there has been nothing for a while.

    Args:
        names: of the photos.
        work: what to do with them.
        processes: how many; with fewer than two, this one does the work.

    Raises:
        ValueError: the settings are wrong.
        ChildProcessError: a process died.
    """
    worker = Worker(work)  # here, too: wrong settings are no failure of a photo or a process
    if processes < 2:
        yield from map(worker, names)
        return
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by libraries as a process starts
    # Not forked: torch may hang in a copy of a process that has used it.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(work,))
    waiting = iter(names)
    pending: set[Future[Entry | Failure]] = set()
    try:
        while True:
            with _interrupts_later():
                pending |= {pool.submit(_propose, name) for name in islice(waiting, AHEAD * processes - len(pending))}
            if not pending:
                return
            done, pending = wait(pending, PATIENCE, FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process was killed, perhaps for want of memory; what is finished is kept, and the same command with "
            "fewer workers=… goes on from there"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_worker: list[Worker] = []  # of this process


def _start(work: Work) -> None:
    import cv2
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker.append(Worker(work))


def _propose(name: str) -> Entry | Failure:
    return _worker[0](name)


def _end_with_parent() -> None:
    """Else a process waits for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C. Processes that start meanwhile never get it; they end with their parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
