from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from eval.protocols import BoxProtocol, PointingProtocol
from grounding.config import CONFIG_DIR

BOXES = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=True, per_type=True, small=0.25)
MDETR = BoxProtocol(truth="any", iou="continuous", suppression=None, parsed_only=False, per_type=False, small=0.25)
POINT = PointingProtocol(unit="phrase", target="any", point="map", least_area=0.05, least_area_of="union")
PRESETS = {
    "iccv15": BOXES,
    "zhang18": replace(BOXES, parsed_only=False),
    "mdetr_any": MDETR,
    "mdetr_merged": replace(MDETR, truth="union"),
    "pointing_mg": POINT,
    "pointing_entity": replace(POINT, unit="entity", target="union", least_area_of="first"),
    "pointing_entity_all": replace(POINT, unit="entity", target="union", least_area=0.0, least_area_of="first"),
    "pointing_infoground": replace(POINT, point="box", least_area=0.0),
}


def test_the_presets_are_those_of_the_specification():
    assert {path.stem for path in Path(CONFIG_DIR, "preset").glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_and_has_its_values(name):
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        settings = compose(f"preset/{name}").preset
    assert instantiate(settings) == PRESETS[name]
    first = Path(CONFIG_DIR, "preset", f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")


@pytest.mark.parametrize(
    ("protocol", "setting", "value", "message"),
    [
        (BOXES, "truth", "all", r"preset\.truth must be union or any, got 'all'"),
        (BOXES, "iou", "exclusive", r"preset\.iou must be inclusive or continuous"),
        (BOXES, "suppression", 1.5, r"preset\.suppression must be null or from 0 to 1, got 1\.5"),
        (BOXES, "suppression", "none", r"preset\.suppression must be null or from 0 to 1, got 'none'"),
        (BOXES, "suppression", False, r"preset\.suppression must be null or from 0 to 1, got False"),
        (BOXES, "suppression", float("nan"), r"preset\.suppression .* got nan"),
        (BOXES, "parsed_only", 1, r"preset\.parsed_only must be true or false, got 1"),
        (BOXES, "per_type", None, r"preset\.per_type must be true or false, got None"),
        (BOXES, "small", -0.1, r"preset\.small must be from 0 to 1, got -0\.1"),
        (BOXES, "small", None, r"preset\.small must be from 0 to 1, got None"),
        (POINT, "unit", "photo", r"preset\.unit must be phrase or entity, got 'photo'"),
        (POINT, "target", None, r"preset\.target must be union or any, got None"),
        (POINT, "point", "centre", r"preset\.point must be map or box"),
        (POINT, "least_area", 5, r"preset\.least_area must be from 0 to 1, got 5"),
        (POINT, "least_area_of", "last", r"preset\.least_area_of must be union or first"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(protocol, setting, value, message):
    with pytest.raises(ValueError, match=message) as error:
        replace(protocol, **{setting: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("setting", "value"), [("suppression", 0), ("suppression", 1), ("small", 0), ("small", 1.0)])
def test_the_limits_themselves_are_allowed(setting, value):
    assert asdict(replace(BOXES, **{setting: value}))[setting] == value


def test_every_setting_is_to_be_given_and_stays():
    with pytest.raises(TypeError, match="least_area_of"):
        PointingProtocol(unit="phrase", target="any", point="map", least_area=0.05)
    with pytest.raises(FrozenInstanceError):
        BOXES.truth = "any"
