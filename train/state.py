"""The state of a training run: everything that changes while it trains, in one file from which it is resumed.

The file is safetensors: tensors, and everything else as JSON. Nothing is unpickled.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from grounding.files import write_file
from grounding.messages import one_line
from train.curves import Row

# Keys of JSON objects that stand for a tensor (its name), a tensor in channels-last layout, and a dictionary (pairs).
_TENSOR, _CHANNELS_LAST, _PAIRS = "__tensor__", "__channels_last__", "__pairs__"


@dataclass(eq=False)
class TrainingState:
    """Everything that changes while a network is trained."""

    network: nn.Module  # the part whose weights are trained
    optimiser: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None  # running average of the weights, where one is kept
    step: int = 0  # steps done
    rows: list[Row] = field(default_factory=list)  # rows of the log
    # An ordered set of lines, one for each photo that cannot be read.
    unreadable: dict[str, None] = field(default_factory=dict)

    def note_unreadable(self, problems: Iterable[str]) -> None:
        """Add lines about photos that cannot be read, each once."""
        self.unreadable.update(dict.fromkeys(problems))


def save_training(path: Path, state: TrainingState, settings: dict[str, Any]) -> None:
    """Write the state of a run, and the settings that distinguish it from other runs, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    values = {
        "settings": settings,
        "step": state.step,
        "network": state.network.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "schedule": state.schedule.state_dict(),
        "rows": state.rows,
        "unreadable": list(state.unreadable),
    }
    save_values(path, values)


def resume_training(path: Path, state: TrainingState, settings: dict[str, Any], *, run: Path) -> None:
    """Bring a run's parts into the state that `save_training` wrote.

    Args:
        path: the file.
        state: the state of the run before its first step; it is overwritten.
        settings: the settings of the run.
        run: the file or folder to delete where somebody wants to start again; for the error message.

    Raises:
        ValueError: the file belongs to a run with other settings, is no such state, or is damaged.
        OSError: it cannot be read.
    """
    values = load_values(path)
    try:
        differing = [name for name, value in settings.items() if not is_same(values["settings"].get(name), value)]
        if differing:
            names = ", ".join(differing)
            raise ValueError(f"{path} belongs to other settings ({names}): choose another task.output, or delete {run}")
        state.network.load_state_dict(values["network"])
        if state.average is not None:
            state.average.load_state_dict(values["average"])
        state.optimiser.load_state_dict(values["optimiser"])
        state.schedule.load_state_dict(values["schedule"])
        state.step, state.rows = values["step"], values["rows"]
        state.note_unreadable(values["unreadable"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a state of this training: {one_line(error)}; delete it") from None


def save_values(path: Path, values: Any) -> None:
    """Write nested dictionaries and lists of tensors and plain values, whole or not at all.

    Raises:
        TypeError: a value is of another type, or a key is no plain value.
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_pack(values, tensors))
    write_file(path, save({name: value.contiguous() for name, value in tensors.items()}, {"state": plain}))


def load_values(path: Path) -> Any:
    """The values that `save_values` wrote, on the CPU, with their memory layout; tuples have become lists.

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
    except OSError as error:  # which does not say that the content is damaged
        raise OSError(f"{path} cannot be read: {one_line(error)}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no state of a training run, or damaged: {one_line(error)}; delete it") from None


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().to("cpu", copy=True)  # a copy: safetensors refuses shared memory
        is_channels_last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        return {_CHANNELS_LAST if is_channels_last and not value.is_contiguous() else _TENSOR: name}
    if isinstance(value, dict):
        return {_PAIRS: [[_check_plain(key), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    return _check_plain(value)


def _check_plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the state of a training run holds {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _CHANNELS_LAST in value:  # a fused optimiser reads memory in its own order, whatever the strides are
            return tensors[value[_CHANNELS_LAST]].contiguous(memory_format=torch.channels_last)
        return {key: _unpack(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value


def is_same(found: Any, expected: Any) -> bool:
    """Whether plain values from a file equal the expected ones, tuples of which have become lists in the file.

    >>> is_same({"resize": [256, 288]}, {"resize": (256, 288)})
    True
    """
    return bool(json.loads(json.dumps(found)) == json.loads(json.dumps(expected)))


def seed_torch(*numbers: int) -> None:
    """Seed torch's generator by these numbers alone, so that a resumed run draws the same random numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    torch.manual_seed(seed)
