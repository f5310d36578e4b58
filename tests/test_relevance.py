import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, SIGNED_BLOCKS, RandomNetwork, photo
from torch import nn

from grounding.attention import LRP, ExcitationBackprop
from grounding.attention.gradients import blurred

seeds = st.integers(0, 2**16)


class Rectified(RandomNetwork):
    """A random network whose activations are all ReLUs."""

    def activated(self, source, kinds=()):
        return super().activated(source, (nn.ReLU,))


@st.composite
def rectified(draw, blocks, *, without_bias=False):
    chosen = draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=3))
    network = Rectified(draw(seeds), tuple(chosen))
    if without_bias:
        for module in network.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
    return network


units = [torch.arange(3)]
linear_kinds = tuple(
    kind for kind in BLOCKS + SIGNED_BLOCKS if kind != "lrn"
)  # the gradient of LRN is not its relevance


@settings(max_examples=12)
@given(rectified(linear_kinds, without_bias=True), seeds)
def test_without_bias_and_epsilon_relevance_is_gradient_times_input_and_conserved(network, seed):
    x = (photo(seed) - 0.5).requires_grad_()
    responses = network(x)[0]
    gradients = torch.stack([torch.autograd.grad(response, x, retain_graph=True)[0][0] for response in responses])
    (relevance,) = LRP(network, "ops.1", rule="epsilon", epsilon=0).unclipped(x, units)
    torch.testing.assert_close(relevance, (gradients * x).sum(1).detach(), atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(relevance.sum((1, 2)), responses.detach(), atol=1e-8, rtol=1e-6)


@settings(max_examples=12)
@given(rectified(BLOCKS), seeds)
def test_with_alpha_one_relevance_is_the_marginal_winning_probability_of_pixels(network, seed):
    (relevance,) = LRP(network, "ops.1", alpha=1).unclipped(photo(seed), units)
    (winning,) = ExcitationBackprop(network, "x", contrastive=False, signed="carry").unclipped(photo(seed), units)
    torch.testing.assert_close(relevance, winning, atol=1e-9, rtol=1e-7)


@settings(max_examples=10)
@given(rectified(BLOCKS, without_bias=True), seeds, st.floats(1, 3))
def test_relevance_is_conserved_where_every_neuron_is_excited(network, seed, alpha):
    for parameter in network.parameters():
        if parameter.any():  # a weight
            parameter.data.abs_().add_(0.01)
    (relevance,) = LRP(network, "ops.1", alpha=alpha).unclipped(photo(seed), units)
    torch.testing.assert_close(relevance.sum((1, 2)), torch.ones(3, dtype=torch.float64))


def rule_as_loops(weight, x, relevance, value, alpha):
    """Bach et al., Eq. 60, for a fully connected layer without bias, with its two sides exchanged for value < 0."""
    shares = torch.zeros_like(x)
    for j, row in enumerate(weight):
        products = [w * a for w, a in zip(row.tolist(), x.tolist(), strict=True)]
        sign = -1 if value[j] < 0 else 1
        along = sum(max(sign * product, 0) for product in products)
        against = sum(max(-sign * product, 0) for product in products)
        for i, product in enumerate(products):
            if sign * product > 0:
                shares[i] += (alpha if against > 0 else 1) * sign * product / along * relevance[j]
            elif sign * product < 0:
                shares[i] -= (alpha - 1) * -sign * product / against * relevance[j]
    return shares


@settings(max_examples=20)
@given(seeds, st.floats(1, 3), st.sampled_from([0.0, 0.7]))
def test_alpha_beta_equals_the_rule_written_as_loops(seed, alpha, dead):
    """Two linear layers, so that values between are of either sign; some weights are 0."""
    generator = torch.Generator().manual_seed(seed)
    first, second, x = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((4, 3), (2, 4), (3,)))
    first, second = first * (first.abs() > dead), second * (second.abs() > dead)
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False)).double()
    network[0].weight.data, network[1].weight.data = first[..., None, None], second[..., None, None]
    hidden, pixels = first @ x, x[None, :, None, None]
    (found,) = LRP(network, "0", alpha=alpha).unclipped(pixels, [torch.arange(2)])
    for unit in range(2):
        top = torch.eye(2, dtype=torch.float64)[unit]
        middle = rule_as_loops(second, hidden, top, torch.ones(2), alpha)  # units are asked for, whatever their sign
        expected = rule_as_loops(first, x, middle, hidden, alpha)
        torch.testing.assert_close(found[unit, 0, 0], expected.sum(), atol=1e-9, rtol=1e-7)


