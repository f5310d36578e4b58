"""The networks of torchvision and timm, with random weights."""

from functools import lru_cache

import pytest
import torch
import torchvision
from timm.models.efficientnet import tf_efficientnet_lite2

from grounding.attention import ExcitationBackprop


@lru_cache(maxsize=1)  # attention leaves networks as it finds them
def build(name):
    torch.manual_seed(0)
    if name == "tf_efficientnet_lite2":
        return tf_efficientnet_lite2().eval()
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


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
def test_real_networks_are_traced_and_run(name, layer, cells, window):
    size = (224, 300)
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
