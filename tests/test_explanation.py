"""Explanations of a small network whose evidence is known, and of networks by import path."""

import copy
import json
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from coloured_squares import NAMES, PREPARATION, SIDE, SQUARE, photo, small_network, trained_network
from safetensors.torch import save_file
from torch import nn

import grounding
from grounding.attention import ExcitationBackprop
from grounding.explanation.classes import choose_classes, find_class
from grounding.explanation.explainer import Explainer, explain
from grounding.explanation.picture import draw_explanation
from grounding.explanation.records import Explanation, npz_bytes
from grounding.models import AVERAGE, Classifier, Pooling
from grounding.modules import import_network, load_weights, module_classifier
from grounding.pooling import pool_responses
from grounding.scoring import enlarge
from grounding.vocabulary import Vocabulary

EMOTIONS = Vocabulary({"Happy": (0,), "angry": (1,), "sad": (2,), "negative": (1, 2)}, size=5)


@pytest.fixture(scope="module")
def network():
    return trained_network()


@pytest.fixture(scope="module")
def both():
    """A photo with a red square above on the left and a blue one below on the right."""
    return photo({0: (5, 4), 1: (30, 32)}, torch.Generator().manual_seed(1))


def peak(explanation, index):
    """The row and the column at which a map is greatest, in pixels of the photo."""
    return divmod(int(enlarge(explanation.maps[index], explanation.size).argmax()), explanation.size[1])


