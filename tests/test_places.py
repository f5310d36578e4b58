"""A head that is applied at every place, instead of to the mean of the last map."""

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from grounding.attention.trace import trace_network
from grounding.models import Pooling
from grounding.pooling import pool_responses
from train.places import respond_at_places
from train.split import changed_network, split

UNITS, LEARNED = 5, 3
NETWORKS = {
    "efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=UNITS, drop_rate=0.5),
    "dilated": lambda: timm.create_model("test_efficientnet", num_classes=UNITS, output_stride=16),
    "timm's resnet": lambda: timm.create_model("test_resnet", num_classes=UNITS),
    "resnet": lambda: models.resnet18(num_classes=UNITS),
    "mobilenet": lambda: models.mobilenet_v2(num_classes=UNITS),
    "googlenet": lambda: models.googlenet(num_classes=UNITS, aux_logits=False, init_weights=False),
}
HEADS = {"efficientnet": "classifier", "dilated": "classifier", "mobilenet": "classifier.1"}
MIDDLES = {"efficientnet": "blocks.3", "dilated": "blocks.3", "mobilenet": "features.14", "googlenet": "inception5a"}
PHOTOS = torch.rand(2, 3, 80, 96, generator=torch.Generator().manual_seed(0))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {name: make().eval() for name, make in NETWORKS.items()}


def change(network, name, pooling, learned=LEARNED):
    return respond_at_places(network, HEADS.get(name, "fc"), pooling, learned)


@torch.no_grad()
def responses_at_places(network):
    """The responses that the sliding classifier of attention has with a window of one cell."""
    return trace_network(network, window=1).module(PHOTOS.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_pooled_responses_are_those_that_attention_sees_at_single_cells(networks, name):
    network = networks[name]
    at_places = responses_at_places(network)
    assert at_places.shape[2] * at_places.shape[3] > 1
    for kind in ("lse", "attention"):
        changed = changed_network(network, change(network, name, Pooling(kind, 2.0)))
        with torch.no_grad():
            torch.testing.assert_close(
                changed(PHOTOS), pool_responses(at_places, kind, 2.0, LEARNED), atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("name", NETWORKS)
def test_averaged_over_places_the_responses_are_those_of_the_network(networks, name):
    network = networks[name]
    changed = changed_network(network, change(network, name, Pooling("average")))
    with torch.no_grad():
        torch.testing.assert_close(changed(PHOTOS), network(PHOTOS), atol=1e-5, rtol=1e-4)
        mixed = changed_network(network, change(network, name, Pooling("lse")))(PHOTOS)
        torch.testing.assert_close(mixed[:, LEARNED:], network(PHOTOS)[:, LEARNED:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_of_a_cut_network_are_the_whole_and_the_head_is_cut_above_the_map(networks, name):
    network = networks[name]
    changing = change(network, name, Pooling("lse"))
    with torch.no_grad():
        expected = changed_network(network, changing)(PHOTOS)
        head = HEADS.get(name, "fc")
        for layer in (head, MIDDLES.get(name, "layer4")):
            lower, upper = split(network, layer, changing)
            features = lower(PHOTOS)
            assert features.ndim == 4
            assert torch.equal(upper(features), expected)
            if layer == head:
                assert features.shape[1] == network.get_submodule(head).in_features
                assert set(upper.state_dict()) == {f"{head}.weight", f"{head}.bias"}


def test_weights_are_shared_and_the_network_is_left_as_it_was(networks):
    network = networks["resnet"]
    with torch.no_grad():
        before = network(PHOTOS)
    changed = changed_network(network, change(network, "resnet", Pooling("lse")))
    assert {id(weight) for weight in changed.parameters()} == {id(weight) for weight in network.parameters()}
    with torch.no_grad():
        assert torch.equal(network(PHOTOS), before)


def test_dropout_works_in_training_alone(networks):
    _, upper = split(
        networks["efficientnet"], "conv_head", change(networks["efficientnet"], "efficientnet", Pooling("lse"))
    )
    features = torch.rand(1, upper.conv_head.in_channels, 3, 3)
    with torch.no_grad():
        assert not torch.equal(upper.train()(features), upper(features))
        assert torch.equal(upper.eval()(features), upper(features))


@pytest.mark.parametrize(
    ("make", "head", "reason"),
    [
        (lambda: models.squeezenet1_1(num_classes=3), "classifier.1", r"something follows its head"),
        (lambda: models.mobilenet_v3_small(num_classes=3), "classifier.3", "Hardswish at .* lies below its head"),
        (lambda: timm.create_model("mobilenetv3_small_050", num_classes=3), "classifier", "lies below its head"),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)), "2", "AdaptiveAvgPool2d at"),
        (lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 3)), "2", "AdaptiveMaxPool2d at"),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1)), "1", "its head '1' is no linear layer"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), "1", "nothing is pooled below its head"),
    ],
)  # fmt: skip
def test_other_networks_are_refused_by_name(make, head, reason):
    network = make()
    name = type(network).__name__
    message = rf"training\.pooling=lse needs a linear head right above a global average .* in {name} .*{reason}"
    with pytest.raises(ValueError, match=message) as error:
        changed_network(network, respond_at_places(network, head, Pooling("lse"), 3))
    assert "\n" not in str(error.value)
    assert "use training.pooling=average" in str(error.value)
