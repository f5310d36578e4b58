"""Classifiers that are the reader's own: an ``nn.Module``, given itself or by its import path, with its weights."""

import pickle
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grounding.attention.circuit import logits_node
from grounding.attention.graph import Trace, module_of
from grounding.attention.layers import choose_layer
from grounding.attention.operations import is_final_sigmoid
from grounding.attention.signals import record
from grounding.attention.trace import trace_network
from grounding.checkpoint.network import describe_mismatch
from grounding.messages import one_line
from grounding.models import IMAGENET_MEAN, IMAGENET_STD, Classifier
from grounding.vocabulary import Vocabulary


def module_classifier(
    *,
    path: str,
    arguments: Mapping[str, Any] | None = None,
    weights_path: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
    layer: str | None = None,
    window: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    short_side: int = 224,
) -> Classifier:
    """Build a classifier from the import path of a module.

    Args:
        path: ``PACKAGE.MODULE:NAME`` of an ``nn.Module``, or of a class or function that makes one.
        arguments: keyword arguments of that class or function.
        weights_path: the file of a state dict, as safetensors (``.safetensors``) or as ``torch.save`` writes it; None
            to leave the weights as they are.

    The other arguments and errors are those of `wrap_module`.

    Raises:
        ValueError: nothing can be imported from the path, it makes no module, or the weights do not fit.
    """
    network = import_network(path, arguments or {})
    if weights_path is not None:
        load_weights(network, Path(weights_path).expanduser())
    return wrap_module(
        network,
        class_names=class_names,
        multi_label=multi_label,
        layer=layer,
        window=window,
        mean=mean,
        std=std,
        short_side=short_side,
    )


def wrap_module(
    network: nn.Module,
    *,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
    layer: str | None = None,
    window: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    short_side: int = 224,
) -> Classifier:
    """Make a classifier of a network that maps images (B, 3, H, W) to one response for each class (B, units).

    Args:
        network: any module that ``torch.fx`` can trace. It is left as it was, and used as in evaluation.
        class_names: the names of the units, in order; None to know them by their numbers alone.
        multi_label: whether units are labels, each present or not, instead of classes of which a photo has exactly one.
            A network that ends in a sigmoid, or has a single unit, has labels in any case.
        layer: where attention stops, the path of a module or the name of a node; None: see `choose_layer`.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        mean: mean of red, green and blue in [0, 1], which is subtracted from a photo.
        std: standard deviation of each colour, by which the difference is divided.
        short_side: pixels to which a photo's shorter side is scaled.

    Raises:
        ValueError: the network cannot be traced or run on a square image of this size, has another number of units than
            of names, or no layer fits.
    """
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"model.mean and model.std are of red, green and blue, got {list(mean)} and {list(std)}")
    trace = trace_network(network, window=None)
    logits = logits_node(trace.output, trace)
    units = record(trace, {logits}, torch.zeros(1, 3, short_side, short_side))[logits].flatten(1).shape[1]
    has_labels = multi_label or units == 1 or ends_in_sigmoid(trace)
    return Classifier(
        network,
        Vocabulary({}, units) if class_names is None else name_units(class_names, units),
        layer=choose_layer(trace, short_side) if layer is None else layer,
        window=window,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        short_side=short_side,
        exclusive=0 if has_labels else None,
    )


def import_network(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import a module by ``PACKAGE.MODULE:NAME``, or call the class or function of that name with keyword arguments.

    Raises:
        ValueError: nothing can be imported from the path, or it makes no module.

    >>> import_network("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    Linear(in_features=2, out_features=3, bias=True)
    """
    package, colon, name = path.partition(":")
    if not (package and colon and name):
        raise ValueError(f"model.path is PACKAGE.MODULE:NAME, such as torchvision.models:resnet18, got {path!r}")
    try:
        found = import_module(package)
    except Exception as error:  # of any type: importing runs the module
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(
            f"model.path: {package} cannot be imported ({reason}): is it installed, or in this folder?"
        ) from error
    if not hasattr(found, name):
        near = get_close_matches(name, dir(found), n=3)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"model.path: {package} has no {name!r}{hint}")
    target = getattr(found, name)
    try:
        made = target if isinstance(target, nn.Module) else target(**arguments)
    except Exception as error:
        raise ValueError(f"model.path: {path} cannot be called: {one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"model.path: {path} is to be or to make an nn.Module, but made {type(made).__name__}")
    return made


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into a network: safetensors, or a file of ``torch.save`` that holds nothing but tensors.

    Raises:
        ValueError: the file cannot be read, or its tensors are those of another network.
    """
    tensors = _read_tensors(path)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        kind = f"{', '.join(map(str, list(tensors)[:5]))}" if isinstance(tensors, dict) else type(tensors).__name__
        raise ValueError(f"{path}: expected a state dict, tensors by name, got {kind}: save network.state_dict()")
    mismatch = describe_mismatch(tensors, network.state_dict())
    if mismatch:
        raise ValueError(f"{path}: {mismatch}; weights of another network?")
    network.load_state_dict(tensors)


def _read_tensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message advises to unpickle
        raise ValueError(
            f"{path}: no file of tensors alone, and nothing else is read: save network.state_dict()"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or one_line(error)}") from None
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: truncated, or no file of weights: {one_line(error)}") from None


def name_units(names: Sequence[str], units: int) -> Vocabulary:
    """The vocabulary in which each name means the unit at its place.

    Raises:
        ValueError: there are not as many names as units, or one of them comes twice.
    """
    names = [str(name) for name in names]
    if len(names) != units:
        raise ValueError(f"model.class_names has {len(names)} names, but the network has {units} units")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"model.class_names has {twice[0]!r} more than once")
    return Vocabulary({name: (unit,) for unit, name in enumerate(names)}, units)


def ends_in_sigmoid(trace: Trace) -> bool:
    """Whether a network applies a sigmoid to its logits."""
    node, logits = trace.output, logits_node(trace.output, trace)
    while node is not logits:
        if is_final_sigmoid(node, module_of(node, trace)):
            return True
        node = node.all_input_nodes[0]
    return False
