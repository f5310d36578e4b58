import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from grounding.attention import ExcitationBackprop, Mixture


@pytest.fixture
def network():
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def mwp(network, layer, *, window):
    return ExcitationBackprop(network, layer, contrastive=False, window=window)


IMAGES = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
TARGETS = [torch.tensor([0, 3]), torch.tensor([2])]


def test_a_single_part_is_that_method_scaled_to_sum_1(network):
    alone = mwp(network, "1", window=3)(IMAGES, TARGETS)
    mixed = Mixture(network, "1", window=3, parts={"one": mwp}, scales={"one": 1.0})(IMAGES, TARGETS)
    for before, after in zip(alone, mixed, strict=True):
        torch.testing.assert_close(after, before / before.sum((1, 2), keepdim=True))


def test_parts_are_averaged_at_the_resolution_of_the_finest(network):
    mixture = Mixture(network, "1", window=3, parts={"a": mwp, "b": mwp}, scales={"a": 1.0, "b": 2.0})
    mixed = mixture(IMAGES, TARGETS)
    attend = mwp(network, "1", window=3)
    fine = attend(interpolate(IMAGES, (64, 80), mode="bilinear", antialias=True), TARGETS)
    coarse = attend(IMAGES, TARGETS)
    for found, fine_map, coarse_map in zip(mixed, fine, coarse, strict=True):
        assert found.shape == fine_map.shape
        resized = interpolate(coarse_map[:, None], fine_map.shape[1:], mode="bicubic")[:, 0].clamp(min=0)
        expected = sum(part / part.sum((1, 2), keepdim=True) for part in (fine_map, resized)) / 2
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.sum((1, 2)), torch.ones(len(found)))


def test_an_empty_map_stays_empty_and_no_word_gives_no_map(network):
    nn.init.constant_(network[6].weight, -1.0)  # nothing excites a unit
    mixture = Mixture(network, "1", parts={"a": mwp, "b": mwp}, scales={"a": 1.0, "b": 0.5})
    maps = mixture(IMAGES, [torch.tensor([0]), torch.zeros(0, dtype=torch.long)])
    assert maps[0].tolist() == torch.zeros(1, 16, 20).tolist()
    assert maps[1].shape == (0, 16, 20)


@pytest.mark.parametrize(
    ("parts", "scales", "message"),
    [
        ({}, {}, "differ"),
        ({"a": mwp}, {"b": 1.0}, "differ"),
        ({"a": mwp}, {"a": 0.0}, r"scales\.a must be above 0"),
        ({"a": mwp}, {"a": float("nan")}, r"scales\.a must be above 0"),
    ],
)
def test_parts_that_do_not_fit_raise(network, parts, scales, message):
    with pytest.raises(ValueError, match=message):
        Mixture(network, "1", parts=parts, scales=scales)


def test_calls_that_make_no_sense_raise(network):
    mixture = Mixture(network, "1", parts={"a": mwp}, scales={"a": 1.0})
    with pytest.raises(ValueError, match="targets"):
        mixture(IMAGES, TARGETS[:1])
