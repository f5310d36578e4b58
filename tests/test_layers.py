"""The choice of the layer where attention stops."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from grounding.attention import ExcitationBackprop
from grounding.attention.layers import choose_layer
from grounding.attention.trace import trace_network
from grounding.models import timm_classifier, torchvision_classifier


def chosen(network, side=64):
    return choose_layer(trace_network(network, window=None), side)


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (models.resnet18, "layer3"),
        (lambda: models.resnet50(num_classes=3), "layer3"),  # and no layer within a residual block
        (models.mobilenet_v2, "features.14.conv.0"),
        (lambda: timm.create_model("tf_efficientnet_lite0"), "blocks.5.0.bn1"),
        (models.squeezenet1_1, "features.7"),
    ],
)
def test_the_last_layer_of_twice_the_resolution_is_chosen(make, layer):
    network = make()
    assert chosen(network, 224) == layer
    (maps,) = ExcitationBackprop(network, layer, signed="clamp")(torch.rand(1, 3, 96, 96), [torch.tensor([0, 2])])
    assert maps.shape[0] == 2
    assert maps.isfinite().all()


def convolution(stride=1):
    return nn.Conv2d(4, 4, 3, stride, padding=1)


def chain(*modules):
    """A network with a convolution below, and a linear classifier of the mean above."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), *modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


class Functional(nn.Module):
    """A network whose activation functions are no modules."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3, 2), convolution(2), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (chain(nn.ReLU(), convolution(), nn.ReLU(), convolution(), nn.ReLU()), "3"),  # of one resolution: the middle
        (chain(nn.ReLU()), "1"),
        (chain(nn.LeakyReLU(), convolution(2), nn.ReLU(), convolution(2), nn.ReLU()), "3"),
        (chain(nn.ReLU(), convolution(2), nn.LeakyReLU(), convolution(2), nn.ReLU()), "5"),  # above what has no rule
        (Functional(), "relu"),
    ],
)
def test_networks_of_other_forms_have_a_layer_too(network, layer):
    assert chosen(network) == layer


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (chain(nn.LeakyReLU()), "no rule for LeakyReLU at '1'"),
        (chain(nn.ReLU(), convolution(2), nn.LeakyReLU()), "no rule for LeakyReLU at '3'"),
        (chain(), "no map of activation neurons"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)), "cannot be run on 64×64 pixels"),
    ],
)
def test_where_no_layer_fits_an_error_says_why(network, message):
    with pytest.raises(ValueError, match=message) as raised:
        chosen(network)
    assert "\n" not in str(raised.value)


def test_classifiers_of_torchvision_and_timm_need_no_layer():
    options = {"layer": None, "window": None, "short_side": 96}
    assert torchvision_classifier(name="resnet18", weights=None, **options).layer == "layer3"
    classifier = timm_classifier(name="tf_efficientnet_lite0", pretrained=False, **options)
    assert classifier.layer == "blocks.5.0.bn1"
