import pytest
import timm
import torch
from torch import nn
from torchvision import models

from train.split import split

NETWORKS = {
    "lite": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=3, drop_rate=0.5, drop_path_rate=0.5),
    "googlenet": lambda: models.googlenet(num_classes=3, aux_logits=False, init_weights=False, transform_input=True),
    "squeezenet": lambda: models.squeezenet1_1(num_classes=3),
    "resnet": lambda: models.resnet18(num_classes=3),
}
AT = {
    "lite": ("conv_stem", "blocks", "blocks.3.1", "blocks.3.1.conv_pw", "conv_head", "classifier"),
    "googlenet": ("conv1", "inception3a", "inception4a", "avgpool", "fc"),
    "squeezenet": ("features", "features.5", "classifier.1"),
    "resnet": ("conv1", "relu", "layer1.0", "layer1.0.conv1", "layer2", "avgpool", "fc"),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {name: make() for name, make in NETWORKS.items()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_together_are_the_network_whichever_mode_it_was_cut_in(networks, name, mode):
    network, photos = networks[name].eval(), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        expected = network(photos)
        for layer in AT[name]:
            lower, upper = split(network.train(mode == "train"), layer)
            assert lower.training == upper.training == (mode == "train")
            lower.eval()
            upper.eval()
            assert torch.equal(upper(lower(photos)), expected), layer
            ours = [*lower.parameters(), *upper.parameters()]
            assert {id(weight) for weight in ours} == {id(weight) for weight in network.parameters()}
            assert len(ours) == len(list(network.parameters()))  # none is in both


def test_dropout_of_the_upper_part_works_in_training_alone(networks):
    for name, layer in (("lite", "conv_head"), ("squeezenet", "classifier")):
        lower, upper = split(networks[name].eval(), layer)
        with torch.no_grad():
            features = lower(torch.rand(1, 3, 40, 40))
            one, other = upper.train()(features), upper(features)
            assert not torch.equal(one, other)
            one, other = upper.eval()(features), upper(features)
            assert torch.equal(one, other)


def test_weights_are_shared_and_gradients_reach_those_above_alone():
    network = models.resnet18(num_classes=3).eval()
    lower, upper = split(network, "layer4")
    photos = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = lower(photos)
    upper(features).sum().backward()
    reached = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(("layer4.", "fc."))}
    assert set(upper.state_dict()) == {name for name in network.state_dict() if name.startswith(("layer4.", "fc."))}
    with torch.no_grad():
        network.fc.weight.fill_(0)
        network.fc.bias.fill_(7)
        assert upper(features).tolist() == [[7] * 3] * 2
    upper.train()(features)
    assert network.layer4[0].bn1.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("resnet", "layer9", r"training\.trained=layer9: no such module; there are all, head, and parts of conv1, bn1"),
        ("resnet", "", "no such module"),
        ("resnet", "layer1.0.conv2", "there are ways around this module"),  # the identity
        ("resnet", "layer2.0.downsample", "there are ways around this module"),
        ("resnet", "layer2.0.conv1", "there are ways around this module"),  # downsample, with weights
        ("googlenet", "inception3a.branch1", "there are ways around this module"),
        ("googlenet", "inception3a.branch2.1", "there are ways around this module"),
        ("lite", "blocks.3.1.conv_dw", "there are ways around this module"),
    ],
)
def test_a_module_where_a_network_cannot_be_cut_is_refused(networks, name, layer, message):
    with pytest.raises(ValueError, match=message) as error:
        split(networks[name], layer)
    assert f"training.trained={layer}:" in str(error.value)
    assert "\n" not in str(error.value)


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.conv, self.unused = kind, nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

    def forward(self, photos, extra=None):
        if self.kind == "untraceable" and photos.sum() > 0:
            return photos
        response = self.conv(photos).mean((2, 3))
        return (response, response) if self.kind == "tuple" else response


@pytest.mark.parametrize(
    ("kind", "layer", "message"),
    [
        ("plain", "unused", "the network does not use this module"),
        ("tuple", "conv", "the network returns a structure"),
        ("untraceable", "conv", "torch.fx cannot trace the network: "),
    ],
)
def test_odd_networks_are_refused(kind, layer, message):
    with pytest.raises(ValueError, match=message) as error:
        split(Odd(kind), layer)
    assert "\n" not in str(error.value)


def test_an_unused_optional_input_is_ignored():
    network, photos = Odd("plain"), torch.rand(2, 3, 4, 4)
    lower, upper = split(network, "conv")
    assert torch.equal(lower(photos), photos)
    assert torch.equal(upper(photos), network(photos))