@pytest.mark.parametrize("seed", range(5))
def test_the_evidence_for_each_class_lies_on_its_pattern(network, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(SIDE - SQUARE, (2,), generator=generator).tolist()
    lefts = torch.randint(SIDE // 2 - SQUARE, (2,), generator=generator).tolist()
    places = {0: (rows[0], lefts[0]), 1: (rows[1], lefts[1] + SIDE // 2)}
    explanation = explain(network, photo(places, generator), NAMES[:2], **PREPARATION)
    for unit, (top, left) in places.items():
        row, column = peak(explanation, unit)
        assert top <= row < top + SQUARE
        assert left <= column < left + SQUARE
        inside = enlarge(explanation.maps[unit], explanation.size)[top : top + SQUARE, left : left + SQUARE]
        assert inside.sum() > 0.5 * enlarge(explanation.maps[unit], explanation.size).sum()


def test_maps_are_contrastive_and_probabilities_those_of_the_network_in_evaluation(network, both):
    explanation = explain(network, both, ["blue square", 0], **PREPARATION)
    assert (explanation.names, explanation.units) == (("blue square", "red square"), ((1,), (0,)))
    prepared = (both[None] - 0.5) / 0.5
    (maps,) = ExcitationBackprop(network, "4", contrastive=True)(prepared, [torch.tensor([1, 0])])
    torch.testing.assert_close(explanation.maps, maps)
    expected = copy.deepcopy(network).eval()(prepared)[0].softmax(0)[[1, 0]]
    torch.testing.assert_close(explanation.probabilities, expected.detach())
    assert explanation.reached.shape == (2,)


def test_the_network_is_left_as_it_was(network, both):
    before = copy.deepcopy(network.state_dict())
    explain(network, both, **PREPARATION)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_without_classes_the_most_probable_ones_come_first(network):
    for unit, name in enumerate(NAMES[:2]):
        image = photo({unit: (20, 20)}, torch.Generator().manual_seed(2))
        explanation = explain(network, image, **PREPARATION)
        assert explanation.names[0] == name
        assert len(explanation.names) == 3
        assert explanation.probabilities.tolist() == sorted(explanation.probabilities.tolist(), reverse=True)
        assert explanation.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_the_public_call_is_lazy_and_the_same():
    assert grounding.explain is explain


@pytest.mark.parametrize(("final", "multi_label"), [(nn.Sigmoid(), False), (None, True)])
def test_labels_have_sigmoids(network, both, final, multi_label):
    labelled = network if final is None else nn.Sequential(network, final)
    explanation = explain(labelled, both, NAMES, multi_label=multi_label, **PREPARATION)
    expected = copy.deepcopy(network).eval()((both[None] - 0.5) / 0.5)[0].sigmoid()
    torch.testing.assert_close(explanation.probabilities, expected.detach())


@pytest.mark.parametrize("final", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_final_softmax_is_not_applied_twice(network, both, final):
    twice = explain(nn.Sequential(network, final), both, NAMES, **PREPARATION)
    torch.testing.assert_close(twice.probabilities, explain(network, both, NAMES, **PREPARATION).probabilities)


def test_a_single_unit_is_a_label_without_a_rival():
    explanation = explain(small_network(1), torch.rand(3, 50, 60), short_side=SIDE)
    assert explanation.names == ("unit 0",)
    assert 0 < explanation.probabilities[0] < 1


@pytest.mark.parametrize("pooling", [AVERAGE, Pooling("lse", 2.0), Pooling("attention", 0.5)])
def test_units_learned_over_places_are_pooled_as_in_training(network, both, pooling):
    """The first two units are labels with this pooling, the last one is a class, whose softmax of one is 1."""
    vocabulary = Vocabulary({"red": (0,), "blue": (1,), "noise": (2,), "colour": (0, 1)}, 3)
    classifier = Classifier(network, vocabulary, "4", None, (0.5,) * 3, (0.5,) * 3, SIDE, None, pooling, exclusive=1)
    explanation = Explainer(classifier, ExcitationBackprop)(both, ["red", "blue", "noise", "colour"])
    prepared = (both[None] - 0.5) / 0.5
    with torch.no_grad():
        cells = network[:8](prepared)
        places = torch.einsum("uc,bchw->buhw", network[11].weight, cells) + network[11].bias[:, None, None]
    red, blue = pool_responses(places, pooling.kind, pooling.sharpness, 2)[0, :2].sigmoid()
    torch.testing.assert_close(explanation.probabilities, torch.stack([red, blue, torch.tensor(1.0), max(red, blue)]))


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ([], {"sad": (2,), "angry": (1,), "unit 4": (4,)}),
        (["happy"], {"Happy": (0,), "sad": (2,)}),
        (["sad"], {"sad": (2,), "angry": (1,)}),
        (["negative"], {"negative": (1, 2), "unit 4": (4,)}),  # the rival is no unit of its own
        (["sad", "Sad", "2"], {"sad": (2,), "angry": (1,)}),
        (["4", 3], {"unit 4": (4,), "unit 3": (3,)}),
    ],
)
def test_classes_are_words_or_units_and_a_single_one_gets_its_rival(asked, chosen):
    probabilities = torch.tensor([0.05, 0.3, 0.4, 0.05, 0.2])
    assert choose_classes(asked, EMOTIONS, probabilities, top=3) == chosen


def test_a_word_comes_before_a_number():
    assert find_class("7", Vocabulary({"7": (0,)}, size=8)) == ("7", (0,))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("hapy", r"no class 'hapy': did you mean Happy\?"),
        ("purple", "no class 'purple': it has Happy, angry, sad and 1 more"),
        ("5", "no unit 5: its units are 0 to 4"),
        ("-1", "no class '-1'"),
        ("", "no class ''"),
    ],
)
def test_a_class_that_the_model_lacks_is_an_error_that_suggests_others(asked, message):
    with pytest.raises(ValueError, match=message):
        find_class(asked, EMOTIONS)


def test_without_names_an_error_asks_for_numbers():
    with pytest.raises(ValueError, match=r"give a number from 0 to 1, or model\.class_names"):
        find_class("happy", Vocabulary({}, size=2))


def test_the_file_holds_everything_and_needs_no_pickle(network, both):
    explanation = explain(network, both, NAMES[:2], **PREPARATION)
    with np.load(BytesIO(npz_bytes(explanation, {"layer": "4"})), allow_pickle=False) as file:
        stored = dict(file)
    assert stored["names"].tolist() == NAMES[:2]
    assert stored["units"].tolist() == ["0", "1"]
    assert stored["size"].tolist() == [SIDE, SIDE]
    assert json.loads(str(stored["settings"])) == {"layer": "4"}
    np.testing.assert_array_equal(stored["maps"], explanation.maps)
    np.testing.assert_array_equal(stored["probabilities"], explanation.probabilities)
    np.testing.assert_array_equal(stored["reached"], explanation.reached)


def test_a_record_whose_parts_do_not_fit_is_an_error():
    with pytest.raises(ValueError, match="expected 2 units, probabilities and maps"):
        Explanation(("a", "b"), ((0,), (1,)), torch.ones(2), torch.ones(1, 3, 3), None, (9, 9))


@pytest.mark.parametrize("classes", [1, 2, 3, 6])
def test_the_picture_shows_the_photo_and_every_map_in_its_place(classes):
    maps = torch.zeros(classes, 4, 6)
    maps[:, 1, 4] = 1
    names = tuple(f"class {index}" for index in range(classes))
    units = tuple((index,) for index in range(classes))
    explanation = Explanation(names, units, torch.full((classes,), 0.5), maps, None, (80, 120))
    image = torch.full((3, 80, 120), 0.2)
    picture = np.asarray(draw_explanation(image, explanation, title="photo.jpg")).astype(int)
    bright_and_warm = (picture[..., 0] > 200) & (picture[..., 2] < 170) & (picture[..., 1] > 60)  # hot spots alone
    columns = min(classes + 1, 3)
    width = (960 - 16 * (columns + 1)) // columns
    height = round(width * 80 / 120)
    for index in range(1, classes + 1):
        top, left = 16 + index // columns * (height + 46 + 16), 16 + index % columns * (width + 16)
        tile = bright_and_warm[top : top + height, left : left + width]
        rows, lefts = tile.nonzero()
        assert np.median(rows) == pytest.approx(1.5 / 4 * height, abs=0.1 * height)
        assert np.median(lefts) == pytest.approx(4.5 / 6 * width, abs=0.1 * width)


@pytest.fixture
def own_module(tmp_path, monkeypatch, network):
    """The name of an importable module that holds a network, functions that make networks, and other things."""
    (tmp_path / "own_faces.py").write_text(
        "from coloured_squares import small_network\n"
        "made = small_network()\n"
        "def build(units): return small_network(units)\n"
        "def nothing(): return {}\n"
    )
    (tmp_path / "own_broken.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_faces"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_network_by_import_path_takes_weights_that_were_saved(own_module, network, both, tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), file)
    classifier = module_classifier(path=f"{own_module}:build", arguments={"units": 3}, weights_path=file, **PREPARATION)
    assert (classifier.layer, classifier.vocabulary.size, classifier.exclusive) == ("4", 3, None)
    found = Explainer(classifier, partial(ExcitationBackprop, contrastive=True))(both, NAMES[:2])
    torch.testing.assert_close(found.maps, explain(network, both, NAMES[:2], **PREPARATION).maps)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_faces", "model.path is PACKAGE.MODULE:NAME, such as torchvision.models:resnet18, got 'own_faces'"),
        ("own_facets:made", "own_facets cannot be imported .*No module named 'own_facets'"),
        ("own_broken:made", "own_broken cannot be imported .*No module named 'nowhere_to_be_found'"),
        ("own_faces:maed", r"own_faces has no 'maed': did you mean made\?"),
        ("own_faces:build", "own_faces:build cannot be called: .*units"),
        ("own_faces:nothing", "own_faces:nothing is to be or to make an nn.Module, but made dict"),
    ],
)
def test_a_path_that_makes_no_network_is_an_error(own_module, path, message):
    with pytest.raises(ValueError, match=message) as raised:
        import_network(path, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"no weights", "no file of tensors alone"),
        ({"epoch": 3, "state_dict": {}}, "expected a state dict, tensors by name, got epoch, state_dict"),
        ({"0.weight": torch.zeros(8, 3, 3, 3)}, "0.bias is missing; weights of another network"),
        (small_network(4).state_dict(), r"11.weight is \(4, 16\), not \(3, 16\)"),
        (small_network(), "no file of tensors alone, and nothing else is read: save network.state_dict"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(tmp_path, content, message):
    file = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(ValueError, match=message) as raised:
        load_weights(small_network(), file)
    assert "\n" not in str(raised.value)


def test_broken_safetensors_are_an_error(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="truncated, or no file of weights"):
        load_weights(small_network(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a", "b"]}, "model.class_names has 2 names, but the network has 3 units"),
        ({"class_names": ["a", "b", "a"]}, "model.class_names has 'a' more than once"),
        ({"mean": [0.5]}, "model.mean and model.std are of red, green and blue"),
        ({"layer": "nowhere"}, "no layer 'nowhere' in the network; layers of activation neurons are: 1, "),
        ({"classes": "red square"}, "classes are a list"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_an_error(network, options, message):
    with pytest.raises(ValueError, match=message):
        explain(network, torch.rand(3, SIDE, SIDE), **{"short_side": SIDE, **options})


def test_a_network_of_squares_says_so_when_a_photo_is_none():
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, 2))
    assert explain(fixed, torch.rand(3, 60, 60), short_side=SIDE).maps.shape == (2, SIDE, SIDE)
    with pytest.raises(ValueError, match=r"cannot be run on 48×96 pixels: .*squares alone"):
        explain(fixed, torch.rand(3, 60, 120), short_side=SIDE)
