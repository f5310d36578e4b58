"""A network small enough to compute by hand, and the maps that the paper's equations give for it."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from grounding.attention import ExcitationBackprop

FOLDER = Path(__file__).parent / "golden"


@pytest.fixture
def golden():
    return json.loads((FOLDER / "cmwp.json").read_text(encoding="utf-8"))


def network_of(parameters):
    """The network that the head of tests/golden/make_cmwp.py describes."""
    layers = {
        "stem": nn.Conv2d(2, 4, 3, padding=1),
        "relu": nn.ReLU(),
        "body": nn.Conv2d(4, 5, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool": nn.MaxPool2d(3, 2),
        "mixing": nn.Conv2d(5, 6, 1),
        "relu3": nn.ReLU(),
        "average": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(6, 3),
    }
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    network.double().load_state_dict({name: torch.tensor(value) for name, value in parameters.items()})
    return network


@pytest.mark.parametrize(("name", "contrastive"), [("mwp", False), ("cmwp", True)])
def test_maps_are_those_of_the_golden_file(golden, name, contrastive):
    photo = torch.tensor(golden["photo"], dtype=torch.float64)
    attend = ExcitationBackprop(network_of(golden["parameters"]), "relu", contrastive=contrastive)
    (attended,) = attend.attend_with_mass(photo[None], [torch.arange(3)])
    expected = torch.tensor(golden["maps"][name], dtype=torch.float64)
    torch.testing.assert_close(attended.maps, expected, atol=1e-15, rtol=1e-12)
    reached = torch.tensor(golden["maps"]["mwp"], dtype=torch.float64).sum((1, 2))
    torch.testing.assert_close(attended.reached, reached, atol=0, rtol=1e-12)


def test_the_golden_file_is_what_its_command_writes(golden, tmp_path):
    script = tmp_path / "make_cmwp.py"
    script.write_text((FOLDER / "make_cmwp.py").read_text(encoding="utf-8"), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")  # it writes beside itself
    assert json.loads((tmp_path / "cmwp.json").read_text(encoding="utf-8")) == golden
