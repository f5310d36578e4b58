import inspect
import json
from functools import partial
from pathlib import Path

import pytest
from command_settings import composed
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from grounding.checkpoint import load_checkpoint
from grounding.command_line import free_texts
from grounding.config import CONFIG_DIR
from grounding.quoting import quote_free_text

AWKWARD = [
    'A man, 40 (left), says "hi"',
    "it's a 'quoted' cat",
    "C:\\photos\\new\\'cat'\\",
    "a=b, c: d; {e} [f]",
    "costs $5, ${oc.env:HOME} or \\${x}",
    "~/photos/a b (1).jpg",
    "猫と犬, кошка, قطة 🐈",
    "null",
    "true",
    "007",
    "",
    " padded ",
    "tab\tand\nline",
    "#no comment",
    "a\\",
    "???",
    "${",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_arrives_as_typed(text):
    assert free_texts(composed(*quote_free_text([f"caption={text}"])), "caption") == [text]


@settings(max_examples=15)
@given(st.lists(st.text() | st.text(alphabet="\\'\"${}[]=,: a"), min_size=1, max_size=30))
def test_any_texts_arrive_as_typed(texts):
    typed = composed(*quote_free_text([f"caption={text}" for text in texts]))
    assert free_texts(typed, "caption") == texts


def test_texts_given_several_times_form_a_list_and_other_settings_stay():
    arguments = ["caption=A cat, big", "device=cpu", "caption=It's", "image=a=b.jpg", "-m", "scoring.count=1,2"]
    quoted = quote_free_text(arguments)
    assert quoted[1:2] + quoted[3:] == ["device=cpu", "-m", "scoring.count=1,2"]
    typed = composed(quoted[0], quoted[2])
    assert typed.caption == ["A cat, big", "It's"]
    assert typed.image == ["a=b.jpg"]


@pytest.mark.parametrize("path", [path for path in AWKWARD if path != "???"])
def test_awkward_paths_arrive_as_typed_but_in_a_sweep_commas_separate_them(path):
    words = [f"proposals.path={path}", "proposals=stored"]
    assert composed(*quote_free_text(words)).proposals.path == path
    assert quote_free_text(["proposals.path=a.h5,b.h5", "-m"]) == ["proposals.path=a.h5,b.h5", "-m"]


OPTIONS = sorted(
    (path.parent.name, path.stem) for path in Path(CONFIG_DIR).glob("*/*.yaml") if path.parent.name != "experiment"
)
# Values that differ from the constructor's default on purpose: those of variants, and `signed` for any network.
DEVIATIONS = {
    ("attention", "best"): {"parts.whole.signed", "parts.fine.signed"},
    ("attention", "cmwp"): {"signed"},
    ("attention", "cmwp_star"): {"signed", "at"},
    ("attention", "d_wta"): {"signed"},
    ("attention", "deconv_at_layer"): {"at"},
    ("attention", "grad_at_layer"): {"at"},
    ("attention", "mwp"): {"signed", "contrastive"},
    ("attention", "post_norm"): {"method.signed", "method.contrastive", "method.normalised"},
    ("attention", "without_norm"): {"signed", "normalised"},
    ("proposals", "edge_boxes_200"): {"count"},
    ("proposals", "mcg_fast"): {"scales"},
    ("proposals", "scg"): {"scales", "candidates"},
}


def option(group, name):
    """The plain settings of an option of a group."""
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return OmegaConf.to_container(compose(overrides=[f"+{group}={name}"])[group])


def deviations(part, prefix=""):
    """The values of a part, and of the parts that it consists of, that are not the constructor's defaults."""
    target = get_method(part["_target_"])
    parameters = inspect.signature(target).parameters
    for name, value in part.items():
        if name in ("_target_", "_partial_", "scoring"):  # the pipeline takes the scoring of an attention method
            continue
        assert name in parameters, f"{part['_target_']} takes no {prefix}{name}"
        default = parameters[name].default
        is_reference = isinstance(value, str) and value.startswith("${")
        if is_part(value):
            yield from deviations(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(map(is_part, value.values())):
            for key, each in value.items():
                yield from deviations(each, f"{prefix}{name}.{key}.")
        elif default is not inspect.Parameter.empty and not is_reference and alike(value) != alike(default):
            yield f"{prefix}{name}"


def is_part(value):
    return isinstance(value, dict) and "_target_" in value


def alike(value):
    """A value as JSON, in which lists and tuples are alike."""
    return json.dumps(value)


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_fits_its_constructor_and_has_the_same_defaults(group, name):
    assert set(deviations(option(group, name))) == DEVIATIONS.get((group, name), set())


def test_the_default_command_is_pinned():
    settings = composed(return_hydra_config=True)
    choices = settings.hydra.runtime.choices
    assert (choices.model, choices.attention, choices.proposals) == ("checkpoint", "best", "mcg")
    assert settings.model.checkpoint == "efficientnet_lite2_places"
    assert (settings.scoring.overlap, settings.scoring.count) == (0.7, 10)
    assert settings.proposals.count == 500
    assert settings.attention.scales == {"whole": 1.0, "fine": 1.3}
    assert settings.attention.scoring == {
        "area_exponent": {"segments": 0.4, "boxes": 0.35},
        "area_exponent_by_kind": {"part": 0.2, "scene": -0.15, "object": 0.05},
        "clothing_weight": 0.0,
    }


def test_layer_window_and_size_of_every_model_are_pinned():
    models = {name: option("model", name) for group, name in OPTIONS if group == "model"}
    assert {name: (model["layer"], model["window"], model["short_side"]) for name, model in models.items()} == {
        "caffe_googlenet": ("pool2", 7, 300),
        "caffe_resnet50": ("layer3", 7, 300),
        "caffe_vgg16": ("features.23", 7, 300),
        "checkpoint": (None, "as trained", None),
        "cnn_s": ("relu5", 6, 300),
        "efficientnet_lite2_imagenet": ("blocks.5.0.bn1", 8, 400),
        "googlenet": ("maxpool2", 7, 300),
        "mobilenet_v2": ("features.14.conv.0", 7, 300),
        "module": (None, None, 224),
        "resnet50": ("layer3", 7, 300),
        "squeezenet1_1": ("features.5", 7, 300),
        "open_clip": ("layer3", 7, 300),
        "timm": (None, 7, 300),
        "torchvision": (None, 7, 300),
        "vgg16": ("features.23", 7, 300),
    }


@pytest.mark.parametrize(
    ("checkpoint", "window"), [("efficientnet_lite2_places", None), ("efficientnet_lite2_tags", 8)]
)
def test_layer_window_and_size_of_the_packaged_checkpoints_are_pinned(checkpoint, window):
    classifier = load_checkpoint(checkpoint=checkpoint)
    assert (classifier.layer, classifier.window, classifier.short_side) == ("blocks.5.0.bn1", window, 400)


def test_a_misspelt_setting_fails():
    with pytest.raises(Exception, match="cuont"):
        composed("scoring.cuont=3")
    with pytest.raises(Exception, match="many"):
        composed("scoring.count=many")


def test_attention_is_a_partial_that_waits_for_its_network():
    from hydra.utils import instantiate

    assert isinstance(instantiate(composed().attention), partial)
