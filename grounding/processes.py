"""Work on many items at once, in several processes."""

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

ITEMS_AHEAD = 4  # items that wait for each process
PATIENCE = 5.0  # seconds without a result until the caller is told
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Work = TypeVar("Work")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    start: Callable[[Work], Callable[[Item], Result]], work: Work, items: Iterable[Item], *, processes: int
) -> Iterator[Result | None]:
    """Work on items in several processes; results come in the order in which they are finished.

    Args:
        start: makes a worker, a function of an item; called once in each process. Libraries start one thread there.
        work: argument of `start`. It is pickled and sent to each process, as items and results are.
        items: items to work on; a few are taken ahead of the processes.
        processes: number of processes.

    Yields:
        The results; None whenever nothing has been finished for some seconds.

    Raises:
        ChildProcessError: a process died.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))  # libraries read these when a process starts
    others = multiprocessing.active_children()
    # Not forked: torch may hang in a copy of a process that has used it.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(start, work))
    waiting = iter(items)
    pending: set[Future[Result]] = set()
    try:
        while True:
            with _interrupts_later():
                pending |= {pool.submit(_do, item) for item in islice(waiting, ITEMS_AHEAD * processes - len(pending))}
            if not pending:
                return
            done, pending = wait(pending, PATIENCE, FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ChildProcessError("a process was killed, perhaps for want of memory") from None
    except BaseException:  # such as Ctrl-C: the items in progress are abandoned
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        del pool  # frees its semaphores; otherwise Python warns about them if the interpreter exits now


def cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_workers: list[Callable[[Any], Any]] = []  # the one worker of this process


def _start(start: Callable[[Any], Callable[[Any], Any]], work: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _workers.append(start(work))


def _do(item: Any) -> Any:
    return _workers[0](item)


def _end_with_parent() -> None:
    """Exit when the parent process does; otherwise a process would wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C. Processes that start within the block never receive it; they end with their parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
