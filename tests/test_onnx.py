"""Attention in ONNX: equal to the engine's, checked by onnxruntime, and what cannot be exported."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_settings import composed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from grounding.attention import CAM, ExcitationBackprop
from grounding.checkpoint import load_checkpoint
from grounding.models import IMAGENET_MEAN, IMAGENET_STD, Classifier, torchvision_classifier
from grounding.onnx import __main__ as command
from grounding.onnx.export import _split_exponent, _spread_averages, check_method, check_size, export_attention
from grounding.vocabulary import Vocabulary

onnx = pytest.importorskip("onnx", reason='needs pip install -e ".[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install -e ".[onnx]"')
pytest.importorskip("onnxscript", reason='needs pip install -e ".[onnx]"')

PAGE = Path(__file__).resolve().parent.parent / "docs" / "onnx.md"
CMWP = partial(ExcitationBackprop, contrastive=True, signed="clamp")
MWP = partial(ExcitationBackprop, contrastive=False, signed="clamp")
UNITS, SIZE = 30, (44, 53)


class Branches(nn.Module):
    """Branches side by side, as in GoogLeNet."""

    def __init__(self, channels):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(channels, 6, 1), nn.Conv2d(channels, 5, 3, padding=1)
        self.reduced = nn.Conv2d(channels, 4, 1)

    def forward(self, x):
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([F.relu(branch) for branch in (self.narrow(x), self.wide(x), self.reduced(pooled))], 1)


class SignedSum(nn.Module):
    """A residual sum of a signed branch, without an activation function."""

    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.branch(x)


def small_network():
    """A network of the links of GoogLeNet, with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Branches(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(15, UNITS),
    ).eval()


def small_classifier():
    """The network with two words."""
    words = Vocabulary({"dog": (3, 7, 20), "red": (1,)}, UNITS, nouns=frozenset({"dog"}))
    return Classifier(small_network(), words, "1", 2, IMAGENET_MEAN, IMAGENET_STD, short_side=44)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The small classifier with c-MWP, and the file that it was exported to."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    classifier = small_classifier()
    path.write_bytes(export_attention(classifier, CMWP, size=SIZE, settings={"attention": "cmwp"}))
    return classifier, path


def assert_equals_the_engine(classifier, method, session, count, *, scale=None):
    """Compare maps and probability. Maps may differ by 10⁻⁴ of a scale, their greatest value unless it is given."""
    generator = torch.Generator().manual_seed(count)
    photo = torch.rand(1, 3, *session.get_inputs()[0].shape[2:], generator=generator)
    units = torch.randint(classifier.vocabulary.size, (count,), generator=generator)
    attend = method(classifier.network, layer=classifier.layer, window=classifier.window)
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    (expected,) = attend.attend_with_mass((photo - mean) / std, [units])
    assert expected.maps.amax((1, 2)).min() > 0
    maps, reached = session.run(["maps", "reached"], {"photo": photo.numpy(), "units": units.numpy()})
    tolerance = 1e-4 * (expected.maps.max().item() if scale is None else scale)
    torch.testing.assert_close(torch.from_numpy(maps).clamp(min=0), expected.maps, rtol=0, atol=tolerance)
    torch.testing.assert_close(torch.from_numpy(reached), expected.reached, rtol=1e-4, atol=1e-6)


