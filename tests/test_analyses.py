"""The paper's analyses (6.1.3): variants of Excitation Backprop and other methods, restated as matrices or loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork, layer_of, networks, path_of_winners, photo, priors, winning_probability
from torch import nn

from grounding.attention import CAM, Contrast, Deconv, DeterministicWTA, ExcitationBackprop, Grad

seeds = st.integers(0, 2**16)


def scaled(maps):
    total = maps.sum((1, 2), keepdim=True)
    return maps / total.where(total != 0, 1)


def from_maps(maker, **options):
    """A method as `Contrast` takes it."""
    return lambda network, layer, window, reverse=False: maker(
        network, layer, window=window, reverse=reverse, **options
    )


@settings(max_examples=12)
@given(networks(signed=True), seeds, st.booleans())
def test_ignored_skips_leave_a_sum_the_children_of_its_residual_branch(network, seed, contrastive):
    x, prior = photo(seed), priors(seed, 2)
    attend = ExcitationBackprop(network, layer_of(network), contrastive=contrastive, signed="skip_ignored")
    chain = winning_probability(network, x, prior, contrastive=contrastive, signed="skip_ignored")
    torch.testing.assert_close(attend.unclipped(x, [prior])[0], chain, atol=1e-9, rtol=1e-7)


@settings(max_examples=12)
@given(networks(signed=True), seeds, st.booleans())
def test_the_reverse_unit_changes_places_with_the_unit(network, seed, contrastive):
    x, prior = photo(seed), priors(seed, 2)
    options = {"contrastive": contrastive, "signed": "clamp"}
    attend = ExcitationBackprop(network, layer_of(network), reverse=True, **options)
    chain = winning_probability(network, x, prior, reverse=True, **options)
    torch.testing.assert_close(attend.unclipped(x, [prior])[0], chain, atol=1e-9, rtol=1e-7)


@settings(max_examples=12)
@given(networks(signed=True), seeds, st.booleans())
def test_without_normalisation_a_share_is_weight_times_activation(network, seed, contrastive):
    x, prior = photo(seed), priors(seed, 2)
    attend = ExcitationBackprop(network, layer_of(network), contrastive=contrastive, normalised=False, signed="clamp")
    chain = winning_probability(network, x, prior, contrastive=contrastive, normalised=False, signed="clamp")
    size = max(1.0, chain.abs().max().item())
    torch.testing.assert_close(attend.unclipped(x, [prior])[0], chain, atol=1e-9 * size, rtol=1e-7)
    torch.testing.assert_close(attend(x, [prior])[0], scaled(chain.clamp(min=0)), atol=1e-7, rtol=1e-5)


def test_without_normalisation_a_deep_network_does_not_overflow():
    """Products of activations grow to about 3 to the 140th, which float32 does not hold."""
    network = nn.Sequential(
        *[layer for _ in range(16) for layer in (nn.Conv2d(3, 3, 1), nn.ReLU())],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    for module in network:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.fill_(1)
    attend = ExcitationBackprop(network, "1", contrastive=False, normalised=False)
    (maps,) = attend(torch.rand(1, 3, 4, 4), [torch.arange(2)])
    assert maps.dtype == torch.float64
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    assert attend.attend_with_mass(torch.rand(1, 3, 4, 4), [torch.arange(2)])[0].reached is None


@settings(max_examples=12)
@given(networks(), seeds)
def test_post_norm_subtracts_two_maps_without_normalised_shares(network, seed):
    x, prior = photo(seed), priors(seed, 2)
    unit, reverse = (
        winning_probability(network, x, prior, contrastive=False, signed="raise", reverse=choice, normalised=False)
        for choice in (False, True)
    )
    method = from_maps(ExcitationBackprop, contrastive=False, normalised=False)
    (maps,) = Contrast(network, layer_of(network), method=method)(x, [prior])
    torch.testing.assert_close(maps, (scaled(unit) - scaled(reverse)).clamp(min=0), atol=1e-9, rtol=1e-7)


@settings(max_examples=12)
@given(seeds)
def test_with_normalised_shares_the_contrast_may_be_taken_at_the_top_or_at_the_layer(seed):
    """Where no probability is lost: the way down is linear, and both maps sum to 1."""
    network = RandomNetwork(seed, ("conv", "maximum", "concat"))
    for parameter in list(network.parameters())[:-2]:  # all but the classifier's
        parameter.data.abs_().add_(0.01)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    x, units = photo(seed), [torch.arange(3)]
    method = from_maps(ExcitationBackprop, contrastive=False)
    (below,) = Contrast(network, layer_of(network), method=method)(x, units)
    attend = ExcitationBackprop(network, layer_of(network))
    weight = network.ops[network.output].weight
    both = ((weight > 0).any(1) & (weight < 0).any(1)).nonzero()[:, 0]  # units that have a reverse unit
    torch.testing.assert_close(below[both], attend(x, units)[0][both], atol=1e-9, rtol=1e-7)


def with_negated_head(network):
    """The same network with the weights of its head, and its bias, negated."""
    for parameter in network.ops[network.output].parameters():
        parameter.data.neg_()
    return network


@settings(max_examples=12)
@given(networks(), seeds)
def test_the_contrast_of_gradients_is_zero_everywhere(network, seed):
    (maps,) = Contrast(network, layer_of(network), method=from_maps(Grad))(photo(seed), [torch.arange(3)])
    assert not maps.any()


@pytest.mark.parametrize("at", ["pixels", "layer", "last_map"])
@settings(max_examples=12)
@given(networks(), seeds)
def test_the_contrast_of_deconv_takes_two_passes(at, network, seed):
    x, units = photo(seed), [torch.arange(3)]
    (maps,) = Contrast(network, layer_of(network), method=from_maps(Deconv, at=at))(x, units)
    (unit,) = Deconv(network, layer_of(network), at=at)(x, units)
    (reverse,) = Deconv(with_negated_head(network), layer_of(network), at=at)(x, units)
    torch.testing.assert_close(maps, (scaled(unit) - scaled(reverse)).clamp(min=0))


@settings(max_examples=12)
@given(networks(), seeds)
def test_the_contrast_of_cam_keeps_the_order_of_its_values(network, seed):
    x, units = photo(seed), [torch.arange(3)]
    (maps,) = Contrast(network, layer_of(network), method=from_maps(CAM))(x, units)
    (cam,) = CAM(network, layer_of(network))(x, units)
    torch.testing.assert_close(maps, scaled(cam))


@settings(max_examples=12)
@given(networks(signed=True), seeds, st.sampled_from(["clamp", "compose", "skip_ignored"]), st.integers(1, 3))
def test_the_winners_path_takes_the_most_probable_child_at_every_step(network, seed, signed, words_per_pass):
    x = photo(seed, 2)
    attend = DeterministicWTA(network, layer_of(network), signed=signed, words_per_pass=words_per_pass)
    for index, maps in enumerate(attend(x, [torch.arange(3)] * 2)):
        for unit, found in enumerate(maps):
            torch.testing.assert_close(found, path_of_winners(network, x[[index]], unit, signed=signed))


def test_the_winners_path_starts_at_the_greatest_response_that_is_asked_for():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                            nn.Linear(1, 3, bias=False))  # fmt: skip
    network[0].weight.data.fill_(1)
    network[4].weight.data = torch.tensor([[1.0], [-1.0], [2.0]])
    attend = DeterministicWTA(network, "1", window=1)
    x = torch.tensor([[[[1.0, 4.0, 2.0]]]])
    targets = [torch.tensor([[0.9, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])]
    # Nothing excites unit 1, and the last word asks for no unit.
    expected = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(attend(x, targets)[0][:, 0], torch.tensor(expected))
    assert attend(torch.zeros(0, 1, 1, 3), []) == []


@settings(max_examples=12)
@given(networks(), seeds)
def test_at_the_last_map_attention_equals_the_definition_of_its_contrast(network, seed):
    """Eq. 11 to 13: the contrast of a unit's shares above a global average pooling, written out."""
    x = photo(seed)
    (found,) = ExcitationBackprop(network, layer_of(network), at="last_map").unclipped(x, [torch.arange(3)])
    pooled = network.output - 2
    values = [x]
    for index, entry in enumerate(network.entries[:pooled]):
        values.append(network.apply_entry(index, [values[i + 1] for i in entry.inputs] or [x]))
    last = network.entries[pooled].inputs[0]
    weight = network.ops[network.output].weight
    # Neurons below 0 are counted from their least value (Eq. 20); such maps are compared by the other tests.
    if network.entries[last].lowest == 0:
        cells = values[last + 1][0]
        sides = [torch.einsum("kc,chw->khw", (sign * weight).clamp(min=0), cells) for sign in (1, -1)]
        torch.testing.assert_close(found, scaled(sides[0]) - scaled(sides[1]), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("method", [Grad, Deconv])
@settings(max_examples=12)
@given(networks(), seeds)
def test_gradients_at_a_layer_equal_those_written_operation_by_operation(method, network, seed):
    """Deconv clips what arrives at an activation function, that of the layer included."""
    x = photo(seed)
    (found,) = method(network, layer_of(network), at="layer", blur=0)(x, [torch.arange(3)])
    values = []
    for index, entry in enumerate(network.entries):
        values.append(network.apply_entry(index, [values[i] for i in entry.inputs] or [x]).detach())
    for unit, attention in enumerate(found):
        signals = {network.output: torch.eye(3, dtype=x.dtype)[[unit]]}
        for index in range(network.output, network.layer, -1):
            signal, inputs = signals.get(index), [values[i].requires_grad_() for i in network.entries[index].inputs]
            if signal is None:
                continue
            parts = torch.autograd.grad(
                network.apply_entry(index, inputs), inputs, guided(method, network, index, signal)
            )
            for source, part in zip(network.entries[index].inputs, parts, strict=True):
                signals[source] = signals.get(source, 0) + part
        expected = guided(method, network, network.layer, signals[network.layer])[0].abs().amax(0)
        torch.testing.assert_close(attention, expected)


def guided(method, network, index, signal):
    """What of a signal passes an operation downwards."""
    is_clipped = method is Deconv and network.entries[index].role == "activation"
    return signal.clamp(min=0) if is_clipped else signal


def test_refuses_places_that_make_no_sense():
    network = RandomNetwork(1, ("conv",))
    with pytest.raises(ValueError, match="at must be layer or last_map, got 'pixels'"):
        ExcitationBackprop(network, layer_of(network), at="pixels")
    with pytest.raises(ValueError, match="at must be layer, last_map or pixels, got"):
        Grad(network, layer_of(network), at="top")
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        Deconv(network, "nowhere", at="layer")
    headless = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="at=last_map needs"):
        ExcitationBackprop(headless, "1", at="last_map")
