"""The networks of torchvision and timm, with random weights."""

import warnings

import pytest
import torch
import torchvision
from timm.models.efficientnet import tf_efficientnet_lite2
from torch.nn.utils.fusion import fuse_conv_bn_eval

from grounding.attention import ExcitationBackprop


def build(name):
    torch.manual_seed(0)
    if name == "tf_efficientnet_lite2":
        return tf_efficientnet_lite2().eval()
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


@pytest.mark.parametrize("size", [(224, 224), (300, 400)])
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize(
    ("name", "layer", "cells"),
    [
        ("googlenet", "maxpool2", 8),
        ("vgg16", "features.23", 16),
        ("resnet50", "layer3", 16),
        ("squeezenet1_1", "features.5", 8),
        ("mobilenet_v2", "features.14.conv.0", 16),
        ("tf_efficientnet_lite2", "blocks.5.0.bn1", 16),
    ],
)
def test_real_networks_are_traced_and_run(name, layer, cells, window, size):
    attend = ExcitationBackprop(build(name), layer, contrastive=False, signed="compose", window=window)
    (maps,) = attend.unclipped(torch.rand(1, 3, *size), [torch.tensor([1, 5])])
    assert maps.shape[0] == 2
    assert all(abs(side - pixels / cells) <= 2 for side, pixels in zip(maps.shape[1:], size, strict=True))
    assert (maps >= 0).all()
    mass = maps.sum((1, 2))
    assert (mass <= 1 + 1e-4).all()
    if name not in ("mobilenet_v2", "tf_efficientnet_lite2"):  # there, skips lead past or bias keeps units alive
        torch.testing.assert_close(mass, torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("signed", ["carry", "clamp", "compose"])
@pytest.mark.parametrize(("name", "layer"), [("resnet50", "layer3"), ("mobilenet_v2", "features.14.conv.0")])
def test_networks_with_signed_values_run_with_every_treatment(name, layer, signed):
    (maps,) = ExcitationBackprop(build(name), layer, signed=signed)(torch.rand(1, 3, 96, 96), [torch.tensor([0])])
    assert maps.isfinite().all()


def test_agrees_with_the_released_implementation():
    """c-MWP of GoogLeNet against `torchray`: pip install -e .[parity]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchray = pytest.importorskip("torchray.attribution.excitation_backprop", exc_type=ImportError)
    network = build("googlenet")
    for module in network.modules():
        if type(module).__name__ == "BasicConv2d":  # torchray passes batch norm by, we fold it
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = torch.nn.Identity()
    x = torch.rand(1, 3, 300, 400)

    def difference(dtype):
        network.to(dtype)
        (ours,) = ExcitationBackprop(network, "maxpool2")(x.to(dtype), [torch.tensor([3])])[0]
        theirs = torchray.contrastive_excitation_backprop(
            network, x.to(dtype), 3, saliency_layer="maxpool2", contrast_layer="avgpool", classifier_layer="fc"
        )[0, 0]
        return ((ours - theirs).abs().sum() / theirs.abs().sum()).item()

    in_single, in_double = difference(torch.float32), difference(torch.float64)
    print(f"relative difference from torchray: {in_single:.1e} in single, {in_double:.1e} in double precision")
    assert in_single < 1e-4
    assert in_double < 1e-10
