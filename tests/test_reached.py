"""The share of winning probability that reaches the layer where attention stops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork, layer_of, networks, photo, priors
from torch import nn

from grounding.attention import (
    CAM,
    LRP,
    Attended,
    Centre,
    Deconv,
    ExcitationBackprop,
    Grad,
    MassTracking,
    Mixture,
    ProposalOrder,
)

seeds = st.integers(0, 2**16)


def reached(network, x, targets, **options):
    attended = ExcitationBackprop(network, layer_of(network), **options).attend_with_mass(x, targets)
    return [photo_attended.reached for photo_attended in attended]


@settings(max_examples=20)
@given(networks(), seeds, st.booleans())
def test_is_the_sum_of_the_marginal_winning_probability(network, seed, contrastive):
    x, targets = photo(seed, 2), [priors(seed, 2), torch.tensor([1])]
    maps = ExcitationBackprop(network, layer_of(network), contrastive=False).unclipped(x, targets)
    for attention, mass in zip(maps, reached(network, x, targets, contrastive=contrastive), strict=True):
        torch.testing.assert_close(mass, attention.sum((1, 2)), atol=1e-12, rtol=1e-9)


@settings(max_examples=20)
@given(networks(signed=True), seeds, st.sampled_from(["carry", "clamp", "compose"]))
def test_is_that_sum_where_values_are_signed(network, seed, signed):
    x, targets = photo(seed), [priors(seed, 2)]
    attend = ExcitationBackprop(network, layer_of(network), contrastive=False, signed=signed)
    (attention,) = attend.unclipped(x, targets)
    (mass,) = reached(network, x, targets, signed=signed)
    # With carried signs a normaliser may come close to zero, and shares far from probabilities.
    torch.testing.assert_close(
        mass, attention.sum((1, 2)), atol=1e-9 * max(1.0, attention.abs().max().item()), rtol=1e-7
    )


@settings(max_examples=12)
@given(networks(signed=True), seeds, st.sampled_from(["clamp", "compose"]))
def test_is_a_share(network, seed, signed):
    (mass,) = reached(network, photo(seed), [torch.arange(3)], signed=signed)
    assert ((mass >= 0) & (mass <= 1 + 1e-9)).all()


@settings(max_examples=12)
@given(networks(), seeds)
def test_is_linear_in_the_prior(network, seed):
    first, second = priors(seed, 2)
    (mass,) = reached(network, photo(seed), [torch.stack([first, second, 0.3 * first + 2 * second])])
    torch.testing.assert_close(mass[2], 0.3 * mass[0] + 2 * mass[1])


def test_is_one_where_every_neuron_has_an_excitatory_child():
    network = RandomNetwork(5, ("conv", "concat", "maximum", "sum", "norm"))
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.01)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    (mass,) = reached(network, photo(0), [torch.arange(3)])
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("contrastive", [False, True])
def test_maps_are_those_of_a_call_and_mass_is_counted_before_they_are_renormalised(contrastive, renormalise):
    network, x = RandomNetwork(6, ("conv", "fork")), photo(1, 2)
    targets = [torch.tensor([2, 0]), torch.tensor([], dtype=torch.long)]
    options = {"contrastive": contrastive, "renormalise": renormalise}
    attend = ExcitationBackprop(network, layer_of(network), **options)
    attended = attend.attend_with_mass(x, targets)
    for found, expected in zip(attended, attend(x, targets), strict=True):
        assert torch.equal(found.maps, expected)
    plain = reached(network, x, targets)
    assert torch.equal(attended[0].reached, plain[0])
    assert 0.01 < plain[0].min() < plain[0].max() < 0.99
    assert attended[1].reached.shape == (0,)


def test_no_images_give_nothing_and_nan_raises():
    network = RandomNetwork(1, ("conv",))
    attend = ExcitationBackprop(network, layer_of(network))
    assert attend.attend_with_mass(photo(1)[:0], []) == []
    with pytest.raises(ValueError, match="not a number"):
        attend.attend_with_mass(photo(1) * torch.nan, [torch.tensor([0])])


def mwp(network, layer, *, window):
    return ExcitationBackprop(network, layer, contrastive=False, window=window)


def test_a_mixture_tells_the_mean_of_the_parts_that_know_it():
    network, targets = RandomNetwork(6, ("conv", "fork")), [torch.tensor([2, 0])]
    layer = layer_of(network)
    (small,) = mwp(network, layer, window=None).attend_with_mass(photo(1), targets)
    enlarged = torch.nn.functional.interpolate(photo(1), (12, 10), mode="bilinear", antialias=True)
    (large,) = mwp(network, layer, window=None).attend_with_mass(enlarged, targets)
    parts = {"whole": mwp, "fine": ExcitationBackprop, "edges": Grad}
    mixture = Mixture(network, layer, parts=parts, scales={"whole": 1.0, "fine": 2.0, "edges": 1.0})
    (mixed,) = mixture.attend_with_mass(photo(1), targets)
    assert torch.equal(mixed.maps, mixture(photo(1), targets)[0])
    torch.testing.assert_close(mixed.reached, (small.reached + large.reached) / 2)
    (none,) = Mixture(network, layer, parts={"edges": Grad}, scales={"edges": 1.0}).attend_with_mass(photo(1), targets)
    assert none.reached is None


def test_only_methods_of_winning_probability_track_it():
    network = RandomNetwork(7, ("conv",))
    layer = layer_of(network)
    assert isinstance(ExcitationBackprop(network, layer), MassTracking)
    assert isinstance(Mixture(network, layer, parts={"whole": mwp}, scales={"whole": 1.0}), MassTracking)
    for method in (CAM, LRP, Grad, Deconv, Centre, ProposalOrder):
        assert not isinstance(method(network, layer), MassTracking)


@pytest.mark.parametrize("reached_mass", [torch.zeros(3), torch.zeros(2, 1)])
def test_a_record_whose_parts_do_not_fit_is_refused(reached_mass):
    with pytest.raises(ValueError, match=r"expected maps \(K, h, w\) and reached \(K,\)"):
        Attended(torch.zeros(2, 4, 5), reached_mass)
