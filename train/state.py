"""The state of a training run as one safetensors file: tensors, and all else as JSON. Nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.command import in_one_line, write

_TENSOR, _PAIRS = "__tensor__", "__pairs__"  # what stands in JSON for a tensor, and for a dictionary by numbers


def save_state(path: Path, state: Any) -> None:
    """Write nested dictionaries and lists of tensors and plain values, whole or not at all.

    Raises:
        TypeError: there is something else in it.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_pack(state, tensors))
    write(path, save({name: value.contiguous() for name, value in tensors.items()}, {"state": plain}))


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU; tuples have become lists.

    Raises:
        ValueError: the file is no such state, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            return _unpack(plain, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no state of a training run, or damaged: {in_one_line(error)}; delete it") from None


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().to("cpu", copy=True)  # a copy: safetensors refuses shared memory
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {_PAIRS: [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the state of a training run holds {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _unpack(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value


def same_as(found: Any, expected: Any) -> bool:
    """Whether plain settings are the same, whatever of them became a list on the way through a file."""
    return bool(json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True))


def random_for(*numbers: int) -> None:
    """Make what torch draws from here on follow from these numbers alone, so that a resumed run draws the same."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    torch.manual_seed(seed)
