"""Layer-wise relevance propagation: the relevance of an output unit, shared out layer by layer down to the pixels.

Autograd goes down the network and carries relevance instead of gradients: every node of the traced network is wrapped
so that its backward pass is the rule: divide by the normaliser, transpose the map, multiply by the input.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from grounding.attention.circuit import logits_node
from grounding.attention.gradients import Differentiable, blurred, check_blur, descend
from grounding.attention.graph import Trace, module_of
from grounding.attention.linear import Convolution
from grounding.attention.operations import (
    convolution_of,
    has_weights,
    is_activation,
    is_average_pooling,
    is_flatten,
    is_lrn,
    is_max_pooling,
    is_sum,
    operation_name,
    passes,
)
from grounding.attention.places import place_of
from grounding.attention.signals import Confidence, as_map, check_confidence, spread
from grounding.attention.trace import trace_network

Rule = Literal["epsilon", "alpha_beta"]
ROUNDING = 32  # how many machine epsilons a sum of many products may be wrong by


class LRP:
    """Layer-wise relevance propagation (Bach et al. 2015; paper, section 6.1.1).

    A map is the relevance of each pixel, summed over its colour channels, clipped at 0 and blurred. Activation
    functions and LRN pass relevance on unchanged, and max pooling passes it to the winner. Convolutions, fully
    connected layers, batch norm that could not be folded, averages and sums share it by a rule:

    - ``epsilon``: in proportion to weight × input, signed (Bach et al., Eq. 58). The normaliser is the response,
      bias included, pushed away from zero by ``epsilon``; the bias keeps its share. The relevance of a unit is its
      response. Without bias and ``epsilon``, the relevance of a pixel is gradient × input.
    - ``alpha_beta``: ``alpha`` times the relevance in proportion to the positive products weight × input, less
      ``alpha - 1`` times the relevance in proportion to the negative ones (Eq. 60). If there are no negative products,
      the positive ones receive the relevance once. If the response is negative (linear bottlenecks, residual sums), the
      two sides change places, since the negative products caused it. Bias takes no part. The relevance of a unit is 1,
      like the probability that Excitation Backprop shares: multiplied by a negative response, all evidence for a unit
      would count against it. With ``alpha`` 1 and inputs that are not negative, the rule gives MWP.

    Relevance that no input can take is lost.

    Args:
        network: a classifier that ``torch.fx`` can trace. It is left as it was; its weights are read once, here.
        layer: not used, since relevance goes down to the pixels; all methods take it.
        window: the side of the sliding classifier's window, in cells, or None (see `ExcitationBackprop`).
        rule: ``epsilon`` or ``alpha_beta``.
        alpha: the α of ``alpha_beta``, at least 1.
        epsilon: the ε of ``epsilon``, at least 0.
        confidence: how a unit's responses become its confidence over positions: by their ``softmax``, or by their
            ``sigmoid``, normalised.
        blur: standard deviation of the Gaussian, as a share of the photo's longer side; 0 leaves maps as they are.

    Raises:
        ValueError: the network cannot be traced, has an operation without a rule, or a setting makes no sense.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        window: int | None = None,
        rule: Rule = "alpha_beta",
        alpha: float = 2.0,
        epsilon: float = 0.01,
        confidence: Confidence = "softmax",
        blur: float = 0.02,
    ) -> None:
        if rule not in ("epsilon", "alpha_beta"):
            raise ValueError(f"rule must be epsilon or alpha_beta, got {rule!r}")
        for name, value, least in (("alpha", alpha, 1), ("epsilon", epsilon, 0)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
                raise ValueError(f"{name} must be a number, at least {least}, got {value!r}")
        check_confidence(confidence)
        check_blur(blur)
        self.layer = layer
        self.rule = rule
        self.alpha = alpha
        self.epsilon = epsilon
        self.confidence = confidence
        self.blur = blur
        self._trace = trace_network(network, window=window)
        self._units = logits_node(self._trace.output, self._trace)
        self._image = place_of(self._trace, layer, "pixels")
        self._kinds = find_kinds(self._trace, self._units)
        self._heads = find_heads(self._units, self._kinds)
        self._maps = linear_maps(self._trace, self._kinds) if rule == "alpha_beta" else {}

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Attention maps of the targets of each image; shapes and errors are those of `Grad`."""
        return [blurred(relevance.clamp(min=0), self.blur) for relevance in self.unclipped(images, targets)]

    def unclipped(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """The relevance of the pixels, neither clipped nor blurred. Arguments are those of `__call__`."""
        return descend(
            _Relevance(self),
            self._units,
            images,
            targets,
            place=self._image,
            start=self._start,
            finish=lambda relevance: relevance.sum(0),
        )

    def _start(self, prior: Tensor, responses: Tensor) -> Tensor:
        signal = spread(prior, responses, self.confidence)
        return signal * responses if self.rule == "epsilon" else signal


# The kinds of nodes, by the way in which relevance passes them.

Kind = Literal["weighted", "positive", "passing", "placing"]
PLACING_MODULES = (nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.ZeroPad2d)
PLACING_FUNCTIONS = (
    torch.cat,
    torch.concat,
    torch.stack,
    torch.chunk,
    torch.split,
    torch.unsqueeze,
    torch.squeeze,
    torch.reshape,
    torch.permute,
    torch.transpose,
    operator.getitem,
    getattr,
    F.pad,
)
PLACING_METHODS = ("size", "dim", "chunk", "split", "unsqueeze", "permute", "transpose")
SCALING = (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, torch.mul, torch.div)


def _is_sum_of_several(node: fx.Node, module: nn.Module | None) -> bool:
    return is_sum(node, module) and len(node.all_input_nodes) > 1


def _is_scaling(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node adds a number to a value, or multiplies it by one."""
    return node.target in SCALING and len(node.all_input_nodes) == 1


def _is_placing(node: fx.Node, module: nn.Module | None) -> bool:
    is_method = node.op == "call_method" and node.target in PLACING_METHODS
    is_function = node.target in PLACING_FUNCTIONS or node.op in ("placeholder", "get_attr")
    return isinstance(module, PLACING_MODULES) or is_function or is_method or is_flatten(node, module)


KINDS: tuple[tuple[Callable[[fx.Node, nn.Module | None], bool], Kind], ...] = (  # the first whose condition holds
    (has_weights, "weighted"),
    (is_activation, "passing"),
    (is_lrn, "passing"),
    (passes, "passing"),
    (_is_sum_of_several, "positive"),
    (is_average_pooling, "positive"),
    (_is_scaling, "passing"),
    (is_max_pooling, "placing"),
    (_is_placing, "placing"),
)


def find_kinds(trace: Trace, units: fx.Node) -> dict[fx.Node, Kind]:
    """Find the kind of each node from the pixels up to the output units, by the first condition of `KINDS` that holds.

    - ``weighted``: a linear map with weights of its own, of either sign;
    - ``positive``: a linear map without weights, such as an average or a sum;
    - ``passing``: each value depends on the value at its own position alone;
    - ``placing``: values are selected or moved, and relevance follows them as gradients do: reshaping, concatenation,
      max pooling.

    Raises:
        ValueError: a node is of no kind.
    """
    kinds: dict[fx.Node, Kind] = {}
    waiting = [units]
    while waiting:
        node = waiting.pop()
        if node not in kinds:
            kinds[node] = _kind(node, module_of(node, trace))
            waiting += node.all_input_nodes
    return kinds


def _kind(node: fx.Node, module: nn.Module | None) -> Kind:
    for condition, kind in KINDS:
        if condition(node, module):
            return kind
    raise ValueError(
        f"no rule for {operation_name(node, module)} at {node.name!r}: relevance passes convolution, linear, batch "
        "norm, pooling, sum, concat, reshaping, dropout, LRN and activations with a lower bound"
    )


def find_heads(units: fx.Node, kinds: dict[fx.Node, Kind]) -> set[fx.Node]:
    """Find the nodes from the output units down to the first weights: one classifier, or several side by side."""
    heads: set[fx.Node] = set()
    waiting = [units]
    while waiting:
        node = waiting.pop()
        heads.add(node)
        if kinds[node] != "weighted":
            waiting += node.all_input_nodes
    return heads


def linear_maps(trace: Trace, kinds: dict[fx.Node, Kind]) -> dict[fx.Node, tuple[Convolution, Convolution]]:
    """The linear maps of all ``weighted`` nodes, without bias, with their weights and with the absolute values."""
    maps = {}
    for node, kind in kinds.items():
        if kind == "weighted":
            convolution = convolution_of(trace.module.get_submodule(str(node.target)))
            maps[node] = (convolution, replace(convolution, weight=convolution.weight.abs()))
    return maps


# The rules.


class _Share(torch.autograd.Function):
    """A value that hands its relevance to each of its inputs, times a factor of the input's own (None is 1)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factors: tuple[Tensor | None, ...], *inputs: Tensor) -> Tensor:
        ctx.factors = factors
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(relevance if factor is None else factor * relevance for factor in ctx.factors)


def share(value: Tensor, inputs: Sequence[Tensor], factors: Sequence[Tensor | None]) -> Tensor:
    """Return the value; in the backward pass, each input receives the value's relevance times its factor."""
    factors = [None if factor is None else _channels_last(factor) for factor in factors]
    return _Share.apply(_channels_last(value.detach()), tuple(factors), *inputs)  # type: ignore[no-any-return]


def _channels_last(x: Tensor) -> Tensor:
    """Lay out a map with channels together in memory; relevance then has this layout, too, and mixed ones are slow."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def taken(x: Tensor, part: Tensor) -> Tensor:
    """Return a part of x; in the backward pass, x receives the part's relevance times the part."""
    return share(part, [x], [part])


def inverse(normaliser: Tensor, least: Tensor | float = 0.0) -> Tensor:
    """1 / normaliser, and 0 where the normaliser is not above ``least`` in size, since nothing takes a share there."""
    least = torch.as_tensor(least).clamp(min=torch.finfo(normaliser.dtype).tiny)
    return normaliser.masked_fill(normaliser.abs() <= least, torch.inf).reciprocal_()


def _depends_on_pixels(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


Again = Callable[[Callable[[Tensor], Tensor]], Tensor]  # a node's operation, repeated on changed inputs


class _Relevance(Differentiable):
    """Runs a traced network so that autograd carries relevance down."""

    def __init__(self, method: LRP) -> None:
        super().__init__(method._trace, {method._units, method._image})
        self._method = method

    def compute(self, n: fx.Node) -> Any:
        kind = self._method._kinds.get(n, "placing")
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        inputs = [value for value in (*args, *kwargs.values()) if _depends_on_pixels(value)]
        if kind == "placing" or not inputs:
            return super().compute(n)

        def again(change: Callable[[Tensor], Tensor]) -> Tensor:
            changed = tuple(change(value) if _depends_on_pixels(value) else value for value in args)
            named = {name: change(value) if _depends_on_pixels(value) else value for name, value in kwargs.items()}
            return getattr(self, n.op)(n.target, changed, named)  # type: ignore[no-any-return]

        if kind == "passing" or (kind == "positive" and is_sum(n, None) and len(inputs) == 1):  # a sum with a constant
            return share(again(torch.detach), inputs, [None])
        if self._method.rule == "epsilon":
            response = again(lambda x: taken(x, x.detach()))
            return share(response, [response], [self._stabilised(response.detach())])
        return self._alpha_beta(n, again, inputs)

    def _stabilised(self, response: Tensor) -> Tensor:
        epsilon = self._method.epsilon
        return inverse(torch.where(response < 0, response - epsilon, response + epsilon))

    def _alpha_beta(self, n: fx.Node, again: Again, inputs: list[Tensor]) -> Tensor:
        """Share α × the relevance among the products that cause a response, less β × it among those that oppose it.

        Positive products sum to z⁺ = (|w|·|x| + w·x) / 2 and negative ones to z⁻ = (|w|·|x| - w·x) / 2, so that two
        maps, w and |w|, carry both shares down whatever the signs of weights and inputs.
        """
        value, beta = again(torch.detach), self._method.alpha - 1
        if n in self._method._maps:
            x = as_map(inputs[0])
            weights, sizes = self._method._maps[n]
            signed = weights.apply(taken(x, x.detach())).reshape(value.shape)
            unsigned = sizes.apply(taken(x, x.detach().abs())).reshape(value.shape)
        else:
            signed = again(lambda x: taken(x, x.detach()))
            unsigned = again(lambda x: taken(x, x.detach().abs()))
        total, balance = unsigned.detach(), signed.detach()
        turn = torch.ones_like(value)
        if n not in self._method._heads:  # units are asked for, whatever their response
            turn.masked_fill_(value < 0, -1)
        least = ROUNDING * torch.finfo(value.dtype).eps * total
        along, against = inverse(total + turn * balance, least), inverse(total - turn * balance, least)
        along = along + beta * along * (against > 0)
        return share(value, [signed, unsigned], [turn * (along + beta * against), along - beta * against])
