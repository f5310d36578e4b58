"""Devices that networks run on."""

import torch


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
