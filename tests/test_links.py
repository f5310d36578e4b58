import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grounding.attention import ExcitationBackprop
from grounding.attention.operations import _LOWEST_OF_MODULE
from grounding.attention.trace import trace_network

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Body(nn.Module):
    """A stem, a body that the test defines, and a classifier."""

    def __init__(self, body, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.norm = nn.ReLU(inplace=True), nn.BatchNorm2d(4)
        self.maximum, self.lrn = nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(3)
        self.body, self.fc = body, nn.Linear(channels, 2)
        for module in (self.stem, self.inner):  # every neuron is alive, and not by its bias
            module.bias.data.zero_()
        self.inner.weight.data.add_(0.3)

    def forward(self, x):
        return self.fc(self.body(self, self.relu(self.stem(x))))


def attend(body, channels=4, layer="relu", **settings):
    maps = ExcitationBackprop(Body(body, channels), layer, **settings)(IMAGE, [torch.tensor([0, 1])])[0]
    assert (maps.sum((1, 2)) > 0).all()
    return maps


SPELLINGS = [
    lambda net, x: F.adaptive_avg_pool2d(F.relu(net.inner(x)), 1).flatten(1),
    lambda net, x: torch.flatten(F.adaptive_avg_pool2d(torch.relu(net.inner(x)), (1, 1)), 1),
    lambda net, x: net.inner(x).relu().mean((2, 3)),
    lambda net, x: net.inner(x).relu_().mean([-2, -1]),
    lambda net, x: torch.mean(F.relu(net.inner(x), inplace=True), dim=(2, 3)),
    lambda net, x: F.avg_pool2d(F.dropout(net.inner(x).relu(), training=False), 8).view(x.size(0), -1),
    lambda net, x: F.avg_pool2d(net.inner(x).relu(), kernel_size=8).reshape((x.shape[0], -1)),
    lambda net, x: F.hardtanh(net.inner(x), 0.0, 1e9).contiguous().mean((2, 3)),
    lambda net, x: F.relu(net.inner(x), True).mean((2, 3), True).squeeze(-1).squeeze(-1),
    lambda net, x: F.adaptive_avg_pool2d(input=torch.relu_(net.inner(x)), output_size=1).view(-1, 4),
    lambda net, x: net.inner(x).clamp(min=0).mean([2, 3]),
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


def test_concatenation_passes_each_part_its_share():
    """Neurons side by side three times over win what they win once."""
    network = Body(lambda net, x: torch.cat(tensors=[x, x, x], dim=1).mean((2, 3)), 12)
    weight = network.fc.weight.data
    plain = Body(lambda net, x: x.mean((2, 3)))
    plain.load_state_dict(network.state_dict() | {"fc.weight": sum(w.clamp(min=0) for w in weight.split(4, 1))})
    thrice, once = (
        ExcitationBackprop(net, "relu", contrastive=False)(IMAGE, [torch.tensor([0, 1])])[0] for net in (network, plain)
    )
    torch.testing.assert_close(thrice, once)


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


def test_maps_that_cannot_be_composed_are_refused_with_another_treatment():
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


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("final", [nn.Softmax(1), nn.Sigmoid(), nn.LogSoftmax(1)])
def test_a_final_softmax_or_sigmoid_is_ignored(final, window):
    network = Body(lambda net, x: x.mean((2, 3)))
    bare = ExcitationBackprop(network, "relu", window=window)(IMAGE, [torch.tensor([0])])[0]
    finished = ExcitationBackprop(nn.Sequential(network, final), "0.relu", window=window)
    torch.testing.assert_close(finished(IMAGE, [torch.tensor([0])])[0], bare)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("nowhere", "no layer 'nowhere' in the network; layers of activation neurons are: relu"),
        ("fc", "layer 'fc' is signed"),
        ("pool", "is a vector"),
    ],
)
def test_a_layer_without_activation_neurons_is_refused_and_the_others_are_listed(layer, message):
    network = Body(lambda net, x: net.pool(x))
    network.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=message):
        ExcitationBackprop(network, layer)(IMAGE, [torch.tensor([0])])


def test_a_convolution_as_layer_means_the_neurons_that_it_feeds():
    body = SPELLINGS[2]
    torch.testing.assert_close(attend(body, layer="stem"), attend(body, layer="relu"))


