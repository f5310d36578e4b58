"""The networks of the paper and others, with random weights: all methods run on all of them."""

from functools import lru_cache, partial

import pytest
import torch
from command_settings import composed
from hydra.utils import instantiate
from torch import nn

from grounding.architectures import Architecture, build
from grounding.attention import CAM, LRP, Centre, Deconv, ExcitationBackprop, Grad
from grounding.attention.circuit import SIGNED_TREATMENTS
from grounding.config import attention_settings, build_part

SIZES = [(224, 224), (300, 400)]
# Sides of the map at the attention layer and of the last map, for photos of these sizes. CAM needs a global average.
CELLS = {
    "googlenet": ([(28, 28), (37, 50)], [(7, 7), (9, 13)]),
    "resnet50": ([(14, 14), (19, 25)], [(7, 7), (10, 13)]),
    "efficientnet_lite2_imagenet": ([(14, 14), (19, 25)], [(7, 7), (10, 13)]),
    "caffe_googlenet": ([(28, 28), (37, 50)], [(7, 7), (9, 12)]),
    "cnn_s": ([(17, 17), (23, 31)], None),
    "vgg16": ([(14, 14), (18, 25)], None),
}
MWP = partial(ExcitationBackprop, contrastive=False, signed="clamp")
CMWP = partial(ExcitationBackprop, contrastive=True, signed="clamp")


@pytest.fixture(scope="module")
def model(request):
    """The name of a model of ``conf/model``, and the model with random weights or with those of a package.

    Random ones get no bias, so that every active neuron has been excited by others.
    """
    is_packaged = request.param == "efficientnet_lite2_imagenet"
    torch.manual_seed(0)
    classifier = instantiate(composed(f"model={request.param}", *([] if is_packaged else ["model.weights=null"])).model)
    for module in [] if is_packaged else classifier.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return request.param, classifier


def with_models(*, slow=(), without=()):
    """Run a test with all models, in one order so that tests share them, and with some of them as a slow test."""
    names = [name for name in CELLS if name not in without]
    models = [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]
    return pytest.mark.parametrize("model", models, indirect=True)


