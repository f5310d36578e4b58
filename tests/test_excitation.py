import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork, layer_of, networks, photo, priors, winning_probability
from torch import nn

from grounding.attention import CAM, ExcitationBackprop

seeds = st.integers(0, 2**16)


@settings(max_examples=30)
@given(networks(), seeds, st.booleans())
def test_equals_the_absorbing_markov_chain(network, seed, contrastive):
    x, prior = photo(seed), priors(seed, 2)
    ours = ExcitationBackprop(network, layer_of(network), contrastive=contrastive).unclipped(x, [prior])[0]
    chain = winning_probability(network, x, prior, contrastive=contrastive, signed="raise")
    torch.testing.assert_close(ours, chain, atol=1e-9, rtol=1e-7)


@settings(max_examples=30)
@given(networks(signed=True), seeds, st.booleans(), st.sampled_from(["carry", "clamp", "compose"]))
def test_equals_the_chain_where_values_are_signed(network, seed, contrastive, signed):
    x, prior = photo(seed), priors(seed, 2)
    attend = ExcitationBackprop(network, layer_of(network), contrastive=contrastive, signed=signed)
    chain = winning_probability(network, x, prior, contrastive=contrastive, signed=signed)
    # With carried signs a normaliser may come close to zero, and the chain far from a probability.
    tolerance = max(1.0, chain.abs().max().item())
    torch.testing.assert_close(attend.unclipped(x, [prior])[0], chain, atol=1e-8 * tolerance, rtol=1e-6)


@settings(max_examples=25)
@given(networks(), seeds)
def test_conserves_probability_where_every_unit_has_an_excitatory_child(network, seed):
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.01)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    attend = ExcitationBackprop(network, layer_of(network), contrastive=False)
    mass = attend(photo(seed), [torch.arange(3)])[0].sum((1, 2))
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64))


@settings(max_examples=25)
@given(networks(signed=True), seeds, st.sampled_from(["clamp", "compose"]))
def test_never_makes_probability(network, seed, signed):
    attend = ExcitationBackprop(network, layer_of(network), contrastive=False, signed=signed)
    maps = attend.unclipped(photo(seed), [torch.arange(3)])[0]
    assert (maps >= 0).all()
    assert (maps.sum((1, 2)) <= 1 + 1e-9).all()


@settings(max_examples=25)
@given(networks(signed=True), seeds, st.sampled_from(["clamp", "compose"]))
def test_contrast_takes_away_and_never_adds(network, seed, signed):
    """0 ≤ c-MWP ≤ MWP at every cell: what is subtracted is itself a probability, unless shares carry signs."""
    x, targets = photo(seed), [priors(seed, 2)]
    contrastive, plain = (
        ExcitationBackprop(network, layer_of(network), contrastive=choice, signed=signed)(x, targets)[0]
        for choice in (True, False)
    )
    assert (contrastive >= 0).all()
    assert (contrastive <= plain + 1e-12).all()