def test_epsilon_keeps_small_responses_from_large_shares():
    network = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Flatten()).double()
    network[0].weight.data[:] = torch.tensor([1.0, -1.0])[:, None, None]
    network[0].bias.data.fill_(0.5)
    x = torch.tensor([3.0, 2.5], dtype=torch.float64)[None, :, None, None]  # responds 1, half of it bias
    for epsilon, expected in ((0, 0.5), (1, 0.25)):
        (found,) = LRP(network, "0", rule="epsilon", epsilon=epsilon).unclipped(x, [torch.tensor([0])])
        torch.testing.assert_close(found.item(), expected)


def test_where_nothing_takes_a_share_relevance_is_lost():
    network = RandomNetwork(4, ("conv",))
    for rule in ("epsilon", "alpha_beta"):
        (maps,) = LRP(network, "ops.1", rule=rule)(torch.zeros(1, 2, 6, 5), units)
        assert not maps.any()


def test_a_map_is_the_positive_part_of_relevance_blurred():
    network = RandomNetwork(6, ("conv", "bottleneck"))
    attend = LRP(network, "ops.1", blur=0.1)
    (relevance,) = attend.unclipped(photo(3), units)
    assert (relevance < 0).any()
    assert (relevance > 0).any()
    torch.testing.assert_close(attend(photo(3), units)[0], blurred(relevance.clamp(min=0), 0.1))


def test_a_constant_and_a_factor_pass_relevance_on():
    class Shifted(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(2 * (x + 1) - 1)

    network = RandomNetwork(6, ("conv",))
    (shifted,) = LRP(Shifted(network), "network.ops.1").unclipped(photo(3), units)
    (plain,) = LRP(network, "ops.1").unclipped(2 * photo(3) + 1, units)
    torch.testing.assert_close(shifted, plain)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.gate, self.head = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.head(self.features(x) * self.gate(x).sigmoid())


@pytest.mark.parametrize(("network", "operation"), [(Gated(), "mul"), (nn.Sequential(nn.PReLU()), "PReLU")])
def test_operations_without_a_rule_are_refused_in_one_line(network, operation):
    with pytest.raises(ValueError, match=f"no rule for {operation} at '.*': relevance passes") as error:
        LRP(network, "head")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["epsilon", "alpha_beta"])
def test_heads_side_by_side_are_one_head(rule):
    """Negative responses of units, too, wherever the network puts them together."""

    class Heads(nn.Module):
        def __init__(self, network, *heads):
            super().__init__()
            self.network, self.heads = network, nn.ModuleList(heads)

        def forward(self, x):
            x = self.network(x)
            return torch.cat([head(x) for head in self.heads], 1)

    torch.manual_seed(5)
    network, one = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()).double(), nn.Conv2d(4, 3, 1).double()
    first, second = nn.Conv2d(4, 1, 1), nn.Conv2d(4, 2, 1)
    for head, rows in ((first, slice(0, 1)), (second, slice(1, 3))):
        head.weight, head.bias = nn.Parameter(one.weight[rows].clone()), nn.Parameter(one.bias[rows].clone() - 2)
    one.bias.data -= 2
    assert (one(network(photo(2))) < 0).any()
    (together,) = LRP(nn.Sequential(network, one), "0.1", rule=rule).unclipped(photo(2), units)
    (apart,) = LRP(Heads(network, first, second), "network.1", rule=rule).unclipped(photo(2), units)
    torch.testing.assert_close(apart, together)
