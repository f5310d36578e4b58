"""Work on many things at once, in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

AHEAD = 4  # items that wait for each process
PATIENCE = 5.0  # seconds without a result, after which we say so
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Work = TypeVar("Work")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    start: Callable[[Work], Callable[[Item], Result]], work: Work, items: Iterable[Item], *, processes: int
) -> Iterator[Result | None]:
    """What workers make of items, as it is found, in any order; None where there has been nothing for a while.

    Args:
        start: makes the worker of each process, of which libraries start one thread.
        work: what workers are made of. It travels to each process, as items and results do.
        items: what there is to do.
        processes: how many.

    Raises:
        ChildProcessError: a process died.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by libraries as a process starts
    others = multiprocessing.active_children()
    # Not forked: torch may hang in a copy of a process that has used it.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(start, work))
    waiting = iter(items)
    pending: set[Future[Result]] = set()
    try:
        while True:
            with _interrupts_later():
                pending |= {pool.submit(_do, item) for item in islice(waiting, AHEAD * processes - len(pending))}
            if not pending:
                return
            done, pending = wait(pending, PATIENCE, FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ChildProcessError("a process was killed, perhaps for want of memory") from None
    except BaseException:  # such as Ctrl-C: nobody waits for what they are at
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        del pool  # and with it its semaphores, of which Python would warn after an exit in haste


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_worker: list[Callable[[Any], Any]] = []  # of this process


def _start(start: Callable[[Any], Callable[[Any], Any]], work: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(start(work))


def _do(item: Any) -> Any:
    return _worker[0](item)


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
