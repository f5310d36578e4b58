"""Work on many items at once, in several processes or threads."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

ITEMS_AHEAD = 4  # items that wait for each process
PATIENCE = 5.0  # seconds without a result until the caller is told
TRIES = 2  # processes that are killed in turn, as they work on an item, before the item is to blame
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Work = TypeVar("Work")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    start: Callable[[Work], Callable[[Item], Result]],
    work: Work,
    items: Iterable[Item],
    *,
    processes: int,
    if_killed: Callable[[Item], Result] | None = None,
) -> Iterator[Result | None]:
    """Work on items in several processes; results come in the order in which they are finished.

    Args:
        start: makes a worker, a function of an item; called once in each process. Libraries start one thread there.
        work: argument of `start`. It is pickled and sent to each process, as items and results are.
        items: items to work on; a few are taken ahead of the processes.
        processes: number of processes.
        if_killed: makes the result of an item that has killed a process and a second one in its place, as one that
            takes too much memory does. None: the first process that is killed ends the work.

    Yields:
        The results; None whenever nothing has been finished for some seconds.

    Raises:
        ChildProcessError: a process was killed.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))  # libraries read these when a process starts
    crew = _Crew(start, work, if_killed)
    # Each thread waits for a process of its own, and so knows which item was at work when that process is killed.
    threads = ThreadPoolExecutor(processes, initializer=_block_interrupts)
    waiting = iter(items)
    pending: set[Future[Result]] = set()
    try:
        while True:
            pending |= {
                threads.submit(crew.do, item) for item in islice(waiting, ITEMS_AHEAD * processes - len(pending))
            }
            if not pending:
                return
            done, pending = wait(pending, PATIENCE, FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                yield future.result()
    finally:
        crew.kill()  # after an error or Ctrl-C, the items in progress are abandoned
        threads.shutdown(cancel_futures=True)


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    start: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Work on items in several threads; results come in the order of the items.

    Args:
        work: makes the result of an item. Its errors are raised when the result is due.
        items: items to work on, taken by the thread that asks for results, a few ahead of them.
        threads: number of threads.
        start: called once in each thread.
    """
    pool = ThreadPoolExecutor(threads, initializer=start)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            while pending and (len(pending) > 2 * threads or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # after an error or Ctrl-C, do not wait for items in progress
        pool.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _block_interrupts() -> None:
    """Keep Ctrl-C from a thread and from the processes that it starts; they end with their parent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


class _Crew(Generic[Item, Result]):
    """Processes, one for each thread that calls `do`."""

    def __init__(
        self, start: Callable[[Any], Callable[[Item], Result]], work: Any, if_killed: Callable[[Item], Result] | None
    ) -> None:
        self._start, self._work, self._if_killed = start, work, if_killed
        self._own = threading.local()  # the process of a thread
        self._lock = threading.Lock()
        self._all: list[_Process] = []
        self._is_over = False

    def do(self, item: Item) -> Result:
        """The result of an item.

        Raises:
            ChildProcessError: the process was killed.
        """
        for _ in range(TRIES if self._if_killed else 1):
            if getattr(self._own, "process", None) is None:
                self._own.process = self._new_process()
            try:
                is_result, value = self._own.process.do(item)
            except (EOFError, OSError):  # OSError where a message breaks off
                self._own.process = None
                continue
            if is_result:
                return value  # type: ignore[no-any-return]
            raise value
        if self._if_killed is None or self._is_over:
            raise _was_killed()
        return self._if_killed(item)

    def kill(self) -> None:
        """Kill all processes; none is started afterwards."""
        with self._lock:
            self._is_over = True
            for process in self._all:
                process.kill()

    def _new_process(self) -> "_Process":
        for _ in range(TRIES if self._if_killed else 1):
            with self._lock:
                if self._is_over:
                    break
                process = _Process(self._start, self._work)
                self._all.append(process)
            if process.is_ready():
                return process
        raise _was_killed()


class _Process:
    """A process that works on one item after the other. Its pipe ends with it, even in the middle of a message."""

    def __init__(self, start: Callable[[Any], Callable[[Any], Any]], work: Any) -> None:
        # Not forked: torch may hang in a copy of a process that has used it.
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other_end = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other_end, start, work), daemon=True)
        self._process.start()
        other_end.close()

    def is_ready(self) -> bool:
        """Wait until the process is ready for items; whether it is, or was killed. An error of its start is raised."""
        try:
            error = self._pipe.recv()
        except (EOFError, OSError):  # OSError where a message breaks off
            return False
        if error is not None:
            raise error
        return True

    def do(self, item: Any) -> Any:
        """Whether there is a result, and the result or the error.

        Raises:
            EOFError, OSError: the process was killed.
        """
        self._pipe.send(item)
        return self._pipe.recv()

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()


def _was_killed() -> ChildProcessError:
    return ChildProcessError("a process was killed, perhaps for want of memory")


def _serve(pipe: Connection, start: Callable[[Any], Callable[[Any], Any]], work: Any) -> None:
    """The life of a process: it makes its worker, and works on what comes through the pipe until the parent ends it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker = start(work)
    except Exception as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        item = pipe.recv()
        try:
            message = (True, worker(item))
        except Exception as error:
            message = (False, error)
        pipe.send(message)


def _end_with_parent() -> None:
    """Exit when the parent process does; otherwise a process would wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
