import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from grounding.attention import CAM, ExcitationBackprop


class Headed(nn.Module):
    """Features, a global average, a classifier."""

    def __init__(self, *head, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU())
        self.head = nn.Sequential(*head)
        self.double().eval()

    def forward(self, x):
        return self.head(self.features(x))


def plain_head():
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 3)


def photo(seed, count=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 9, 11, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("window", [None, 2])
@settings(max_examples=8)
@given(seed=st.integers(0, 999))
def test_equals_the_paper_s_sum_over_channels(seed, window):
    network, x = Headed(*plain_head(), seed=seed), photo(seed)
    cells, weight = network.features(x)[0].tolist(), network.head[3].weight.tolist()
    (maps,) = CAM(network, "features.3", window=window)(x, [torch.tensor([2, 0])])
    assert maps.shape == (2, 4, 5)
    for found, unit in zip(maps, (2, 0), strict=True):
        for row in range(4):
            for column in range(5):
                total = sum(weight[unit][i] * cells[i][row][column] for i in range(5))
                assert found[row, column].item() == pytest.approx(max(total, 0))


def test_the_mean_of_unclipped_cells_and_the_bias_are_the_response():
    network, x = Headed(*plain_head()), photo(1)
    network.head[3].weight.data.abs_()
    (maps,) = CAM(network, "features.3")(x, [torch.arange(3)])
    torch.testing.assert_close(maps.mean((1, 2)) + network.head[3].bias, network(x)[0])


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_contrastive_attention_at_the_last_map_is_cam_up_to_scale_where_both_sides_weigh_the_same(seed):
    """Section 4.1: with Z⁺ = Z⁻, which scaling a unit's negative weights brings about."""
    network, x = Headed(*plain_head(), seed=seed), photo(seed)
    weight = network.head[3].weight.data
    mean = network.features(x).mean((2, 3))[0].detach()
    weight *= mean.gt(0)
    excited, inhibited = (weight.clamp(min=0) @ mean), (weight.neg().clamp(min=0) @ mean)
    weight[:] = torch.where(weight < 0, weight * (excited / inhibited)[:, None], weight)
    units = [torch.arange(3)[excited.gt(1e-3) & inhibited.gt(1e-3)]]
    (cam,) = CAM(network, "features.3")(x, units)
    (contrastive,) = ExcitationBackprop(network, "features.3")(x, units)
    cells = cam.shape[1] * cam.shape[2]
    torch.testing.assert_close(contrastive * cells * excited[units[0], None, None], cam, atol=1e-9, rtol=1e-6)


def spatial_mean():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    return Mean()


def batch_norm():
    norm = nn.BatchNorm1d(5)
    norm.running_var.fill_(4)
    norm.weight.data = torch.arange(5.0)
    return norm


@pytest.mark.parametrize(
    "head",
    [
        (spatial_mean(), nn.Linear(5, 3)),
        (nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 3, 1), nn.Flatten()),
        (nn.Conv2d(5, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3), nn.Softmax(1)),
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), batch_norm(), nn.Linear(5, 3)),
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4), nn.Linear(4, 3)),
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3), nn.BatchNorm1d(3)),
    ],
)
def test_all_linear_heads_are_one_classifier(head):
    """At every cell the head of a map of that cell alone, less the head of zeros, which is bias."""
    network, x = Headed(*head), photo(2)
    linear = network.head[:-1] if isinstance(network.head[-1], nn.Softmax) else network.head
    cells = network.features(x)[0].permute(1, 2, 0).reshape(-1, 5, 1, 1)
    with torch.no_grad():
        expected = (linear(cells) - linear(torch.zeros_like(cells))).T.reshape(3, 4, 5).clamp(min=0)
    torch.testing.assert_close(CAM(network, "features.3")(x, [torch.arange(3)])[0], expected)


@pytest.mark.parametrize(
    "head",
    [
        (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3)),  # a fixed field, as in AlexNet
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4), nn.Hardswish(), nn.Linear(4, 3)),  # MobileNetV3
        (nn.Conv2d(5, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # SqueezeNet
        (nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
        (nn.Flatten(), nn.Linear(100, 3)),
        (nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(6, 3, 1), nn.Flatten()),
    ],
)
def test_other_heads_are_refused_and_another_method_is_named(head):
    with pytest.raises(ValueError, match=r"global average pooling, but .*: choose attention=cmwp") as error:
        CAM(Headed(*head), "features.3")
    assert "\n" not in str(error.value)


def test_a_pooling_of_several_windows_below_a_vector_is_refused():
    network = Headed(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 3))
    with pytest.raises(ValueError, match="20 inputs for 5 channels: choose attention=cmwp"):
        CAM(network, "features.3")(photo(0), [torch.tensor([0])])
