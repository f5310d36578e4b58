"""Laws of pooling responses over places, and the agreement of the pooled response with the top-down signal."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grounding.attention.signals import spread
from grounding.attention.trace import trace_network
from grounding.pooling import attend, average, log_mean_exp, pool_responses

seeds = st.integers(0, 2**16)
sharpnesses = st.floats(1e-3, 1e3)
sides = st.integers(1, 5)
ROUNDING = 1e-9  # r⁻¹ multiplies the rounding of a logarithm by up to 1,000


def drawn(seed, height, width, scale=5.0):
    """Responses (2, 3, height, width) in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


def maximum(responses):
    return responses.amax((2, 3))


@given(seeds, sides, sides, sharpnesses)
def test_the_mean_the_smooth_maximum_attention_and_the_maximum_are_in_this_order(seed, height, width, sharpness):
    responses = drawn(seed, height, width)
    rising = [average(responses), log_mean_exp(responses, sharpness), attend(responses, sharpness), maximum(responses)]
    for lower, higher in pairwise(rising):
        assert (lower <= higher + ROUNDING).all()


@given(seeds, sides, sides, sharpnesses)
def test_all_poolings_of_a_constant_map_are_its_value(seed, height, width, sharpness):
    value = drawn(seed, 1, 1)
    responses = value.expand(2, 3, height, width)
    for pooled in (average(responses), log_mean_exp(responses, sharpness), attend(responses, sharpness)):
        torch.testing.assert_close(pooled, value[..., 0, 0], atol=ROUNDING, rtol=0)


@given(seeds, sides, sides, sharpnesses)
def test_the_distance_to_both_limits_is_bounded(seed, height, width, sharpness):
    """By Hoeffding's lemma, r (max − min)² / 8 above the mean; and log(places) / r below the maximum."""
    responses = drawn(seed, height, width)
    smooth = log_mean_exp(responses, sharpness)
    spans = maximum(responses) - responses.amin((2, 3))
    assert (smooth - average(responses) <= sharpness * spans**2 / 8 + ROUNDING).all()
    assert (maximum(responses) - smooth <= math.log(height * width) / sharpness + ROUNDING).all()
    # The derivative of attention with respect to r is a variance under the softmax, at most (max − min)² / 4.
    assert (attend(responses, sharpness) - average(responses) <= sharpness * spans**2 / 4 + ROUNDING).all()


@given(seeds, sides, sides, sharpnesses, st.floats(1.0, 10.0))
def test_both_rise_with_the_sharpness(seed, height, width, sharpness, factor):
    responses = drawn(seed, height, width)
    for pool in (log_mean_exp, attend):
        assert (pool(responses, sharpness) <= pool(responses, factor * sharpness) + ROUNDING).all()


@given(seeds, sides, sides, sharpnesses)
def test_the_gradient_of_the_smooth_maximum_is_the_softmax_over_places(seed, height, width, sharpness):
    responses = drawn(seed, height, width).requires_grad_()
    (gradient,) = torch.autograd.grad(log_mean_exp(responses, sharpness).sum(), responses)
    expected = (sharpness * responses.detach().flatten(2)).softmax(2).view_as(responses)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-9)


@given(seeds, sides, sides, sharpnesses)
def test_attention_is_the_mean_weighted_by_the_gradient_of_the_smooth_maximum(seed, height, width, sharpness):
    responses = drawn(seed, height, width).requires_grad_()
    (weights,) = torch.autograd.grad(log_mean_exp(responses, sharpness).sum(), responses)
    torch.testing.assert_close(attend(responses, sharpness), (weights * responses).sum((2, 3)), atol=1e-9, rtol=1e-9)


@given(seeds, sharpnesses)
def test_the_order_of_places_does_not_matter(seed, sharpness):
    responses = drawn(seed, 3, 4)
    shuffled = responses.flatten(2)[..., torch.randperm(12)].view(2, 3, 2, 6)
    for pool in (log_mean_exp, attend):
        torch.testing.assert_close(pool(shuffled, sharpness), pool(responses, sharpness), atol=ROUNDING, rtol=1e-9)


@pytest.mark.parametrize("sharpness", [1e-3, 1.0, 1e3])
def test_extreme_responses_stay_finite_in_single_precision(sharpness):
    responses = torch.tensor([[[[-1e4, 1e4], [0.0, 1e4]]]], requires_grad=True)
    for pool in (log_mean_exp, attend):
        pooled = pool(responses, sharpness)
        (gradient,) = torch.autograd.grad(pooled.sum(), responses)
        assert pooled.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "pool"), [("lse", lambda z: log_mean_exp(z, 2.0)), ("attention", lambda z: attend(z, 2.0))]
)
def test_units_that_are_not_learned_are_averaged(kind, pool):
    responses = drawn(0, 3, 2)
    mixed = pool_responses(responses, kind, 2.0, 2)
    assert torch.equal(mixed, torch.cat([pool(responses[:, :2]), average(responses[:, 2:])], 1))
    assert torch.equal(pool_responses(responses, kind, 2.0, 3), pool(responses))
    assert torch.equal(pool_responses(responses, "average", 2.0, 2), average(responses))


def test_half_precision_is_pooled_in_single_precision():
    responses = drawn(0, 4, 4).bfloat16()
    assert torch.equal(pool_responses(responses, "lse", 1.0, 3), log_mean_exp(responses.float(), 1.0))


@given(seeds)
def test_the_top_down_signal_is_the_gradient_of_the_pooled_response(seed):
    """With a window of one cell and ``confidence=softmax``, at sharpness 1: attention is that of the trained unit."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    network.double().eval()
    photo = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    at_places = trace_network(network, window=1).module(photo).detach().requires_grad_()
    torch.testing.assert_close(average(at_places), network(photo))
    pooled = log_mean_exp(at_places, sharpness=1.0)
    signal = spread(torch.eye(3, dtype=torch.float64), at_places[0].detach(), "softmax")
    for unit in range(3):
        (gradient,) = torch.autograd.grad(pooled[0, unit], at_places, retain_graph=True)
        torch.testing.assert_close(signal[unit], gradient[0])
