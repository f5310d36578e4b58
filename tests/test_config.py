import inspect
import json
from functools import partial
from pathlib import Path

import pytest
from command_settings import composed
from hydra.utils import get_method
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from grounding.command_line import free_texts
from grounding.config import CONFIG_DIR
from grounding.quoting import quote, quote_free_text

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


@settings(max_examples=50)
@given(st.text())
def test_any_text_arrives_as_typed(text):
    assert free_texts(composed(f"caption=[{quote(text)}]"), "caption") == [text]


@settings(max_examples=50)
@given(st.text(alphabet="\\'\"${}[]=,: a"))
def test_any_mixture_of_special_characters_arrives_as_typed(text):
    assert free_texts(composed(f"image=[{quote(text)}]"), "image") == [text]


def test_texts_given_several_times_form_a_list_and_other_settings_are_left_alone():
    arguments = ["caption=A cat, big", "device=cpu", "caption=It's", "image=a=b.jpg", "-m", "scoring.count=1,2"]
    quoted = quote_free_text(arguments)
    assert quoted[1:2] + quoted[3:] == ["device=cpu", "-m", "scoring.count=1,2"]
    typed = composed(quoted[0], quoted[2])
    assert typed.caption == ["A cat, big", "It's"]
    assert typed.image == ["a=b.jpg"]


@pytest.mark.parametrize("path", [path for path in AWKWARD if path != "???"])
def test_awkward_paths_arrive_as_typed_but_a_sweep_tries_several(path):
    words = [f"proposals.path={path}", "proposals=stored"]
    assert composed(*quote_free_text(words)).proposals.path == path
    assert quote_free_text(["proposals.path=a.h5,b.h5", "-m"]) == ["proposals.path=a.h5,b.h5", "-m"]


OPTIONS = sorted(
    (path.parent.name, path.stem) for path in Path(CONFIG_DIR).glob("*/*.yaml") if path.parent.name != "experiment"
)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_fits_the_signature_of_its_target(group, option):
    config = {"data": "propose", "task": "train", "preset": "eval"}.get(group, "ground")
    if group == "preset":
        settings = composed(f"+preset@presets.mine={option}", config=config).presets.mine
    else:
        settings = composed(f"{group}={option}", config=config)[group]
    part = OmegaConf.to_container(settings)
    target = get_method(part.pop("_target_"))
    part.pop("_partial_", None)
    part.pop("scoring", None)  # what was chosen for an attention method, which the pipeline takes
    parameters = inspect.signature(target).parameters
    assert set(part) <= set(parameters)
    for name, value in part.items():  # a default of the constructor is not contradicted by the main options
        default = parameters[name].default
        if (group, option) in (
            ("proposals", "edge_boxes"),
            ("proposals", "mcg"),
        ) and default is not inspect.Parameter.empty:
            assert json.dumps(value) == json.dumps(default)  # lists and tuples are alike


def test_a_misspelt_setting_fails():
    with pytest.raises(Exception, match="cuont"):
        composed("scoring.cuont=3")
    with pytest.raises(Exception, match="many"):
        composed("scoring.count=many")


def test_partial_is_how_attention_waits_for_its_network():
    from hydra.utils import instantiate

    assert isinstance(instantiate(composed().attention), partial)
