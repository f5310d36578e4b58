"""Devices that networks run on, and the CPU cores that a thread takes."""

from threading import Lock, Thread

import torch

_changing = Lock()  # torch's number of threads


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU where there is one, and the CPU elsewhere.

    Raises:
        ValueError: there is no such device, or it cannot be used.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def take_one_core() -> None:
    """Let torch compute on one core wherever the calling thread calls it; for other threads nothing changes.

    Several threads with a photo each are faster than one that computes on all cores, and the last digits of a result
    then do not depend on the number of cores. A thread that calls torch for the first time at the same moment may get
    one core, too.
    """
    with _changing:
        others = torch.get_num_threads()
        torch.set_num_threads(1)  # for this thread, and for those that call torch for the first time from now on
        setting_back = Thread(target=torch.set_num_threads, args=(others,))
        setting_back.start()
        setting_back.join()
