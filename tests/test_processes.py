"""Work in several processes, whose workers import nothing heavy, and in threads."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import grounding.processes
from grounding.processes import cores, in_processes, in_threads


def make_worker(factor):
    """A worker that multiplies, and that the item 13 kills."""

    def work(item):
        if item == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return factor * item, os.getpid(), os.environ["OMP_NUM_THREADS"]

    return work


def make_talker(folder):
    """A worker that is killed while it sends a result, the first time for every item and always for "always"."""

    def work(item):
        if item == "always" or not (Path(folder) / item).exists():
            (Path(folder) / item).touch()
            threading.Thread(target=kill_soon, daemon=True).start()
            return bytes(10**8)
        return item

    return work


def kill_soon():
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def make_waiter(folder):
    """A worker that waits for a file, which another item makes by way of a pipe."""

    def work(item):
        if item == "wait":
            with open(Path(folder) / "pipe") as pipe:
                return pipe.read()
        return item

    return work


def test_every_item_is_worked_on_once_in_processes_of_one_thread():
    results = [result for result in in_processes(make_worker, 3, iter(range(10)), processes=2) if result]
    assert sorted(value for value, _, _ in results) == [3 * item for item in range(10)]
    assert os.getpid() not in {process for _, process, _ in results}
    assert {threads for _, _, threads in results} == {"1"}


def test_no_items_are_no_work():
    assert list(in_processes(make_worker, 3, [], processes=2)) == []


def test_a_process_that_dies_ends_the_work():
    with pytest.raises(ChildProcessError, match="a process was killed, perhaps for want of memory"):
        list(in_processes(make_worker, 3, [1, 13], processes=1))


def test_an_item_whose_process_was_killed_gets_another_process_and_one_that_kills_two_has_its_own_result(tmp_path):
    items = ["a", "always", "b"]
    results = in_processes(make_talker, tmp_path, items, processes=2, if_killed=lambda item: f"{item} kills")
    assert sorted(result for result in results if result) == ["a", "always kills", "b"]


def test_a_process_that_dies_before_its_first_item_ends_the_work():
    with pytest.raises(ChildProcessError, match="a process was killed"):
        list(in_processes(os._exit, 1, [1, 2], processes=1, if_killed=str))


def test_an_error_of_a_process_is_raised_as_it_is():
    with pytest.raises(ValueError, match="invalid literal"):
        list(in_processes(int, "no number", [1], processes=1, if_killed=str))


def test_the_caller_is_told_when_nothing_is_finished_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(grounding.processes, "PATIENCE", 0.01)
    os.mkfifo(tmp_path / "pipe")
    results = in_processes(make_waiter, tmp_path, ["wait"], processes=1)
    assert next(results) is None
    (tmp_path / "pipe").write_text("done")
    assert next(result for result in results if result) == "done"


def test_work_that_is_given_up_leaves_no_process(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    results = in_processes(make_waiter, tmp_path, ["first", "wait"], processes=2)
    assert next(result for result in results if result) == "first"
    results.close()  # would wait for ever, were the process that waits for the pipe not killed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bind processes to cores")
def test_only_cores_that_this_process_may_use_count():
    assert cores() == len(os.sched_getaffinity(0))


def test_threads_give_results_in_the_order_of_items_which_they_take_a_few_ahead():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    def work(number):
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return number

    results = in_threads(work, items(), threads=2)
    for number in range(20):
        assert next(results) == number
        assert len(taken) <= number + 2 * 2 + 2
    assert list(results) == []


def test_an_error_of_a_thread_is_raised_when_its_result_is_due():
    results = in_threads(lambda number: 1 // number, [1, 0, 1], threads=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
