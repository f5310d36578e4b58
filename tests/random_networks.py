"""Small random networks with every kind of link, and their winning probabilities by an absorbing Markov chain."""

import random
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn

Index = int

ACTIVATIONS = {  # and the least value of each
    nn.ReLU: 0.0, nn.ReLU6: 0.0, nn.Sigmoid: 0.0, nn.Softplus: 0.0, nn.Tanh: -1.0, nn.ELU: -1.0, nn.Hardswish: -0.375,
    nn.SiLU: -0.27846454276107379,
}  # fmt: skip
SIGNED_BLOCKS = ("residual", "bottleneck", "shortcut")
BLOCKS = ("conv", "maximum", "average", "adaptive", "lrn", "concat", "fork", "sum", "dropout", "norm")


@dataclass(frozen=True)
class Entry:
    """One operation: its module (None for a sum or concatenation), its inputs, and its role in the chain."""

    module: nn.Module | None
    inputs: tuple[Index, ...]
    role: str  # linear, activation, maximum, average, concat, sum, pass
    lowest: float = 0.0
    is_projection: bool = False  # its signed output enters another linear map


class RandomNetwork(nn.Module):
    """A stem (the layer where attention stops), some blocks, global average pooling, a classifier."""

    def __init__(self, seed: int, blocks: tuple[str, ...], *, units: int = 3, size: tuple[int, int] = (6, 5)) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.entries: list[Entry] = []
        self.shapes: list[tuple[int, int, int]] = []
        self.ops = nn.ModuleList()
        torch.manual_seed(seed)
        stem = self.add(nn.Conv2d(2, 3, 3, padding=1), (), "linear")
        self.last = self.layer = self.add(nn.ReLU(), (stem,), "activation")
        self.shapes = [(3, *size)] * 2
        for block in blocks:
            getattr(self, block)()
        channels = self.shapes[self.last][0]
        lowest = self.entries[self.last].lowest
        pooled = self.add(nn.AdaptiveAvgPool2d(1), (self.last,), "average", lowest=lowest)
        flat = self.add(nn.Flatten(), (pooled,), "concat", lowest=lowest)
        self.output = self.add(nn.Linear(channels, units), (flat,), "linear")
        self.double().eval()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.data.normal_()
                module.bias.data.normal_()

    def add(self, module: nn.Module | None, inputs: tuple[Index, ...], role: str, **flags: object) -> Index:
        self.ops.append((module or nn.Identity()).eval())
        self.entries.append(Entry(module, inputs, role, **flags))  # type: ignore[arg-type]
        if inputs and len(self.shapes) == len(self.entries) - 1:
            with torch.no_grad():
                parts = [torch.zeros(1, *self.shapes[index]) for index in inputs]
                self.shapes.append(tuple(self.apply_entry(len(self.entries) - 1, parts).shape[1:]))
        return len(self.entries) - 1

    def apply_entry(self, index: Index, inputs: list[Tensor]) -> Tensor:
        entry = self.entries[index]
        if entry.role == "sum":
            return inputs[0] + inputs[1]
        if entry.role == "concat" and entry.module is None:
            return torch.cat(inputs, 1)
        return self.ops[index](inputs[0])

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = []
        for index, entry in enumerate(self.entries):
            values.append(self.apply_entry(index, [values[i] for i in entry.inputs] or [x]))
        return values[-1]

    # Blocks: each continues from the last neurons.

    def convolution(self, source: Index, outputs: int, kind: str = "any") -> Index:
        channels, height, width = self.shapes[source]
        side = self.random.choice([k for k in (1, 2, 3) if k <= min(height, width)])
        groups = self.random.choice([1, channels]) if outputs % channels == 0 else 1
        dilation = self.random.choice([1, 2]) if 2 * (side - 1) < min(height, width) else 1
        options = {"stride": self.random.choice([1, 2]), "dilation": dilation, "groups": groups}
        if kind == "same":
            options, side = {"padding": 1}, 3
        elif self.random.random() < 0.25:
            return self.add(Conv2dSame(channels, outputs, side, **options), (source,), "linear")
        else:
            options["padding"] = self.random.choice([0, side // 2])
        return self.add(nn.Conv2d(channels, outputs, side, **options), (source,), "linear")

    def normalised(self, source: Index) -> Index:
        return self.add(nn.BatchNorm2d(self.shapes[source][0]), (source,), "linear")

    def activated(self, source: Index, kinds: tuple[type[nn.Module], ...] = tuple(ACTIVATIONS)) -> Index:
        kind = self.random.choice(kinds)
        return self.add(kind(), (source,), "activation", lowest=ACTIVATIONS[kind])

    def conv(self) -> None:
        linear = self.convolution(self.last, self.random.choice([2, 3, 6]))
        self.last = self.activated(self.normalised(linear) if self.random.random() < 0.5 else linear)

    def norm(self) -> None:
        self.last = self.activated(self.normalised(self.last))

    def maximum(self) -> None:
        side = min(2, *self.shapes[self.last][1:])
        pool = nn.MaxPool2d(side, self.random.choice([1, 2]), padding=side // 2, ceil_mode=self.random.random() < 0.5)
        self.last = self.add(pool, (self.last,), "maximum", lowest=self.entries[self.last].lowest)

    def average(self) -> None:
        side = min(2, *self.shapes[self.last][1:])
        pool = nn.AvgPool2d(side, 1, padding=side // 2, count_include_pad=self.random.random() < 0.5)
        self.last = self.add(pool, (self.last,), "average", lowest=self.entries[self.last].lowest)

    def adaptive(self) -> None:
        lowest = self.entries[self.last].lowest
        self.last = self.add(nn.AdaptiveAvgPool2d((2, 3)), (self.last,), "average", lowest=lowest)

    def lrn(self) -> None:
        if self.entries[self.last].lowest == 0:
            self.last = self.add(nn.LocalResponseNorm(3), (self.last,), "pass")

    def dropout(self) -> None:
        self.last = self.add(nn.Dropout(), (self.last,), "pass", lowest=self.entries[self.last].lowest)

    def concat(self) -> None:
        branches = [self.activated(self.convolution(self.last, 2, "same")) for _ in range(3)]
        lowest = min(self.entries[branch].lowest for branch in branches)
        self.last = self.add(None, tuple(branches), "concat", lowest=lowest)
        self.last = self.activated(self.convolution(self.last, 3))

    def fork(self) -> None:
        """A strided convolution with uneven padding beside max pooling of the same neurons, as in reduction blocks."""
        lowest = self.entries[self.last].lowest
        strided = Conv2dSame(self.shapes[self.last][0], 2, 3, stride=2)
        branch = self.activated(self.add(strided, (self.last,), "linear"))
        pooled = self.add(nn.MaxPool2d(2, 2, ceil_mode=True), (self.last,), "maximum", lowest=lowest)
        both = min(lowest, self.entries[branch].lowest)
        self.last = self.add(None, (branch, pooled), "concat", lowest=both)
        self.last = self.activated(self.convolution(self.last, 3))

    def sum(self) -> None:
        branches = [self.activated(self.convolution(self.last, 3, "same")) for _ in range(2)]
        lowest = sum(self.entries[branch].lowest for branch in branches)
        self.last = self.add(None, tuple(branches), "sum", lowest=lowest)

    def residual(self) -> None:
        inner = self.activated(self.convolution(self.last, 3, "same"), (nn.ReLU,))
        skip = self.last if self.shapes[self.last][0] == 3 else self.projected(self.last)
        branch = self.projected(inner, normalise=True)
        summed = self.add(None, (branch, skip), "sum", is_projection=False)
        self.last = self.add(nn.ReLU(), (summed,), "activation")

    def shortcut(self) -> None:
        """A convolution and the identity of the same neurons, which are one map."""
        channels = self.shapes[self.last][0]
        linear = nn.Conv2d(channels, channels, 3, padding=1, groups=self.random.choice([1, channels]))
        branch = self.add(linear, (self.last,), "linear", is_projection=True)
        summed = self.add(None, (branch, self.last), "sum")
        self.last = self.add(nn.ReLU(), (summed,), "activation")

    def projected(self, source: Index, *, normalise: bool = False) -> Index:
        pointwise = self.add(nn.Conv2d(self.shapes[source][0], 3, 1), (source,), "linear", is_projection=not normalise)
        if normalise:
            return self.add(nn.BatchNorm2d(3), (pointwise,), "linear", is_projection=True)
        return pointwise

    def bottleneck(self) -> None:
        narrow = self.projected(self.last)
        wide = self.activated(self.add(nn.Conv2d(3, 4, 1), (narrow,), "linear"), (nn.ReLU,))
        dilation = self.random.choice([1, 2])
        depthwise = nn.Conv2d(4, 4, 3, padding=dilation, dilation=dilation, groups=4)
        deep = self.activated(self.add(depthwise, (wide,), "linear"), (nn.ReLU6,))
        summed = self.add(None, (self.projected(deep), narrow), "sum", is_projection=True)
        self.last = self.activated(self.add(nn.Conv2d(3, 4, 3, padding=1), (summed,), "linear"), (nn.ReLU,))


def layer_of(network: RandomNetwork) -> str:
    """The layer where attention stops."""
    return f"ops.{network.layer}"


def photo(seed: int, count: int = 1, size: tuple[int, int] = (6, 5)) -> Tensor:
    """Random photos (count, 2, *size)."""
    return torch.rand(count, 2, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def priors(seed: int, count: int, units: int = 3) -> Tensor:
    """Random weights of output units, (count, units)."""
    return torch.rand(count, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def networks(draw: st.DrawFn, *, signed: bool = False) -> RandomNetwork:
    kinds = BLOCKS + SIGNED_BLOCKS if signed else BLOCKS
    blocks = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    if signed and not set(blocks) & set(SIGNED_BLOCKS):
        blocks.append(draw(st.sampled_from(SIGNED_BLOCKS)))
    return RandomNetwork(draw(st.integers(0, 2**16)), tuple(blocks))


def winning_probability(
    network: RandomNetwork,
    x: Tensor,
    prior: Tensor,
    *,
    contrastive: bool,
    signed: str,
    reverse: bool = False,
    normalised: bool = True,
) -> Tensor:
    """P(a_j) of the layer's neurons for one image, summed over channels, from Eq. 2, 3 and 6 written as matrices.

    States are neurons; row i of the transition matrix holds P(a_j | a_i) of Eq. 6, the linear map between them taken by
    autograd. The layer's neurons absorb. The fundamental matrix N = (I - Q)^-1 gives the expected visits. Without
    normalisation, a row holds excitatory weight × activation instead, unless its neuron has one child that it copies.
    """
    chain = _chain(network, x, signed)
    first = prior @ chain.transition(network.output, -1 if reverse else 1, normalised=normalised)
    if contrastive:
        first = first - prior @ chain.transition(network.output, 1 if reverse else -1, normalised=normalised)
    matrix = chain.matrix(normalised=normalised)
    layer, transient = chain.layer, torch.ones(chain.total, dtype=torch.bool)
    transient[layer] = False
    q, r = matrix[transient][:, transient], matrix[transient][:, layer]
    visits = torch.linalg.solve((torch.eye(len(q), dtype=q.dtype) - q).T, first[:, transient].T).T
    at_layer = first[:, layer] + visits @ r
    return at_layer.view(len(prior), *chain.excitement[network.layer].shape[1:]).sum(1)


def path_of_winners(network: RandomNetwork, x: Tensor, unit: int, *, signed: str) -> Tensor:
    """The cell of the layer at the end of the path from a unit that always goes on to the greatest P(a_j | a_i)."""
    chain = _chain(network, x, signed)
    matrix, row = chain.matrix(normalised=True), chain.transition(network.output, normalised=True)[unit]
    cells = torch.zeros(chain.excitement[network.layer].shape[1:], dtype=x.dtype)
    while row.any():
        state = int(row.argmax())
        if chain.layer.start <= state < chain.layer.stop:
            cells.view(-1)[state - chain.layer.start] = 1
            break
        row = matrix[state]
    return cells.sum(0)


def _chain(network: RandomNetwork, x: Tensor, signed: str) -> "Chain":
    neurons: dict[Index, Tensor] = {}  # the values of the states, leaves of autograd
    excitement: dict[Index, Tensor] = {}  # their activations, counted from the least value
    links: dict[Index, dict[Index, Tensor]] = {}
    values: list[Tensor] = []
    raw: list[Tensor] = []  # the values as autograd sees them, of which links are made
    for index, entry in enumerate(network.entries):
        inputs = [values[i] for i in entry.inputs] or [x]
        value = network.apply_entry(index, inputs)
        residual = residual_branch(network, entry) if signed == "skip_ignored" else None
        raw.append(value if residual is None else raw[residual])
        is_kept = entry.is_projection and signed != "compose"
        has_neurons = entry.role in ("activation", "maximum", "average", "concat") or is_neuron_sum(network, index)
        if has_neurons or is_kept or index == network.output:
            is_activation = entry.role == "activation"
            before = raw[index]
            if is_activation:
                before = inputs[0] if entry.inputs and entry.inputs[0] in neurons else raw[(entry.inputs or (0,))[0]]
            if index != network.layer:
                links[index] = jacobian(before, neurons)
            value = value.detach()
            lowest = -torch.inf if is_kept else entry.lowest
            excitement[index] = shifted(value, lowest, signed)
            if entry.role != "activation" and lowest < 0 and not is_kept:  # these follow what they are made of
                parts = [matrix @ excitement[source].flatten() for source, matrix in links[index].items()]
                excitement[index] = torch.stack(parts).sum(0).view(value.shape)
            value.requires_grad_()
            neurons[index] = value
        elif entry.role == "pass":
            links[index] = {entry.inputs[0]: torch.eye(value.numel(), dtype=x.dtype)}
            excitement[index] = excitement[entry.inputs[0]] if isinstance(entry.module, nn.Dropout) else value.detach()
            value = value.detach().requires_grad_()
            neurons[index] = value
        values.append(value)
    return Chain(network, links, excitement)


def residual_branch(network: RandomNetwork, entry: Entry) -> Index | None:
    """The input of a sum with the more operations of its own; None where neither has, and for other operations."""
    if entry.role != "sum":
        return None
    first, second = (above(network, index) for index in entry.inputs)
    own = (len(first - second), len(second - first))
    return None if own[0] == own[1] else entry.inputs[own.index(max(own))]


def above(network: RandomNetwork, index: Index) -> set[Index]:
    return {index}.union(*(above(network, source) for source in network.entries[index].inputs))


def is_neuron_sum(network: RandomNetwork, index: Index) -> bool:
    """Whether a node adds up activations and no activation function follows, so that it holds neurons itself."""
    entry = network.entries[index]
    if entry.role != "sum" or entry.is_projection:
        return False
    readers = [reader for reader in network.entries if index in reader.inputs]
    return not any(reader.role == "activation" for reader in readers)


def shifted(value: Tensor, lowest: float, signed: str) -> Tensor:
    if lowest == -torch.inf:
        return value if signed == "carry" else value.clamp(min=0)
    return value - lowest


def jacobian(before: Tensor, neurons: dict[Index, Tensor]) -> dict[Index, Tensor]:
    """The matrix of the linear map from each node's neurons, (outputs, inputs)."""
    leaves = list(neurons)
    seeds = torch.eye(before.numel(), dtype=before.dtype).view(-1, *before.shape)
    rows = [
        torch.autograd.grad(before, list(neurons.values()), seed, retain_graph=True, allow_unused=True)
        for seed in seeds
    ]
    return {
        leaf: torch.stack([row[i].flatten() for row in rows]) for i, leaf in enumerate(leaves) if rows[0][i] is not None
    }


@dataclass(eq=False)
class Chain:
    """The states of a network's neurons, and what one excites another by."""

    network: RandomNetwork
    links: dict[Index, dict[Index, Tensor]]
    excitement: dict[Index, Tensor]

    def __post_init__(self) -> None:
        self.starts: dict[Index, int] = {}
        self.total = 0
        for index, activation in self.excitement.items():
            if index != self.network.output:
                self.starts[index] = self.total
                self.total += activation.numel()

    @property
    def layer(self) -> slice:
        """The states of the layer."""
        start = self.starts[self.network.layer]
        return slice(start, start + self.excitement[self.network.layer].numel())

    def transition(self, index: Index, sign: int = 1, *, normalised: bool) -> Tensor:
        """The rows of a node's neurons."""
        count = next(iter(self.links[index].values())).shape[0]
        row = torch.zeros(count, self.total, dtype=self.excitement[index].dtype)
        for source, matrix in self.links[index].items():
            weight = (sign * matrix).clamp(min=0) * self.excitement[source].flatten()
            row[:, self.starts[source] : self.starts[source] + weight.shape[1]] += weight
        if not normalised and not self.is_copy(index):
            return row
        normaliser = row.sum(1, keepdim=True)
        return torch.where(normaliser == 0, 0.0, row / normaliser.masked_fill(normaliser == 0, 1))

    def is_copy(self, index: Index) -> bool:
        """Whether each neuron of a node is one of another node's."""
        entry, matrices = self.network.entries[index], list(self.links[index].values())
        is_alone = len(matrices) == 1 and torch.equal(matrices[0], torch.eye(len(matrices[0]), dtype=matrices[0].dtype))
        return entry.role in ("maximum", "concat", "pass") or (entry.role == "activation" and is_alone)

    def matrix(self, *, normalised: bool) -> Tensor:
        """The transition matrix of all neurons but the output units."""
        chain = torch.zeros(self.total, self.total, dtype=next(iter(self.excitement.values())).dtype)
        for index, start in self.starts.items():
            if index != self.network.layer:
                chain[start : start + self.excitement[index].numel()] = self.transition(index, normalised=normalised)
        return chain