def rectified(generator, *, with_bias):
    """A network with hidden layers at indices 2 and 5."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double()  # fmt: skip
    for name, parameter in network.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name.endswith("bias") and not with_bias:
            parameter.data.zero_()
    return network


@settings(max_examples=12)
@given(seeds, st.booleans())
def test_the_scale_of_each_hidden_neuron_does_not_matter(seed, contrastive):
    """Weights and bias of each hidden channel times a factor, which the next layer takes back."""
    generator = torch.Generator().manual_seed(seed)
    network = rectified(generator, with_bias=True)
    attend = lambda: ExcitationBackprop(network, "1", contrastive=contrastive)(photo(seed), [torch.arange(3)])[0]  # noqa: E731
    before = attend()
    for hidden, above in ((2, 5), (5, 9)):
        count = len(network[hidden].weight)
        factors = torch.rand(count, generator=generator, dtype=torch.float64) * 1e3 + 1e-3
        network[hidden].weight.data *= factors[:, None, None, None]
        network[hidden].bias.data *= factors
        network[above].weight.data /= factors.view(1, count, *[1] * (network[above].weight.ndim - 2))
    torch.testing.assert_close(attend(), before, atol=1e-12, rtol=1e-7)


@settings(max_examples=12)
@given(seeds, st.floats(1e-6, 1e6))
def test_the_scale_of_a_whole_layer_does_not_matter_where_no_bias_takes_part(seed, factor):
    network = rectified(torch.Generator().manual_seed(seed), with_bias=False)
    attend = lambda: ExcitationBackprop(network, "1")(photo(seed), [torch.arange(3)])[0]  # noqa: E731
    before = attend()
    network[2].weight.data *= factor
    torch.testing.assert_close(attend(), before, atol=1e-12, rtol=1e-7)


@settings(max_examples=20)
@given(networks(), seeds, st.booleans())
def test_is_linear_in_the_prior(network, seed, contrastive):
    attend = ExcitationBackprop(network, layer_of(network), contrastive=contrastive)
    x, (first, second) = photo(seed), priors(seed, 2)
    mixed = torch.stack([first, second, 0.3 * first + 2 * second])
    a, b, c = attend.unclipped(x, [mixed])[0]
    torch.testing.assert_close(c, 0.3 * a + 2 * b)


@settings(max_examples=20)
@given(networks(), seeds, st.integers(1, 5))
def test_a_batch_equals_a_loop(network, seed, words_per_pass):
    attend = ExcitationBackprop(network, layer_of(network), words_per_pass=words_per_pass)
    x = photo(seed, 3)
    targets = [torch.tensor([0, 2]), torch.tensor([], dtype=torch.long), torch.tensor([2, 1, 0, 0])]
    together = attend(x, targets)
    for image, target, maps in zip(x, targets, together, strict=True):
        one_by_one = [attend(image[None], [unit[None]])[0][0] for unit in target]
        assert maps.shape == (len(target), 6, 5)
        for expected, found in zip(one_by_one, maps, strict=True):
            torch.testing.assert_close(found, expected)


def test_maps_do_not_depend_on_the_memory_of_a_pass(monkeypatch):
    attend = ExcitationBackprop(Bottlenecks(1), "stem.1", signed="clamp")
    x, targets = photo(1), [torch.arange(3)]
    expected = attend(x, targets)
    monkeypatch.setattr("grounding.attention.excitation.LARGEST_BLOCK", 1)  # a pass for each word
    torch.testing.assert_close(attend(x, targets), expected)


class Bottlenecks(nn.Module):
    """An inverted bottleneck with a skip below a classifier, as in EfficientNet-Lite; its stages may be dilated."""

    def __init__(self, dilation):
        super().__init__()
        torch.manual_seed(3)
        same = {"padding": dilation, "dilation": dilation}
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, **same), nn.ReLU6(), nn.Conv2d(6, 3, 1))
        self.deep = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, **same, groups=8), nn.ReLU6())
        self.project = nn.Conv2d(8, 3, 1)
        self.last = nn.Sequential(nn.Conv2d(3, 8, 3, **same), nn.ReLU6())
        self.fc = nn.Linear(8, 3)
        self.double().eval()

    def forward(self, x):
        x = self.stem(x)
        return self.fc(self.last(x + self.project(self.deep(x))).mean((2, 3)))


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("signed", ["clamp", "compose"])
def test_a_dilated_network_sees_four_photos_side_by_side_as_the_plain_one_sees_each(window, signed):
    """Cells of even and odd rows and columns never meet where every kernel is dilated by 2."""
    plain, dilated = Bottlenecks(1), Bottlenecks(2)
    x, targets = photo(1), [torch.arange(3)]
    woven = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(dilated(woven), plain(x))
    for options in ({"contrastive": True}, {"contrastive": False}):
        maps = [
            ExcitationBackprop(network, "stem.1", signed=signed, window=window, **options).unclipped(images, targets)[0]
            for network, images in ((plain, x), (dilated, woven))
        ]
        torch.testing.assert_close(maps[1], maps[0].repeat_interleave(2, 1).repeat_interleave(2, 2) / 4)
    cams = [CAM(plain, "last.1")(x, targets)[0], CAM(dilated, "last.1")(woven, targets)[0]]
    torch.testing.assert_close(cams[1], cams[0].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_window_as_large_as_the_map_is_global_pooling():
    network = RandomNetwork(5, ("conv", "maximum"))
    x, target = photo(1), [torch.tensor([0, 1, 2])]
    whole = ExcitationBackprop(network, layer_of(network))(x, target)[0]
    window = ExcitationBackprop(network, layer_of(network), window=6)(x, target)[0]
    torch.testing.assert_close(window, whole)


@pytest.mark.parametrize("confidence", ["softmax", "sigmoid"])
def test_the_sliding_classifier_weighs_positions_by_confidence(confidence):
    """Equal to one descent for each position, by hand: the window of a crop, weighted."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    torch.manual_seed(0)
    x = torch.rand(1, 2, 4, 6, dtype=torch.float64)
    sliding = ExcitationBackprop(network, "1", contrastive=False, window=3, confidence=confidence)(
        x, [torch.tensor([1])]
    )[0]
    whole = ExcitationBackprop(network, "1", contrastive=False)
    logits = torch.stack([network(x[..., i : i + 3, j : j + 3])[0, 1] for i in range(2) for j in range(4)])
    weights = logits.softmax(0) if confidence == "softmax" else logits.sigmoid() / logits.sigmoid().sum()
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for weight, (i, j) in zip(weights, [(i, j) for i in range(2) for j in range(4)], strict=True):
        expected[i : i + 3, j : j + 3] += weight * whole(x[..., i : i + 3, j : j + 3], [torch.tensor([1])])[0][0]
    torch.testing.assert_close(sliding[0], expected.detach())


