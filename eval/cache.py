"""Tensors of finished photos, one file for each, so that an evaluation continues where it was stopped."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from grounding.files import write_file


def load_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors that a file holds; None where there is no such file, or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):
        return None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
