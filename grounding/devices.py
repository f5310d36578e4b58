"""Devices that networks run on."""

import torch


def choose_device(name: str) -> torch.device:
    """The device of a setting: ``auto`` is a GPU where there is one, else the CPU.

    Raises:
        ValueError: there is no such device, or it cannot be used.

    >>> choose_device("cpu")
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
