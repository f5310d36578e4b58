import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork
from torch import nn
from torch.nn.functional import avg_pool2d

from grounding.attention import Deconv, Grad
from grounding.attention.gradients import blurred


def photo(seed, *size):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny(*activations):
    """A convolutional network of three units that sees cells of a stride of 1 through a window of 2 × 2."""
    torch.manual_seed(1)
    first, second = activations
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), first, nn.Conv2d(4, 5, 2, stride=2), second, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(5, 3),
    ).double()  # fmt: skip


def at_every_window(network, x, side):
    """The responses (B, units, windows) of the network to every window of its last map."""
    return network[6](avg_pool2d(network[:4](x), side, stride=1).flatten(2).transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("confidence", ["softmax", "sigmoid"])
def test_grad_equals_finite_differences(confidence):
    network, x, step = tiny(nn.Tanh(), nn.Softplus()), photo(0, 1, 3, 6, 8), 1e-6
    (maps,) = Grad(network, "1", window=2, confidence=confidence, blur=0)(x, [torch.tensor([2, 0])])
    changes = step * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    with torch.no_grad():
        slopes = (at_every_window(network, x + changes, 2) - at_every_window(network, x - changes, 2)) / (2 * step)
        for unit, found in zip([2, 0], maps, strict=True):
            logits = at_every_window(network, x, 2)[0, unit]
            signal = logits.softmax(0) if confidence == "softmax" else logits.sigmoid() / logits.sigmoid().sum()
            expected = (slopes[:, unit] @ signal).view(3, 6, 8).abs().amax(0)
            torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Sigmoid()])
def test_deconv_equals_guided_backpropagation_written_layer_by_layer(activation):
    network, x = tiny(activation, nn.ReLU()), photo(3, 1, 3, 6, 8)
    values = [x]
    for module in network:
        values.append(module(values[-1]).detach().requires_grad_())
    (maps,) = Deconv(network, "1", blur=0)(x, [torch.arange(3)])
    for unit, found in enumerate(maps):
        signal = torch.eye(3, dtype=x.dtype)[[unit]]
        for module, value in reversed(list(zip(network, values, strict=False))):
            if module in (network[1], network[3]):
                signal = signal.clamp(min=0)
            value = value.detach().requires_grad_()
            (signal,) = torch.autograd.grad(module(value), value, signal)
        torch.testing.assert_close(found, signal[0].abs().amax(0))


def test_deconv_follows_nothing_that_weakens_the_unit():
    """Two paths of weight 1 and -1 from the only pixel: their gradients cancel, guided the first is left."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)
    )  # fmt: skip
    for module, weight in ((network[0], [[1.0], [1.0]]), (network[4], [[1.0, -1.0]])):
        module.weight.data = torch.tensor(weight).view(module.weight.shape)
        module.bias.data.zero_()
    x, target = torch.ones(1, 1, 1, 1), [torch.tensor([0])]
    assert Grad(network, "1", blur=0)(x, target)[0].item() == 0
    assert Deconv(network, "1", blur=0)(x, target)[0].item() == 1


def test_a_final_softmax_is_ignored():
    network, x = RandomNetwork(2, ("conv",)), photo(0, 1, 2, 6, 5)
    (bare,) = Grad(network, "ops.1")(x, [torch.arange(3)])
    for final in (nn.Softmax(1), nn.Sigmoid()):
        torch.testing.assert_close(Grad(nn.Sequential(network, final), "0.ops.1")(x, [torch.arange(3)])[0], bare)


def test_gradients_pass_detached_values():
    class Detached(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            x = self.network[0](x).detach()
            for module in list(self.network)[1:]:
                x = module(x)
            return x

    network, x = tiny(nn.ReLU(), nn.ReLU()), photo(3, 1, 3, 6, 8)
    (plain,) = Grad(network, "1")(x, [torch.arange(3)])
    (found,) = Grad(Detached(network), "network.1")(x, [torch.arange(3)])
    torch.testing.assert_close(found, plain)
    assert found.any()


sides = st.integers(1, 40)


@settings(max_examples=25)
@given(sides, sides, st.floats(0, 1), st.integers(0, 99))
def test_blur_keeps_the_mass_and_the_sign(height, width, share, seed):
    maps = photo(seed, 2, height, width)
    found = blurred(maps, share)
    assert found.shape == maps.shape
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum((1, 2)), maps.sum((1, 2)))


def test_blur_spreads_a_point_as_a_gaussian_of_two_hundredths_of_the_longer_side():
    maps = torch.zeros(1, 101, 150, dtype=torch.float64)
    maps[0, 50, 75] = 1
    rows, columns = torch.arange(101)[:, None] - 50, torch.arange(150) - 75
    expected = torch.exp(-(rows**2 + columns**2) / (2 * 3.0**2)) / (2 * math.pi * 3.0**2)
    torch.testing.assert_close(blurred(maps, 0.02)[0], expected.double(), atol=1e-4, rtol=0)


def test_blur_leaves_constants_and_no_blur_leaves_every_map():
    maps = photo(1, 3, 7, 9)
    torch.testing.assert_close(blurred(torch.ones_like(maps), 0.3), torch.ones_like(maps))
    assert torch.equal(blurred(maps, 0), maps)
    assert blurred(maps[:0], 0.02).shape == (0, 7, 9)


@pytest.mark.parametrize("method", [Grad, Deconv])
def test_blurring_a_sharp_map_gives_the_default_map(method):
    network, x = RandomNetwork(8, ("conv", "residual")), photo(0, 1, 2, 6, 5)
    (sharp,) = method(network, "ops.1", blur=0)(x, [torch.arange(3)])
    (smooth,) = method(network, "ops.1", blur=0.2)(x, [torch.arange(3)])
    torch.testing.assert_close(smooth, blurred(sharp, 0.2))
    assert smooth.shape == (3, 6, 5)