def test_a_fully_connected_classifier_slides_too():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).double()
    x = photo(2)[..., :2, :2]
    whole = ExcitationBackprop(network, "1")(x, [torch.arange(3)])[0]
    sliding = ExcitationBackprop(network, "1", window=7)(x, [torch.arange(3)])[0]
    torch.testing.assert_close(sliding, whole)
    assert ExcitationBackprop(network, "1", window=7)(photo(2), [torch.arange(3)])[0].shape == (3, 6, 5)


def test_renormalised_maps_sum_to_one():
    network = RandomNetwork(11, ("average",))
    maps = ExcitationBackprop(network, layer_of(network), contrastive=False, renormalise=True)(
        photo(1), [torch.arange(3)]
    )[0]
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_a_unit_that_only_bias_keeps_alive_loses_its_mass():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 1),
    )
    for index, weight, bias in ((0, [[1.0], [1.0]], 0.0), (2, [[1.0, 1.0], [-1.0, -1.0]], 5.0)):
        network[index].weight.data = torch.tensor(weight)[:, :, None, None]
        network[index].bias.data.fill_(bias)
    network[6].weight.data.fill_(1.0)
    x = torch.ones(1, 1, 2, 2)  # neurons: 7 from excitation and bias, 3 from bias alone
    mass = ExcitationBackprop(network, "1", contrastive=False)(x, [torch.tensor([0])])[0].sum()
    torch.testing.assert_close(mass, torch.tensor(0.7))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"signed": "maybe"}, "signed must be one of"),
        ({"confidence": "high"}, "confidence must be"),
        ({"words_per_pass": 0}, "at least 1"),
        ({"window": 0}, "at least 1, or null"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings_, message):
    with pytest.raises(ValueError, match=message):
        ExcitationBackprop(RandomNetwork(1, ("conv",)), "ops.1", **settings_)
