"""What is finished, one file a photo, so that an evaluation goes on where it was stopped."""

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import grounding
from grounding.files import write_file

# The files that compute word maps, predictions and proposals that are not stored.
ATTENDING = (
    "grounding/attention/*.py",
    *(f"grounding/{name}.py" for name in ("images", "maps", "models", "vocabulary")),
)
SCORING = (
    *(f"grounding/{name}.py" for name in ("phrases", "pipeline", "scoring", "records")),
    *(f"eval/{name}.py" for name in ("predicting", "pointing", "words")),
)
PROPOSING = ("proposals/*.py", "proposals/weights/*")


def load_kept(path: Path) -> dict[str, Tensor] | None:
    """The tensors that a file keeps; None where there is no such file, or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):
        return None


def keep(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def digest(*things: Any) -> str:
    """A short name of plain values and tensors, the same for the same ones."""
    found = blake2b(digest_size=8)
    for thing in things:
        if isinstance(thing, Tensor):
            found.update(thing.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(thing, Mapping) and all(isinstance(value, Tensor) for value in thing.values()):
            for name, tensor in thing.items():
                found.update(name.encode() + digest(tensor).encode())
        else:
            found.update(json.dumps(thing, sort_keys=True, default=str).encode())
    return found.hexdigest()


@cache
def code(*patterns: str) -> str:
    """A short name of the project's files: what other code has made is not taken for this one's."""
    folder = Path(grounding.__file__).parent.parent
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return digest([blake2b(path.read_bytes(), digest_size=8).hexdigest() for path in paths])
