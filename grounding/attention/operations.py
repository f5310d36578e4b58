"""Tell what a node of a traced network does, from its module, function or method, in any of the usual spellings."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.linear import Convolution, Size, channels_last

_PASSING_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
DROPOUTS = (F.dropout, F.dropout2d, F.alpha_dropout)
_PASSING_METHODS = ("contiguous", "clone", "detach", "float")


def is_batch_norm(module: object) -> bool:
    """Whether a module is batch norm with fixed statistics; timm's may carry an activation."""
    is_one = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)
    is_one = is_one or type(module).__name__ in ("BatchNormAct2d", "FrozenBatchNorm2d")
    return is_one and getattr(module, "running_mean", None) is not None


def is_same_padded(module: object) -> bool:
    """Whether a module is timm's convolution with TensorFlow's padding, which depends on the size of its input."""
    return isinstance(module, nn.Conv2d) and type(module).__name__ == "Conv2dSame"


def is_linear_module(module: object) -> bool:
    """Whether a module is a convolution or a fully connected layer."""
    is_zero_padded = getattr(module, "padding_mode", "zeros") == "zeros"
    return (type(module) in (nn.Conv2d, nn.Linear) and is_zero_padded) or is_same_padded(module)


def operation_name(node: fx.Node, module: nn.Module | None) -> str:
    """The name of an operation for an error message: that of its module's class, its function or its method."""
    return type(module).__name__ if module else getattr(node.target, "__name__", str(node.target))


# Conditions: all take a node and the module that it calls, if any.


def is_input(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is the image or a constant, rather than made of other nodes."""
    return not node.all_input_nodes


def has_weights(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is a linear map with weights of its own, batch norm included."""
    return is_linear_module(module) or is_batch_norm(module)


def is_max_pooling(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is max pooling of any kind."""
    return maximum_of(node, module) is not None


def is_average_pooling(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node averages over cells of a map."""
    return average_of(node, module) is not None


def is_concatenation(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node puts maps or vectors side by side along the channels."""
    return node.target in (torch.cat, torch.concat) and argument(node, 1, "dim", 0) in (1, -3)


def is_lrn(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is local response normalisation."""
    return type(module) is nn.LocalResponseNorm or node.target is F.local_response_norm


def is_spatial_mean(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node averages (N, C, h, w) over its two last dimensions."""
    if node.target is not torch.mean and not (node.op == "call_method" and node.target == "mean"):
        return False
    dims = argument(node, 1, "dim", None)
    return isinstance(dims, tuple | list) and sorted(int(d) % 4 for d in dims) == [2, 3]


def is_adaptive_average(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node averages to a given size."""
    return type(module) is nn.AdaptiveAvgPool2d or node.target is F.adaptive_avg_pool2d


def is_global_average(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node averages each map to one cell, by its size."""
    if not is_adaptive_average(node, module):
        return False
    size = module.output_size if isinstance(module, nn.AdaptiveAvgPool2d) else argument(node, 1, "output_size", 1)
    return size in (1, (1, 1), [1, 1])


def has_fixed_field(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an average makes a map of fixed size, larger than one cell, for a fully connected layer."""
    return is_adaptive_average(node, module) and not is_global_average(node, module)


def is_flatten(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node may make vectors of maps; whether it does is checked when the values are known."""
    if isinstance(module, nn.Flatten) or node.target is torch.flatten:
        return True
    return node.op == "call_method" and node.target in ("flatten", "view", "reshape", "squeeze")


def sliding_average(x: Tensor, window: int | None) -> Tensor:
    """Average (N, C, h, w) over every window of so many cells a side, or over the whole if that is smaller or None."""
    window = max(x.shape[-2:]) if window is None else window
    return F.avg_pool2d(x, (min(window, x.shape[-2]), min(window, x.shape[-1])), stride=1)


def _pair(value: Any) -> Size:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value), int(value))


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument of a node's call, given by position or by name."""
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def convolution_of(module: nn.Module) -> Convolution:
    """The linear map of a module with weights: convolution, linear, or batch norm that stands alone."""
    if isinstance(module, nn.Linear):
        return Convolution(channels_last(module.weight[:, :, None, None]))
    if isinstance(module, nn.Conv2d):
        is_same = is_same_padded(module) or module.padding == "same"
        padding = None if is_same else _pair(0 if module.padding == "valid" else module.padding)
        return Convolution(module.weight, _pair(module.stride), padding, _pair(module.dilation), module.groups)
    statistics: Any = module  # batch norm that no convolution precedes: one weight for each channel
    scale = (statistics.running_var + statistics.eps).rsqrt()
    if statistics.weight is not None:
        scale = scale * statistics.weight
    return Convolution(scale[:, None, None, None], groups=len(scale))


# Operations that a network may end in, above its logits.
_FINAL_MODULES = (nn.Softmax, nn.LogSoftmax)
_FINAL_FUNCTIONS = (torch.softmax, F.softmax, F.log_softmax, torch.log_softmax)
_FINAL_SIGMOIDS = (torch.sigmoid, F.sigmoid, F.logsigmoid)
_FINAL_METHODS = (("call_method", "softmax"), ("call_method", "log_softmax"))

_LOWEST_OF_MODULE: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda m: 0.0,
    nn.ReLU6: lambda m: 0.0,
    nn.Sigmoid: lambda m: 0.0,
    nn.Hardsigmoid: lambda m: 0.0,
    nn.Softplus: lambda m: 0.0,
    nn.Tanh: lambda m: -1.0,
    nn.Softsign: lambda m: -1.0,
    nn.Hardtanh: lambda m: float(m.min_val),
    nn.ELU: lambda m: -float(m.alpha),
    nn.CELU: lambda m: -float(m.alpha),
    nn.SELU: lambda m: -1.7580993408473766,
    nn.SiLU: lambda m: -0.27846454276107379,
    nn.GELU: lambda m: -0.170041,
    nn.Mish: lambda m: -0.308844,
    nn.Hardswish: lambda m: -0.375,
}
_MODULE_OF_FUNCTION: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), nn.ReLU),
    F.relu6: nn.ReLU6,
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), nn.Sigmoid),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh", "tanh_"), nn.Tanh),
    F.hardsigmoid: nn.Hardsigmoid,
    F.softplus: nn.Softplus,
    F.softsign: nn.Softsign,
    F.selu: nn.SELU,
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
    F.mish: nn.Mish,
    F.hardswish: nn.Hardswish,
}