def photo(size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def check_maps(method, classifier, shapes):
    """Make a method and run it on a photo of each size."""
    attend = method(classifier.network, classifier.layer, window=classifier.window)
    for size, shape in zip(SIZES, shapes, strict=True):
        (maps,) = attend(photo(size), [torch.tensor([3])])
        assert maps.shape == (1, *shape)
        assert maps.isfinite().all()
        assert (maps >= 0).all()
        assert maps.any() or method is CAM  # whose unit may count against every cell


@with_models(slow={"vgg16"})
def test_centre(model):
    check_maps(Centre, model[1], SIZES)


@pytest.mark.parametrize("method", [Grad, Deconv])
@with_models(slow={"vgg16", "cnn_s", "resnet50"})
def test_gradients(model, method):
    check_maps(method, model[1], SIZES)


@with_models(slow=CELLS.keys() - {"efficientnet_lite2_imagenet"})
def test_relevance(model):
    check_maps(LRP, model[1], SIZES)


@with_models(slow={"vgg16"})
def test_class_activation_maps_where_there_is_a_global_average(model):
    name, classifier = model
    cells = CELLS[name][1]
    if cells is not None:
        check_maps(CAM, classifier, cells)
    else:
        with pytest.raises(ValueError, match="CAM needs a linear classifier right above a global average pooling"):
            CAM(classifier.network, classifier.layer, window=classifier.window)


@with_models(slow={"vgg16", "cnn_s"})
def test_probability_is_conserved_and_contrast_takes_away(model):
    name, classifier = model
    arguments = {"network": classifier.network, "layer": classifier.layer, "window": classifier.window}
    attend = MWP(**arguments)
    plain = [attend.attend_with_mass(photo(size), [torch.tensor([3])])[0] for size in SIZES]
    attend = CMWP(**arguments)
    for attended, size, shape in zip(plain, SIZES, CELLS[name][0], strict=True):
        assert attended.maps.shape == (1, *shape)
        torch.testing.assert_close(attended.reached, attended.maps.sum((1, 2)), atol=1e-4, rtol=0)
        if name != "efficientnet_lite2_imagenet":  # which has biases
            torch.testing.assert_close(attended.reached, torch.ones(1), atol=1e-3, rtol=0)
        (difference,) = attend(photo(size), [torch.tensor([3])])
        assert difference.any()
        assert (difference >= 0).all()
        assert (difference <= attended.maps + 1e-6).all()


@pytest.mark.parametrize("option", ["post_norm", "without_norm", "d_wta", "cmwp_star", "c_grad"])
@with_models(slow=CELLS.keys() - {"googlenet"}, without={"vgg16"})  # which has the layers of CNN-S, and takes a minute
def test_analyses(model, option):
    name, classifier = model
    method = build_part(attention_settings(composed(f"attention={option}").attention))
    cells = {"cmwp_star": CELLS[name][1], "c_grad": SIZES}.get(option, CELLS[name][0])
    arguments = {"network": classifier.network, "layer": classifier.layer, "window": classifier.window}
    if cells is None:
        with pytest.raises(ValueError, match="at=last_map needs a linear classifier right above a global average"):
            method(**arguments)
        return
    attend = method(**arguments)
    for size, shape in zip(SIZES, cells, strict=True):
        (maps,) = attend(photo(size), [torch.tensor([3])])
        assert maps.shape == (1, *shape)
        assert maps.isfinite().all()
        assert (maps >= 0).all()
        if option == "c_grad":  # gradients of the reverse unit differ in sign alone
            assert not maps.any()
        elif option == "d_wta":  # in EfficientNet-Lite2, the path comes to neurons that only their bias keeps active
            assert maps.sum() == (name != "efficientnet_lite2_imagenet")
        elif option not in ("without_norm", "post_norm"):  # where the reverse unit may weigh more at every cell
            assert maps.any()


@lru_cache(maxsize=1)  # attention leaves networks as it finds them
def random_network(library, name):
    torch.manual_seed(0)
    return build(Architecture(library, name), 1000).eval()


@pytest.mark.parametrize(
    ("library", "name", "layer", "cells"),
    [
        ("torchvision", "googlenet", "maxpool2", 8),
        ("torchvision", "resnet50", "layer3", 16),
        ("torchvision", "squeezenet1_1", "features.5", 8),
        ("torchvision", "mobilenet_v2", "features.14.conv.0", 16),
        ("timm", "tf_efficientnet_lite2", "blocks.5.0.bn1", 16),
        ("caffe", "googlenet", "pool2", 8),
        ("caffe", "resnet50", "layer3", 16),
    ],
)
def test_whole_photos_are_seen_at_once_without_a_window(library, name, layer, cells):
    size = (224, 300)
    attend = ExcitationBackprop(random_network(library, name), layer, contrastive=False, signed="compose")
    (maps,) = attend.unclipped(photo(size), [torch.tensor([1, 5])])
    assert maps.shape[0] == 2
    assert all(abs(side - pixels / cells) <= 2 for side, pixels in zip(maps.shape[1:], size, strict=True))
    assert (maps >= 0).all()
    mass = maps.sum((1, 2))
    assert (mass <= 1 + 1e-4).all()
    if name not in ("mobilenet_v2", "tf_efficientnet_lite2"):  # there, skips lead past or bias keeps units alive
        torch.testing.assert_close(mass, torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("signed", SIGNED_TREATMENTS)
@pytest.mark.parametrize(
    ("library", "name", "layer"),
    [
        ("torchvision", "resnet50", "layer3"),
        ("caffe", "resnet50", "layer3"),
        ("torchvision", "mobilenet_v2", "features.14.conv.0"),
    ],
)
def test_networks_with_signed_values_run_with_every_treatment(library, name, layer, signed):
    attend = ExcitationBackprop(random_network(library, name), layer, signed=signed)
    if signed == "raise":
        with pytest.raises(ValueError, match="negative values"):
            attend(photo((96, 96)), [torch.tensor([0])])
    else:
        (maps,) = attend(photo((96, 96)), [torch.tensor([0])])
        assert maps.isfinite().all()