def test_an_output_whose_units_are_positions_is_refused():
    network = nn.Sequential(*stem(), nn.Conv2d(4, 2, 1), nn.Flatten())
    with pytest.raises(ValueError, match="units are places, not classes"):
        ExcitationBackprop(network, "1")(IMAGE, [torch.tensor([0])])


def test_weights_that_a_hook_may_change_are_refused():
    network = Body(SPELLINGS[0])
    network.inner.register_forward_pre_hook(lambda module, inputs: None)
    with pytest.raises(ValueError, match="a hook may change the weights of 'inner'"):
        ExcitationBackprop(network, "relu")


def test_a_network_that_cannot_be_traced_is_named():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.fx cannot trace Branching"):
        ExcitationBackprop(Branching(), "x")


def probability(network, layer="1", **settings):
    maps = ExcitationBackprop(network, layer, contrastive=False, **settings)(IMAGE, [torch.tensor([0, 1])])[0]
    return maps.sum((1, 2))


def stem():
    torch.manual_seed(0)
    return [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU()]


@pytest.mark.parametrize(
    "head",
    [
        lambda: [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten()],
        lambda: [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Dropout(), nn.Flatten(), nn.Softmax(1)],
        lambda: [nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        lambda: [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten()],
        lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2, affine=False)],
    ],
)
def test_the_probability_of_a_unit_is_given_even_where_its_response_is_negative(head):
    network = nn.Sequential(*stem(), *head()).eval()
    for module in network[2:]:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.abs_()
            module.bias.data.fill_(-9)
    torch.testing.assert_close(probability(network, signed="clamp"), torch.ones(2))