def lowest_value(node: fx.Node, module: nn.Module | None) -> float | None:
    """The least value of an activation function (λ of Eq. 20); None for other operations."""
    if module is not None:
        rule = _LOWEST_OF_MODULE.get(type(module))
        return rule(module) if rule else None
    if node.op in ("call_function", "call_method"):
        kind = _MODULE_OF_FUNCTION.get(node.target)
        if kind is not None:
            return _LOWEST_OF_MODULE[kind](None)
        if node.target in (F.elu, F.celu):
            return -float(argument(node, 1, "alpha", 1.0))
        if node.target is F.hardtanh:
            return float(argument(node, 1, "min_val", -1.0))
        if node.target in (torch.clamp, torch.clamp_min, "clamp", "clamp_min"):
            least = argument(node, 1, "min", None)
            return float(least) if isinstance(least, int | float) else None
    return None


def is_activation(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is an activation function with a lower bound."""
    return lowest_value(node, module) is not None


def is_final(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is a softmax or sigmoid, with which a network may end above its logits."""
    is_function = node.target in _FINAL_FUNCTIONS or (node.op, node.target) in _FINAL_METHODS
    return is_function or isinstance(module, _FINAL_MODULES) or is_final_sigmoid(node, module)


def is_final_sigmoid(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is the sigmoid, or its logarithm, with which a network of labels may end."""
    is_function = node.target in _FINAL_SIGMOIDS
    is_method = (node.op, node.target) == ("call_method", "sigmoid")
    return is_function or is_method or isinstance(module, nn.Sigmoid | nn.LogSigmoid)


def is_rectifier(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is a ReLU, which leaves non-negative values as they are."""
    return type(module) is nn.ReLU or _MODULE_OF_FUNCTION.get(node.target) is nn.ReLU


def is_sum(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node adds up two values, or a value and a number."""
    is_function = node.target in (operator.add, operator.iadd, torch.add)
    is_method = node.op == "call_method" and node.target in ("add", "add_")
    are_operands = len(node.args) == 2 and all(isinstance(part, fx.Node | int | float) for part in node.args)
    return (is_function or is_method) and are_operands and not node.kwargs


def passes(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node returns its input in evaluation, as dropout does."""
    is_method = node.op == "call_method" and node.target in _PASSING_METHODS
    return isinstance(module, _PASSING_MODULES) or node.target in DROPOUTS or is_method


def maximum_of(node: fx.Node, module: nn.Module | None) -> Callable[[Tensor], Any] | None:
    """Max pooling as a function that returns values and winners; None for other operations."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    if type(module) is nn.MaxPool2d:
        return partial(F.max_pool2d, return_indices=True, **{name: getattr(module, name) for name in names})
    if node.target in (F.max_pool2d, torch.max_pool2d):
        defaults = (None, None, 0, 1, False)
        values = {name: argument(node, i + 1, name, defaults[i]) for i, name in enumerate(names)}
        return partial(F.max_pool2d, return_indices=True, **values)
    if type(module) is nn.AdaptiveMaxPool2d:
        return partial(F.adaptive_max_pool2d, output_size=module.output_size, return_indices=True)
    if node.target is F.adaptive_max_pool2d:
        return partial(F.adaptive_max_pool2d, output_size=argument(node, 1, "output_size", 1), return_indices=True)
    return None


def average_of(node: fx.Node, module: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    """Average pooling of any kind as a function of (N, C, h, w); None for other operations."""
    if is_spatial_mean(node, module):
        return partial(torch.mean, dim=(2, 3), keepdim=True)
    if type(module) in (nn.AvgPool2d, nn.AdaptiveAvgPool2d):
        return module
    if is_adaptive_average(node, module):
        return partial(F.adaptive_avg_pool2d, output_size=argument(node, 1, "output_size", 1))
    if node.target is sliding_average:
        return partial(sliding_average, window=argument(node, 1, "window", None))
    if node.target is F.avg_pool2d:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        defaults = (None, None, 0, False, True, None)
        values = {name: argument(node, i + 1, name, defaults[i]) for i, name in enumerate(names)}
        return partial(F.avg_pool2d, **values)
    return None
