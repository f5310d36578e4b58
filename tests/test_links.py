import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grounding.attention import ExcitationBackprop

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Body(nn.Module):
    """A stem, a body that a test gives, and a classifier."""

    def __init__(self, body, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.norm = nn.ReLU(inplace=True), nn.BatchNorm2d(4)
        self.maximum, self.lrn = nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(3)
        self.body, self.fc = body, nn.Linear(channels, 2)

    def forward(self, x):
        return self.fc(self.body(self, self.relu(self.stem(x))))


def attend(body, channels=4, layer="relu", **settings):
    return ExcitationBackprop(Body(body, channels), layer, **settings)(IMAGE, [torch.tensor([0, 1])])[0]


SPELLINGS = [
    lambda net, x: F.adaptive_avg_pool2d(F.relu(net.inner(x)), 1).flatten(1),
    lambda net, x: torch.flatten(F.adaptive_avg_pool2d(torch.relu(net.inner(x)), (1, 1)), 1),
    lambda net, x: net.inner(x).relu().mean((2, 3)),
    lambda net, x: net.inner(x).relu_().mean([-2, -1]),
    lambda net, x: torch.mean(F.relu(net.inner(x), inplace=True), dim=(2, 3)),
    lambda net, x: F.avg_pool2d(F.dropout(net.inner(x).relu(), training=False), 8).view(x.size(0), -1),
    lambda net, x: F.avg_pool2d(net.inner(x).relu(), kernel_size=8).reshape((x.shape[0], -1)),
    lambda net, x: F.hardtanh(net.inner(x), 0.0, 1e9).contiguous().mean((2, 3)),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_an_operation_is_the_same_operation(spelling):
    torch.testing.assert_close(attend(spelling), attend(SPELLINGS[0]))


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (
            lambda net, x: torch.add(x, net.inner(x)).relu().mean((2, 3)),
            lambda net, x: x.add(net.inner(x)).relu().mean((2, 3)),
        ),
        (
            lambda net, x: F.max_pool2d(x, 3, 2, ceil_mode=True).mean((2, 3)),
            lambda net, x: net.maximum(x).mean((2, 3)),
        ),
        (lambda net, x: F.adaptive_max_pool2d(x, 2).mean((2, 3)), lambda net, x: F.max_pool2d(x, 4).mean((2, 3))),
        (lambda net, x: (x + x).mean((2, 3)), lambda net, x: x.mean((2, 3))),
        (
            lambda net, x: F.local_response_norm(x, 3).mean((2, 3)),
            lambda net, x: net.lrn(x).mean((2, 3)),
        ),
    ],
)
def test_modules_functions_and_methods_agree(body, same):
    settings = {"signed": "compose", "contrastive": False}
    torch.testing.assert_close(attend(body, **settings), attend(same, **settings))


def test_concatenation_hands_each_part_its_share():
    """Neurons side by side three times over win what they win once."""
    thrice = attend(lambda net, x: torch.cat([x, x, x], 1).mean((2, 3)), 12, contrastive=False)
    torch.testing.assert_close(thrice.sum((1, 2)), torch.ones(2))


def signed_body(net, x):
    return net.inner(net.norm(net.inner(x))).relu().mean((2, 3))


def test_negative_values_raise_unless_a_treatment_is_chosen():
    with pytest.raises(ValueError, match=r"negative values of norm.* enter .*choose signed=clamp or signed=compose"):
        attend(signed_body)
    assert attend(signed_body, signed="clamp").shape == (2, 8, 8)
    assert attend(signed_body, signed="compose").shape == (2, 8, 8)


def test_a_residual_sum_raises_too():
    body = lambda net, x: (net.inner(x) + x).relu().mean((2, 3))  # noqa: E731
    with pytest.raises(ValueError, match="choose signed="):
        attend(body)


def test_what_cannot_be_composed_is_said():
    with pytest.raises(ValueError, match="choose signed=clamp"):
        attend(lambda net, x: net.inner(F.avg_pool2d(net.inner(x), 2)).relu().mean((2, 3)), signed="compose")


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(ValueError, match=r"no rule for mul at 'mul': attention passes convolution"):
        attend(lambda net, x: (x * x.mean((2, 3), keepdim=True)).mean((2, 3)))
    with pytest.raises(ValueError, match="no rule for LeakyReLU"):
        ExcitationBackprop(nn.Sequential(nn.ReLU(), nn.LeakyReLU(), nn.Conv2d(3, 1, 1)), "0")


def test_an_operation_without_a_rule_does_no_harm_below_the_layer():
    class Below(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Body(lambda net, x: x.mean((2, 3)))

        def forward(self, x):
            return self.net(torch.cat([x[:, :1] * 2 + 1, x[:, 1:]], 1))

    assert ExcitationBackprop(Below(), "net.relu")(IMAGE, [torch.tensor([0])])[0].shape == (1, 8, 8)


@pytest.mark.parametrize("final", [nn.Softmax(1), nn.Sigmoid(), nn.LogSoftmax(1)])
def test_a_final_softmax_or_sigmoid_is_looked_through(final):
    network = Body(lambda net, x: x.mean((2, 3)))
    bare = ExcitationBackprop(network, "relu")(IMAGE, [torch.tensor([0])])[0]
    torch.testing.assert_close(
        ExcitationBackprop(nn.Sequential(network, final), "0.relu")(IMAGE, [torch.tensor([0])])[0], bare
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("nowhere", "no layer 'nowhere' in the network; layers of activation neurons are: relu"),
        ("fc", "layer 'fc' is signed"),
        ("pool", "is a vector"),
    ],
)
def test_a_layer_that_cannot_be_is_answered_with_those_that_can(layer, message):
    network = Body(lambda net, x: net.pool(x))
    network.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=message):
        ExcitationBackprop(network, layer)(IMAGE, [torch.tensor([0])])


def test_a_convolution_as_layer_means_the_neurons_that_it_feeds():
    body = SPELLINGS[2]
    torch.testing.assert_close(attend(body, layer="stem"), attend(body, layer="relu"))


def test_a_network_that_cannot_be_traced_is_said():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.fx cannot trace Branching"):
        ExcitationBackprop(Branching(), "x")


def test_half_precision_networks_are_computed_in_full():
    network = Body(lambda net, x: x.mean((2, 3)))
    maps = ExcitationBackprop(network.half(), "relu")(IMAGE, [torch.tensor([0])])[0]
    assert maps.dtype == torch.float32
    assert network.fc.weight.dtype == torch.float16
