"""Properties that all attention methods share."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork, layer_of, networks, photo
from torch import nn

import grounding.attention
from grounding.attention import CAM, LRP, Centre, Deconv, ExcitationBackprop, Grad, ProposalOrder

METHODS = [Grad, Deconv, LRP, CAM, Centre, ProposalOrder, ExcitationBackprop]
LEARNED = [Grad, Deconv, LRP, CAM]  # those that use the network; ExcitationBackprop has tests of its own


def made(method, network, **options):
    if method is ExcitationBackprop:
        options["signed"] = "clamp"
    return method(network, layer_of(network), **options)


def test_every_method_is_exported():
    assert {method.__name__ for method in METHODS} <= set(grounding.attention.__all__)


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_are_constructed_alike(method):
    network, layer, *others = inspect.signature(method).parameters.values()
    assert (network.name, layer.name) == ("network", "layer")
    assert all(other.kind is other.KEYWORD_ONLY and other.default is not other.empty for other in others)
    assert "window" in {other.name for other in others}


@settings(max_examples=8)
@given(networks(signed=True), st.integers(0, 2**16))
@pytest.mark.parametrize("method", LEARNED)
def test_runs_on_every_kind_of_network_and_a_batch_equals_a_loop(method, network, seed):
    attend = made(method, network)
    x = photo(seed, 3)
    targets = [torch.tensor([0, 2]), torch.tensor([], dtype=torch.long), torch.tensor([1])]
    together = attend(x, targets)
    for image, target, maps in zip(x, targets, together, strict=True):
        assert maps.shape[0] == len(target)
        assert maps.dtype == torch.float64
        assert (maps >= 0).all()
        assert not maps.requires_grad
        for unit, found in zip(target, maps, strict=True):
            torch.testing.assert_close(found, attend(image[None], [unit[None]])[0][0])


@pytest.mark.parametrize("method", [*LEARNED, ExcitationBackprop])
def test_units_are_one_hot_priors(method):
    attend = made(method, RandomNetwork(3, ("conv", "residual")))
    (by_unit,) = attend(photo(1), [torch.tensor([2, 0])])
    (by_prior,) = attend(photo(1), [torch.eye(3, dtype=torch.float64)[[2, 0]]])
    torch.testing.assert_close(by_unit, by_prior)


@pytest.mark.parametrize("method", METHODS)
def test_leaves_the_network_as_it_was(method):
    network = RandomNetwork(3, ("conv", "concat", "norm")).train()
    network.ops[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    kinds = [type(module) for module in network.modules()]
    made(method, network)(photo(0), [torch.tensor([1])])
    assert all(module.training for module in network.modules())
    assert [type(module) for module in network.modules()] == kinds
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(method, guard):
    x = photo(4)
    (expected,) = made(method, RandomNetwork(3, ("conv",)))(x, [torch.tensor([1])])
    with guard():
        (found,) = made(method, RandomNetwork(3, ("conv",)))(x.clone(), [torch.tensor([1])])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", METHODS)
def test_leaves_the_images_as_they_were(method):
    x = photo(4).requires_grad_()
    before = x.detach().clone()
    made(method, RandomNetwork(3, ("conv",)))(x, [torch.tensor([1])])
    assert torch.equal(x, before)
    assert x.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_no_images_give_no_maps(method):
    assert made(method, RandomNetwork(1, ("conv",)))(photo(1)[:0], []) == []


@pytest.mark.parametrize("method", [*LEARNED, ExcitationBackprop])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([torch.tensor([3])], "units are 0 to 2"),
        ([torch.tensor([-1])], "units are 0 to 2"),
        ([torch.tensor([True])], "not truth values"),
        ([torch.ones(1, 2)], "got \\(1, 2\\)"),
        ([torch.tensor([[0.5, -0.5, 1.0]])], "negative"),
        ([torch.tensor([[0.5, float("nan"), 1.0]])], "NaN"),
    ],
)
def test_refuses_targets_that_make_no_sense(method, targets, message):
    with pytest.raises(ValueError, match=message):
        made(method, RandomNetwork(1, ("conv",)))(photo(1), targets)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("images", "count"), [(photo(1), 0), (photo(1)[0], 1), ([photo(1)], 1)])
def test_refuses_images_and_targets_that_do_not_fit(method, images, count):
    with pytest.raises(ValueError, match=f"a tensor \\(B, C, H, W\\) and B targets, got .* {count} targets"):
        made(method, RandomNetwork(1, ("conv",)))(images, [torch.tensor([0])] * count)


@pytest.mark.parametrize("method", [*LEARNED, ExcitationBackprop])
def test_nan_raises(method):
    with pytest.raises(ValueError, match="not a number"):
        made(method, RandomNetwork(1, ("conv",)))(photo(1) * torch.nan, [torch.tensor([0])])


@pytest.mark.parametrize("method", [Grad, Deconv, LRP, ExcitationBackprop])
def test_units_that_are_positions_are_refused(method):
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten())
    with pytest.raises(ValueError, match="units are places, not classes"):
        method(network, "1")(photo(1).float(), [torch.tensor([0])])


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (Grad, {"confidence": "high"}, "confidence must be"),
        (Grad, {"window": 0}, "at least 1, or null"),
        (Deconv, {"blur": -0.1}, "blur must be a share"),
        (LRP, {"blur": float("nan")}, "blur must be a share"),
        (LRP, {"rule": "gamma"}, "rule must be epsilon or alpha_beta"),
        (LRP, {"alpha": 0.5}, "alpha must be a number, at least 1"),
        (LRP, {"epsilon": -1}, "epsilon must be a number, at least 0"),
        (LRP, {"confidence": None}, "confidence must be"),
    ],
)
def test_refuses_settings_that_make_no_sense(method, options, message):
    with pytest.raises(ValueError, match=message):
        made(method, RandomNetwork(1, ("conv",)), **options)
