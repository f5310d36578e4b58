"""The networks of Caffe's Model Zoo, and their weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from caffe_files import caffemodel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grounding.architectures import Architecture, build
from grounding.caffe.classifier import MEANS, caffe_classifier
from grounding.caffe.networks import NETWORKS, googlenet
from grounding.caffe.weights import layers_with_weights, load_caffemodel
from grounding.checkpoint import load_checkpoint, save_checkpoint
from grounding.models import head_of
from grounding.vocabulary import Vocabulary, read_vocabulary

SETTINGS = {"layer": "pool2", "window": 7, "short_side": 64}


def on_meta(name):
    """A network without memory for its weights, of which CNN-S has 103 million and VGG16 138 million."""
    with torch.device("meta"):
        return NETWORKS[name](1000)


def sides(network, size, names):
    """The side of the map that each of these modules returns for a square photo."""
    found = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: found.update({name: output.shape[-1]})
        )
    with torch.device("meta"):
        network(torch.empty(1, 3, size, size))
    return [found[name] for name in names]


# The networks


@pytest.mark.parametrize(
    (
        "name",
        "weights",
    ),  # CNN-S and VGG16 by their layers, GoogLeNet without auxiliary heads, ResNet-50 with one bias more
    [
        ("cnn_s", 102_908_520),
        ("googlenet", 6_998_552),
        ("vgg16", 138_357_544),
        ("resnet50", 25_557_032 + 64),
    ],
)
def test_networks_have_the_published_number_of_weights(name, weights):
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == weights


@pytest.mark.parametrize(
    ("name", "size", "modules", "expected"),
    [
        ("cnn_s", 224, ["conv1", "pool1", "conv2", "pool2", "conv5", "pool5", "grid"], [109, 37, 33, 17, 17, 6, 6]),
        ("googlenet", 224, ["conv1", "pool1", "pool2", "pool3", "pool4", "inception_5b"], [112, 56, 28, 14, 7, 7]),
        ("googlenet", 300, ["conv1", "pool1", "pool2", "pool3", "pool4", "inception_5b"], [150, 75, 37, 18, 9, 9]),
        ("resnet50", 224, ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"], [112, 56, 56, 28, 14, 7]),
    ],
)
def test_maps_have_the_sides_that_they_have_in_caffe(name, size, modules, expected):
    assert sides(on_meta(name).eval(), size, modules) == expected


def test_modules_bear_caffes_names():
    children = " ".join(name for name, _ in on_meta("cnn_s").named_children())
    assert children == (
        "conv1 relu1 norm1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 grid flatten "
        "fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    )
    layers = [layer for layer, _ in layers_with_weights(on_meta("googlenet"), "googlenet")]
    assert layers[:4] == ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3", "inception_3a/1x1"]
    parts = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"]
    inceptions = [f"inception_{letter}" for letter in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    assert layers[3:] == [f"{name}/{part}" for name in inceptions for part in parts] + ["loss3/classifier"]


def test_each_layer_of_vgg16_and_resnet50_has_caffes_name():
    vgg = {layer: module.weight.shape[:2] for layer, module in layers_with_weights(on_meta("vgg16"), "vgg16")}
    assert len(vgg) == 16
    assert (vgg["conv1_1"], vgg["conv4_1"], vgg["conv5_3"]) == ((64, 3), (512, 256), (512, 512))
    assert (vgg["fc6"], vgg["fc7"], vgg["fc8"]) == ((4096, 25088), (4096, 4096), (1000, 4096))
    network = on_meta("resnet50")
    blocks = [f"{stage}{letter}" for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)) for letter in "abcdef"[:count]]
    branches = [f"{block}_branch{part}" for block in blocks for part in ("2a", "2b", "2c")]
    branches += [f"{stage}a_branch1" for stage in (2, 3, 4, 5)]
    expected = {f"{kind}{branch}" for branch in branches for kind in ("res", "bn", "scale")}
    found = dict(layers_with_weights(network, "resnet50"))
    assert found.keys() == expected | {"conv1", "bn_conv1", "scale_conv1", "fc1000"}
    assert found["res4f_branch2b"] is network.layer3[5].conv2
    assert found["bn3a_branch1"] is found["scale3a_branch1"] is network.layer2[0].downsample[1]


@pytest.mark.parametrize(
    ("norm", "k", "alpha"), [(on_meta("cnn_s").norm1, 2, 5e-4), (on_meta("googlenet").pool1.norm1, 1, 1e-4)]
)
@given(seed=st.integers(0, 2**16))
def test_responses_are_normalised_over_neighbouring_channels_as_in_caffe(norm, k, alpha, seed):
    """a / (k + α/n Σ a²)^β, over n = 5 channels around each."""
    x = 100 * torch.rand(1, 7, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for channel in range(7):
        near = x[:, max(channel - 2, 0) : channel + 3]
        expected = x[:, channel] / (k + alpha / 5 * near.square().sum(1)) ** 0.75
        torch.testing.assert_close(norm(x)[:, channel], expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_built_by_its_name_and_its_head_is_found(name):
    with torch.device("meta"):
        network = build(Architecture("caffe", name), 7)
        assert head_of(network, 7)[1].out_features == 7
        assert network(torch.empty(2, 3, 96, 130)).shape == (2, 7)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture("caffe", "alexnet"), "caffe has no classifier 'alexnet'"),
        (Architecture("caffe", "cnn_s", 16), "caffe's cnn_s takes no output stride: use null"),
    ],
)
def test_other_networks_are_refused(architecture, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, 3)


# Their weights


def arrays_of(network, name, seed=0):
    """Random arrays for each layer in Caffe's shapes, with a batch norm's statistics multiplied by a factor."""
    numbers = np.random.default_rng(seed)
    layers = {}
    for layer, module in layers_with_weights(network, name):
        shapes = [parameter.shape for parameter in module.parameters(recurse=False)]
        layers[layer] = [numbers.random(tuple(shape), dtype=np.float32) - 0.3 for shape in shapes]
        if layer.startswith("bn"):
            layers[layer] = [numbers.random(len(module.weight), dtype=np.float32) for _ in range(2)] + [[4.0]]
    return layers


def weights_of(network):
    """The arrays of a GoogLeNet."""
    return {
        layer: [parameter.detach().numpy() for parameter in module.parameters(recurse=False)]
        for layer, module in layers_with_weights(network, "googlenet")
    }


def written(tmp_path, layers, **options):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(layers, **options))
    return path


@pytest.mark.parametrize("old", [False, True])
def test_photos_have_the_responses_that_caffe_computes(tmp_path, old):
    """Caffe takes blue, green and red from 0 to 255 and subtracts a mean; its weights are for that."""
    torch.manual_seed(0)
    caffes = googlenet(1000).eval()
    arrays = weights_of(caffes)
    arrays["loss1/classifier"] = [np.ones((2, 3))]  # an auxiliary head, which is left out
    path = written(tmp_path, arrays, old=old)
    ours = caffe_classifier(name="googlenet", weights=path, **SETTINGS)
    assert ours.architecture == Architecture("caffe", "googlenet")
    photo = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0))
    theirs = 255 * photo.flip(0) - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    with torch.no_grad():
        expected = caffes(theirs[None])
        torch.testing.assert_close(ours.network(ours.prepare(photo)[None]), expected, atol=1e-6, rtol=1e-4)
    assert expected.std() > 1e-4


def test_a_network_that_was_fine_tuned_in_caffe_has_words_of_its_own(tmp_path):
    network, table = googlenet(3), tmp_path / "words.tsv"
    table.write_text("cat\t0\ndog\t1\nsheep\t2\n", encoding="utf-8")
    path = written(tmp_path, weights_of(network))
    found = caffe_classifier(name="googlenet", weights=path, vocabulary=str(table), **SETTINGS)
    assert torch.equal(found.network.loss3.classifier.weight, network.loss3.classifier.weight)
    with pytest.raises(ValueError, match="it is 3×1024, expected 1000×1024"):
        caffe_classifier(name="googlenet", weights=path, **SETTINGS)


def test_every_weight_of_resnet50_finds_its_place(tmp_path):
    network = NETWORKS["resnet50"](5)
    arrays = arrays_of(network, "resnet50")
    load_caffemodel(network, "resnet50", written(tmp_path, arrays))
    for layer, module in layers_with_weights(network, "resnet50"):
        if layer.startswith("bn"):
            mean, variance, _ = map(torch.as_tensor, arrays[layer])
            torch.testing.assert_close(module.running_mean, mean / 4)
            torch.testing.assert_close(module.running_var, variance / 4)
        else:
            weight = torch.as_tensor(arrays[layer][0])
            assert torch.equal(module.weight, weight.flip(1) if layer == "conv1" else weight)
            if module.bias is not None:
                assert torch.equal(module.bias, torch.as_tensor(arrays[layer][1]))


def small_network():
    """A network with the layers of CNN-S that it has, but few weights."""
    chain = nn.Sequential()
    chain.add_module("conv1", nn.Conv2d(3, 2, 2))
    chain.add_module("flatten", nn.Flatten())
    chain.add_module("fc6", nn.Linear(8, 4))
    return chain


@pytest.mark.parametrize("form", ["old", "new", "fully convolutional"])
def test_a_fully_connected_layer_may_be_written_as_a_convolution(tmp_path, form):
    network = small_network()
    arrays = arrays_of(network, "cnn_s")
    weight, bias = arrays["fc6"]
    stored = weight.reshape(4, 2, 2, 2) if form == "fully convolutional" else weight
    path = written(tmp_path, arrays | {"fc6": [stored, bias]}, old=form == "old")
    load_caffemodel(network, "cnn_s", path)
    assert torch.equal(network.fc6.weight, torch.as_tensor(weight))
    assert torch.equal(network.fc6.bias, torch.as_tensor(bias))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc6": []}, "it lacks the layer 'fc6' of cnn_s; it has conv1"),
        ({"fc6": [np.ones((4, 9)), np.ones(4)]}, "layer 'fc6' is not that of cnn_s: it is 4×9, expected 4×8"),
        ({"conv1": [np.ones((2, 4, 2, 2)), np.ones(2)]}, "layer 'conv1' .* it is 2×4×2×2, expected 2×3×2×2"),
        ({"conv1": [np.ones((2, 3, 2, 2))]}, "layer 'conv1' is not that of cnn_s: number of arrays: 1, expected 2"),
        ({"fc6": [np.ones((4, 8)), np.full(4, np.nan)]}, "layer 'fc6' .*: it holds NaN or infinity"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(tmp_path, change, message):
    network = small_network()
    path = written(tmp_path, arrays_of(network, "cnn_s") | change)
    with pytest.raises(ValueError, match=message) as error:
        load_caffemodel(network, "cnn_s", path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_batch_norm_without_its_factor_is_refused(tmp_path):
    network = NETWORKS["resnet50"](2)
    arrays = arrays_of(network, "resnet50")
    arrays["bn2a_branch1"].pop()
    with pytest.raises(ValueError, match="a batch norm has a mean, a variance and one factor"):
        load_caffemodel(network, "resnet50", written(tmp_path, arrays))


# Classifiers


@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_of_each_network_can_be_made(name, monkeypatch):
    monkeypatch.setattr("grounding.caffe.classifier.build", lambda architecture, units: on_meta(architecture.name))
    classifier = caffe_classifier(name=name, weights=None, **SETTINGS)
    prepared = classifier.prepare(torch.ones(3, 64, 64))
    torch.testing.assert_close(prepared[:, 0, 0], 255 - torch.tensor(MEANS[name]))


def test_classes_are_in_caffes_order():
    """Caffe numbers its classes by WordNet's offsets: the first are fishes, dogs start at 151, the last is paper."""
    units = read_vocabulary("imagenet").units
    known = {"tench": 0, "goldfish": 1, "ostrich": 9, "chihuahua": 151, "tabby": 281, "toilet tissue": 999}
    assert {word: units[word] for word in known} == {word: (unit,) for word, unit in known.items()}


def test_a_missing_file_and_an_unknown_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="none: No such file"):
        caffe_classifier(name="googlenet", weights=tmp_path / "none", **SETTINGS)
    with pytest.raises(ValueError, match="caffe has no classifier 'alexnet'"):
        caffe_classifier(name="alexnet", weights=None, **SETTINGS)


def test_a_trained_network_is_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    words = Vocabulary({"cat": (0,), "dog": (1,)}, 2)
    classifier = replace(
        caffe_classifier(name="googlenet", weights=None, **SETTINGS), network=googlenet(2).eval(), vocabulary=words
    )
    save_checkpoint(tmp_path / "checkpoint", classifier, settings={}, metrics={}, half=False)
    loaded = load_checkpoint(checkpoint=tmp_path / "checkpoint")
    assert loaded.architecture == Architecture("caffe", "googlenet")
    assert (loaded.mean, loaded.std) == (classifier.mean, classifier.std)
    photo = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(photo), classifier.network(photo))