@pytest.mark.parametrize("signed", ["clamp", "compose"])
def test_each_of_several_heads_is_contrasted(signed):
    class Heads(nn.Module):
        def __init__(self, join):
            super().__init__()
            torch.manual_seed(1)
            self.stem = nn.Sequential(*stem())
            self.first, self.second, self.join = nn.Linear(4, 2), nn.Linear(4, 2), join

        def forward(self, x):
            vector = self.stem(x).mean((2, 3))
            return self.join(self.first(vector), self.second(vector))

    def maps(join, unit):
        network = Heads(join)
        return ExcitationBackprop(network, "stem.1", signed=signed).unclipped(IMAGE, [torch.tensor([unit])])[0]

    side_by_side = maps(lambda a, b: torch.cat([a, b], 1), 3)
    alone = maps(lambda a, b: b, 1)
    torch.testing.assert_close(side_by_side, alone)
    summed = Heads(torch.add)
    one = nn.Sequential(summed.stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    one[3].weight.data = summed.first.weight.data + summed.second.weight.data
    expected = ExcitationBackprop(one, "0.1").unclipped(IMAGE, [torch.tensor([1])])[0]
    torch.testing.assert_close(maps(torch.add, 1), expected)


def overwritten(net, x):
    rectified = net.relu(x := net.inner(x))
    return (net.inner(rectified) + x).relu().mean((2, 3))  # relu is in place: this x is rectified, too


def as_a_statement(net, x):
    x = net.inner(x)
    F.relu(x, inplace=True)
    return net.inner(x).relu().mean((2, 3))


def added_to(net, x):
    x = net.inner(x).relu()
    y = x.add_(net.inner(x).relu())
    return (x + y).mean((2, 3))


def averaged(net, x):
    return net.inner(x).mean((2, 3))  # the average may come first


@pytest.mark.parametrize("body", [overwritten, as_a_statement, added_to, averaged, signed_body, *SPELLINGS])
@pytest.mark.parametrize("window", [None, 8])
def test_the_traced_network_returns_what_the_network_returns(body, window):
    network = Body(body).eval()
    network.norm.running_mean.normal_()
    expected = network(IMAGE)
    answered = trace_network(network, window=window).module(IMAGE.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(answered.flatten(1), expected)


@pytest.mark.parametrize("signed", ["clamp", "compose"])
def test_the_order_of_readers_does_not_matter(signed):
    pool = lambda y: F.max_pool2d(y, 3, 1, 1).relu()  # noqa: E731

    def first(net, x):
        y = net.inner(x)
        p = pool(y)
        return torch.cat([p, F.silu(y)], 1).mean((2, 3))

    def second(net, x):
        y = net.inner(x)
        z = F.silu(y)
        return torch.cat([pool(y), z], 1).mean((2, 3))

    settings = {"signed": signed, "contrastive": False}
    torch.testing.assert_close(attend(first, 8, **settings), attend(second, 8, **settings))


def test_batch_norm_after_a_shared_convolution_is_part_of_the_link():
    class Shared(nn.Module):
        def __init__(self, copies):
            super().__init__()
            self.stem, self.fc = nn.Sequential(*stem()), nn.Linear(4, 2)
            self.convs = nn.ModuleList([nn.Conv2d(4, 4, 1)] * 2 if copies == 1 else [nn.Conv2d(4, 4, 1) for _ in "ab"])
            self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

        def forward(self, x):
            x = self.stem(x)
            return self.fc(sum(n(c(x)).relu() for c, n in zip(self.convs, self.norms, strict=True)).mean((2, 3)))

    shared, copied = Shared(1).eval(), Shared(2).eval()
    shared.norms[1].weight.data.fill_(-1)
    copied.load_state_dict(shared.state_dict())
    torch.testing.assert_close(probability(shared, "stem.1"), probability(copied, "stem.1"))


def test_parts_of_a_concatenation_keep_their_own_least_value():
    """A pooling of one cell changes nothing, nor does joining in two steps."""
    parts = lambda net, x: (net.inner(x).relu(), net.inner(x).tanh(), net.inner(x).sigmoid())  # noqa: E731
    plain = attend(lambda net, x: torch.cat(parts(net, x), 1).mean((2, 3)), 12, contrastive=False)
    for body in (
        lambda net, x: F.max_pool2d(torch.cat(parts(net, x), 1), 1).mean((2, 3)),
        lambda net, x: F.avg_pool2d(torch.cat(parts(net, x), 1), 1).mean((2, 3)),
        lambda net, x: torch.cat([torch.cat(parts(net, x)[:2], 1), parts(net, x)[2]], 1).mean((2, 3)),
    ):
        torch.testing.assert_close(attend(body, 12, contrastive=False), plain)


@pytest.mark.parametrize("kind", _LOWEST_OF_MODULE)
def test_the_least_value_of_an_activation_function_is_its_least_value(kind):
    module = kind()
    lowest = _LOWEST_OF_MODULE[kind](module)
    inputs = torch.linspace(-60, 60, 2_000_001, dtype=torch.float64)
    values = module(torch.cat([inputs, torch.tensor([-1e9])]))
    assert -1e-15 <= values.min() - lowest < 1e-4
    if kind is nn.GELU:
        assert 0 <= nn.GELU(approximate="tanh")(torch.linspace(-3, 3, 100_001)).min() - lowest < 1e-4


def test_sums_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="no rule for the sum"):
        attend(lambda net, x: (x + F.adaptive_avg_pool2d(x, 1)).mean((2, 3)))


def test_a_window_changes_the_head_alone():
    def body(net, x):
        x = net.inner(x * F.adaptive_avg_pool2d(x, 1)).relu()
        return net.maximum(x).mean((2, 3))

    network = Body(body).eval()
    for window in (3, 4):  # of a map of 4 cells, so that 4 is all
        maps = ExcitationBackprop(network, "maximum", window=window)(IMAGE, [torch.tensor([0])])[0]
        assert maps.shape == (1, 4, 4)
    torch.testing.assert_close(maps, ExcitationBackprop(network, "maximum")(IMAGE, [torch.tensor([0])])[0])


def test_a_head_that_cannot_slide_is_refused():
    for body in (lambda net, x: F.adaptive_max_pool2d(x, 1).flatten(1), lambda net, x: F.max_pool2d(x, 8).flatten(1)):
        with pytest.raises(ValueError, match=r"max pooling at .* use window=null"):
            attend(body, window=3)


def test_calls_in_inference_mode_and_under_autocast_are_in_full_precision():
    network = Body(SPELLINGS[0])
    expected = ExcitationBackprop(network, "relu")(IMAGE, [torch.tensor([0])])[0]
    attend_ = ExcitationBackprop(network, "relu")
    with torch.inference_mode():
        torch.testing.assert_close(attend_(IMAGE.clone(), [torch.tensor([0])])[0], expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attend_(IMAGE, [torch.tensor([0])])[0], expected)
    with pytest.raises(ValueError, match="truth values"):
        attend_(IMAGE, [torch.tensor([True])])


def test_half_precision_networks_are_computed_in_full():
    network = Body(lambda net, x: x.mean((2, 3)))
    maps = ExcitationBackprop(network.half(), "relu")(IMAGE, [torch.tensor([0])])[0]
    assert maps.dtype == torch.float32
    assert network.fc.weight.dtype == torch.float16
