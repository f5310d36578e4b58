"""The network of a checkpoint: built before its weights are loaded, and the tensors that are stored for it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from grounding.architectures import build
from grounding.checkpoint.settings import BASE_UNITS, CheckpointSettings
from grounding.models import efficientnet_lite2, head_of, put_head

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}  # types in which weights may be stored


def build_network(settings: CheckpointSettings, units: int) -> nn.Module:
    """Build the network of a checkpoint with random weights, or with the packaged weights below a random head.

    Random numbers come from a generator of its own, so that saving does not change the course of a training run.

    Raises:
        ValueError: there is no such architecture, or the settings leave the head no units of its own.
    """
    with torch.random.fork_rng(devices=[]):
        if settings.base is None:
            return build(settings.architecture, units)
        network = efficientnet_lite2(settings.architecture.output_stride)
        packaged = head_of(network, BASE_UNITS)[1]
        put_head(network, BASE_UNITS, units)
    if settings.kept >= units:
        raise ValueError(f"kept={settings.kept} of {units} units leaves none of its own")
    if settings.kept:
        head = head_of(network, units)[1]
        with torch.no_grad():
            for name, weight in packaged.named_parameters():
                head.get_parameter(name)[-settings.kept :] = weight
    return network


def count_kept_units(network: nn.Module, units: int) -> int:
    """Number of a head's last units whose weights are those of the packaged head: all 1,000 of them, or 0."""
    if units <= BASE_UNITS:
        return 0
    with torch.random.fork_rng(devices=[]):
        packaged = head_of(efficientnet_lite2(), BASE_UNITS)[1]
    head = head_of(network, units)[1]
    is_same = all(
        torch.equal(head.get_parameter(name)[-BASE_UNITS:].cpu(), weight)
        for name, weight in packaged.named_parameters()
    )
    return BASE_UNITS if is_same else 0


def storable_tensors(network: nn.Module, units: int, settings: CheckpointSettings) -> dict[str, Tensor]:
    """All tensors of a network as a checkpoint may store them: of the head, the rows of its own units alone."""
    tensors = network.state_dict()
    own_units = units - settings.kept
    return tensors | {name: tensors[name][:own_units] for name in head_tensors(network, units)}


def head_tensors(network: nn.Module, units: int) -> list[str]:
    """The names of the head's tensors, which every checkpoint stores."""
    path, head = head_of(network, units)
    return [f"{path}.{name}" for name in head.state_dict()]


def describe_mismatch(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first difference in name, shape or type between tensors and those expected, in words; None without any."""
    for name, like in expected.items():
        if name not in tensors:
            return f"{name} is missing"
        if tensors[name].shape != like.shape:
            return f"{name} is {tuple(tensors[name].shape)}, not {tuple(like.shape)}"
        if tensors[name].dtype != like.dtype and not {tensors[name].dtype, like.dtype} <= FLOATS:
            return f"{name} is of {tensors[name].dtype}, not {like.dtype}"
    unknown = next((name for name in tensors if name not in expected), None)
    return None if unknown is None else f"{unknown} is unknown"
