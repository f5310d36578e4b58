"""Put the arrays of a ``.caffemodel`` into one of the networks of `grounding.caffe.networks`."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from grounding.caffe.caffemodel import read_caffemodel

VGG16 = (
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3",
    "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "fc8",
)  # fmt: skip
LISTED = 4  # layers of a file that an error message names


def load_caffemodel(network: nn.Module, name: str, path: Path) -> None:
    """Load Caffe's weights into a network. Layers of the file that the network lacks are left out.

    Caffe's networks take blue, green and red. The channels of the first convolution are turned round, so that ours take
    red, green and blue.

    Args:
        network: made by `grounding.caffe.networks.NETWORKS`.
        name: its name there.
        path: the ``.caffemodel``.

    Raises:
        ValueError: the file cannot be read, lacks a layer, or has one of another shape, or with NaN or infinity.
    """
    layers = read_caffemodel(path)
    for layer, module in layers_with_weights(network, name):
        if layer not in layers:
            found = f"{', '.join(list(layers)[:LISTED])}{', …' if len(layers) > LISTED else ''}"
            raise ValueError(f"{path}: it lacks the layer {layer!r} of {name}; it has {found}")
        try:
            _set_weights(module, layers[layer], is_norm=layer.startswith("bn"))
        except ValueError as error:
            raise ValueError(f"{path}: layer {layer!r} is not that of {name}: {error}") from None


def layers_with_weights(network: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The names of Caffe's layers with weights, each with its module; a batch norm is two layers in Caffe."""
    modules = {
        path: module
        for path, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }
    for place, (path, module) in enumerate(modules.items()):
        if name == "vgg16":
            yield VGG16[place], module
        elif name != "resnet50":
            yield path.replace(".", "/"), module
        elif isinstance(module, nn.BatchNorm2d):
            suffix = "_conv1" if path == "bn1" else _branch(path)
            yield f"bn{suffix}", module
            yield f"scale{suffix}", module
        else:
            yield {"conv1": "conv1", "fc": "fc1000"}[path] if "." not in path else f"res{_branch(path)}", module


def _branch(path: str) -> str:
    """What Caffe's names of layers have after res, bn and scale, for a module in a block of torchvision's ResNet-50.

    >>> _branch("layer3.5.bn2"), _branch("layer1.0.downsample.0")
    ('4f_branch2b', '2a_branch1')
    """
    stage, block, part = path.split(".", 2)
    branch = "1" if part.startswith("downsample") else f"2{'abc'[int(part[-1]) - 1]}"
    return f"{int(stage[-1]) + 1}{'abcdef'[int(block)]}_branch{branch}"


def _set_weights(module: nn.Module, arrays: list[Tensor], *, is_norm: bool) -> None:
    if is_norm:  # sums of means and variances, and the number by which both are divided
        if len(arrays) != 3 or arrays[2].numel() != 1:
            raise ValueError("a batch norm has a mean, a variance and one factor")
        factor = arrays[2].item()
        arrays = [array / factor if factor else torch.zeros_like(array) for array in arrays[:2]]
        targets = list(module.buffers())[:2]
    else:
        targets = list(module.parameters(recurse=False))
    if len(arrays) != len(targets):
        raise ValueError(f"number of arrays: {len(arrays)}, expected {len(targets)}")
    for array, target in zip(arrays, targets, strict=True):
        array = _in_shape(array, target.shape)
        if not array.isfinite().all():
            raise ValueError("it holds NaN or infinity")
        if target.ndim == 4 and target.shape[1] == 3:  # the first convolution
            array = array.flip(1)
        target.data.copy_(array)


def _in_shape(array: Tensor, shape: torch.Size) -> Tensor:
    """An array of Caffe in the shape of torch's.

    Older files write all shapes with four sizes, and fully convolutional ones a fully connected layer as a convolution.

    Raises:
        ValueError: it is of another shape.
    """
    fitting = array
    while fitting.ndim > len(shape) and len(fitting) == 1:
        fitting = fitting[0]
    if len(shape) == 2 and fitting.ndim == 4:
        fitting = fitting.flatten(1)
    if fitting.shape != shape:
        raise ValueError(f"it is {_times(array.shape)}, expected {_times(shape)}")
    return fitting


def _times(shape: torch.Size) -> str:
    return "×".join(map(str, shape))
