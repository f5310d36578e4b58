"""Threads that take one core each."""

import threading

import torch

from grounding.devices import take_one_core
from grounding.processes import in_threads


def test_a_thread_that_takes_one_core_leaves_others_theirs():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        both = threading.Barrier(2, timeout=60)
        inside = list(
            in_threads(lambda _: both.wait() * 0 + torch.get_num_threads(), range(4), threads=2, start=take_one_core)
        )
        later = list(in_threads(lambda _: torch.get_num_threads(), range(2), threads=1))
        assert (inside, later, torch.get_num_threads()) == ([1] * 4, [2] * 2, 2)
    finally:
        torch.set_num_threads(before)