def places_then_units():
    """A network whose units average rectified responses, as in SqueezeNet: they have no weights of their own."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, UNITS, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("make", [small_network, places_then_units])
def test_attention_to_units_is_that_of_a_call(make):
    attend = CMWP(make().double(), layer="1")
    image, units = torch.rand(1, 3, 23, 30, dtype=torch.float64), torch.tensor([4, 0, 4])
    with torch.no_grad():
        maps, reached = attend.attend_to_units(image, units)
    torch.testing.assert_close(maps, attend.unclipped(image, [units])[0])
    torch.testing.assert_close(reached, attend.attend_with_mass(image, [units])[0].reached)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_maps_are_those_of_the_engine(exported, count):
    classifier, path = exported
    assert_equals_the_engine(classifier, CMWP, onnxruntime.InferenceSession(path), count)


def test_the_mean_of_a_words_units_is_the_map_of_the_word(exported):
    classifier, path = exported
    photo = torch.rand(1, 3, *SIZE)
    attend = CMWP(classifier.network, layer=classifier.layer, window=classifier.window)
    (expected,) = attend(
        (photo - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None],
        [classifier.vocabulary.prior("dog")[None]],
    )
    units = np.array(classifier.vocabulary.units["dog"])
    maps, _ = onnxruntime.InferenceSession(path).run(None, {"photo": photo.numpy(), "units": units})
    torch.testing.assert_close(
        torch.from_numpy(maps.mean(0)).clamp(min=0), expected[0], rtol=0, atol=1e-4 * expected.max().item()
    )


def test_the_file_says_what_it_holds(exported):
    _, path = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["photo", "units", "maps", "reached"]
    maps = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type.shape.dim
    assert [maps[0].dim_param, maps[1].dim_value, maps[2].dim_value] == ["K", 21, 26]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata == {
        "words": {"dog": [3, 7, 20], "red": [1]},
        "nouns": ["dog"],
        "settings": {"attention": "cmwp", "layer": "1", "window": 2},
    }


def test_the_example_of_the_page_runs_without_torch(exported):
    _, path = exported
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(path.parent / "dog.jpg")
    check = "\nimport sys\nassert 'torch' not in sys.modules and 'grounding' not in sys.modules"
    subprocess.run([sys.executable, "-c", example + check], cwd=path.parent, check=True)
    with Image.open(path.parent / "dog_map.png") as picture:
        assert picture.size == (90, 60)
        assert picture.getextrema()[1] > 200  # the greatest value is 255 before it is scaled up


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CAM, "CAM cannot be exported: choose attention=cmwp or mwp"),
        (partial(CMWP, normalised=False), "needs float64"),
        (partial(CMWP, renormalise=True), "divide the clipped maps by their sums"),
        (partial(CMWP, signed="raise"), "which a graph cannot: use clamp"),
    ],
)
def test_what_cannot_be_exported_is_told_by_name(method, message):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), SignedSum(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 3))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check_method(method(network.eval(), layer="1", window=2))
    assert "\n" not in str(caught.value)


def test_the_command_refuses_a_method_and_writes_nothing(tmp_path):
    settings = composed(
        "model=efficientnet_lite2_imagenet", f"output={tmp_path}/a.onnx", "attention=best", config="onnx"
    )
    with pytest.raises(ValueError, match="Mixture cannot be exported: choose attention=cmwp or mwp"):
        command.export(settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [[400], [400, 16], [400, 4097], [400, 400, 3]])
def test_a_size_that_makes_no_sense_is_an_error(size):
    with pytest.raises(ValueError, match="size is"):
        check_size(size)


def test_an_output_without_a_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="must be a file in a folder that exists"):
        command.export(composed(f"output={tmp_path}/missing/a.onnx", config="onnx"))
    with pytest.raises(ValueError, match="must be a file in a folder that exists"):
        command.export(composed(f"output={tmp_path}", config="onnx"))


@pytest.mark.slow
def test_an_operation_without_a_form_in_onnx_is_an_error():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    classifier = Classifier(network, Vocabulary({}, 3), "1", None, IMAGENET_MEAN, IMAGENET_STD, short_side=33)
    with pytest.raises(ValueError, match="adaptive_avg_pool2d_backward has no form in ONNX"):
        export_attention(classifier, MWP, size=(33, 33))


@given(st.floats(1e-30, 1e30))
def test_mantissas_times_powers_of_two_are_the_numbers(number):
    x = torch.tensor([number], dtype=torch.float64)
    mantissa, exponent = _split_exponent(x)
    torch.testing.assert_close(mantissa * 2.0**exponent, x)
    assert 0.499 < mantissa < 1.001


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.sampled_from([None, 5]))
def test_averages_are_spread_as_autograd_spreads_them(seed, kernel, stride, padding, divisor):
    padding = min(padding, kernel // 2)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 7, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    averages = F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor)
    y = torch.rand(averages.shape, dtype=torch.float64, generator=generator)
    (expected,) = torch.autograd.grad(averages, x, y)
    pair = [kernel, kernel], [stride, stride], [padding, padding]
    torch.testing.assert_close(_spread_averages(y, x, *pair, False, True, divisor), expected)


def test_averages_over_fewer_cells_at_the_border_are_refused():
    y = torch.ones(1, 1, 2, 2)
    for options in ((True, True), (False, False)):
        with pytest.raises(ValueError, match="border count fewer cells"):
            _spread_averages(y, torch.ones(1, 1, 3, 3), [2, 2], [2, 2], [1, 1], *options, None)


@pytest.mark.slow
def test_maps_of_mwp_are_those_of_the_engine(tmp_path):
    classifier, path = small_classifier(), tmp_path / "model.onnx"
    path.write_bytes(export_attention(classifier, MWP, size=SIZE))
    assert_equals_the_engine(classifier, MWP, onnxruntime.InferenceSession(path), 5)


@pytest.mark.slow
def test_maps_of_the_default_model_are_those_of_the_engine(tmp_path):
    classifier = load_checkpoint(checkpoint="efficientnet_lite2_places")
    path = tmp_path / "model.onnx"
    path.write_bytes(export_attention(classifier, CMWP, size=(224, 301)))
    session = onnxruntime.InferenceSession(path)
    for count in (1, 5, 20):
        assert_equals_the_engine(classifier, CMWP, session, count)


@pytest.mark.slow
def test_maps_of_googlenet_are_those_of_the_engine(tmp_path):
    """With random weights, c-MWP is a small difference of nearly equal maps: the scale is the sum of a map of MWP."""
    torch.manual_seed(0)
    classifier = torchvision_classifier(name="googlenet", weights=None, layer="maxpool2", window=7, short_side=224)
    path = tmp_path / "model.onnx"
    path.write_bytes(export_attention(classifier, CMWP, size=(224, 288)))
    session = onnxruntime.InferenceSession(path)
    for count in (1, 5, 20):
        assert_equals_the_engine(classifier, CMWP, session, count, scale=1.0)


@pytest.mark.slow
def test_the_command_writes_one_file_or_one_line(tmp_path):
    words = [
        sys.executable,
        "-m",
        "grounding.onnx",
        f"output={tmp_path}/a.onnx",
        "size=[64,96]",
        f"hydra.run.dir={tmp_path}/run",
    ]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=PAGE.parent.parent / "tests",
        env=os.environ | {"PYTHONPATH": str(PAGE.parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.onnx"]
    assert done.stderr.splitlines()[-1].endswith("for photos of 64×96 pixels")
    done = subprocess.run(
        [*words, "attention=best"],
        capture_output=True,
        text=True,
        cwd=PAGE.parent.parent / "tests",
        env=os.environ | {"PYTHONPATH": str(PAGE.parent.parent)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Mixture cannot be exported")
    assert len(done.stderr.splitlines()) == 1
