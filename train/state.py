"""The state of a training run as one safetensors file: tensors, and all else as JSON. Nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.files import write_file
from grounding.messages import one_line

# What stands in JSON for a tensor, for one whose channels lie together in memory, and for a dictionary by numbers.
_TENSOR, _CHANNELS_LAST, _PAIRS = "__tensor__", "__channels_last__", "__pairs__"


def save_state(path: Path, state: Any) -> None:
    """Write nested dictionaries and lists of tensors and plain values, whole or not at all.

    Raises:
        TypeError: there is something else in it, or keys that are no plain values.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_pack(state, tensors))
    write_file(path, save({name: value.contiguous() for name, value in tensors.items()}, {"state": plain}))


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU and as it lay in memory; tuples have become lists.

    Raises:
        ValueError: the file is no such state, or damaged.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get("state")
            if written is None:
                raise ValueError("it has tensors, but no state")
            return _unpack(json.loads(written), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except OSError as error:  # says nothing about what is in the file
        raise OSError(f"{path} cannot be read: {one_line(error)}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no state of a training run, or damaged: {one_line(error)}; delete it") from None


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().to("cpu", copy=True)  # a copy: safetensors refuses shared memory
        is_last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        return {_CHANNELS_LAST if is_last and not value.is_contiguous() else _TENSOR: name}
    if isinstance(value, dict):
        return {_PAIRS: [[_plain(key), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the state of a training run holds {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _CHANNELS_LAST in value:  # a fused optimiser goes through memory as it lies, whatever the strides say
            return tensors[value[_CHANNELS_LAST]].contiguous(memory_format=torch.channels_last)
        return {key: _unpack(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value


def same_as(found: Any, expected: Any) -> bool:
    """Whether plain settings that were in a file are those expected, a tuple of which has become a list there."""
    return bool(json.loads(json.dumps(found)) == json.loads(json.dumps(expected)))


def random_for(*numbers: int) -> None:
    """Make what torch draws from here on follow from these numbers alone, so that a resumed run draws the same."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    torch.manual_seed(seed)
