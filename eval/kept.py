"""What is finished, one file a photo, so that an evaluation goes on where it was stopped."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import grounding
from grounding.command import write

# What attention maps, and predictions made of them, are computed by.
SOURCES = ("attention/*.py", "images.py", "models.py", "phrases.py", "pipeline.py", "scoring.py", "vocabulary.py")


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], bool]:
    """The tensors that a file keeps, and whether they were there; what is missing or damaged is made and written.

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    try:
        return load(path.read_bytes()), True
    except (FileNotFoundError, SafetensorError):
        tensors = {name: tensor.contiguous() for name, tensor in make().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, save(tensors))
        return tensors, False


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
def code() -> str:
    """A short name of the code that attends and scores: results of other code are no longer kept."""
    folder = Path(grounding.__file__).parent
    paths = sorted(path for pattern in SOURCES for path in folder.glob(pattern))
    return digest(*(path.read_text(encoding="utf-8") for path in paths))
