"""Parity with `torchray`, a public implementation of the paper, on a network with random weights.

pip install -e ".[parity]"
python -m pytest -m parity
"""

import copy
import warnings

import pytest
import torch
import torchvision
from torch.nn.utils.fusion import fuse_conv_bn_eval

from grounding.attention import ExcitationBackprop

LAYERS = {"saliency_layer": "maxpool2"}
CONTRAST = {"contrast_layer": "avgpool", "classifier_layer": "fc"}


def googlenet():
    torch.manual_seed(0)
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    for module in network.modules():
        if type(module).__name__ == "BasicConv2d":  # torchray passes batch norm by, we fold it
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = torch.nn.Identity()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_maps_of_googlenet_are_those_of_torchray(contrastive, dtype, tolerance):
    pytest.importorskip("torchray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchray.attribution import excitation_backprop as torchray
    network = googlenet().to(dtype)
    x = torch.rand(1, 3, 300, 400).to(dtype)  # of the seed that made the network
    ours = ExcitationBackprop(network, "maxpool2", contrastive=contrastive)(x, [torch.tensor([3])])[0]
    if contrastive:
        theirs = torchray.contrastive_excitation_backprop(copy.deepcopy(network), x, 3, **LAYERS, **CONTRAST)[0, 0]
    else:
        theirs = torchray.excitation_backprop(copy.deepcopy(network), x, 3, **LAYERS)[0, 0]
    difference = ((ours[0] - theirs).abs().sum() / theirs.abs().sum()).item()
    print(f"relative difference from torchray: {difference:.1e}")
    assert difference < tolerance
