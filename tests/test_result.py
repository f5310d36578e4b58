"""Results: read, checked and saved."""

import json
import math
from dataclasses import replace

import pytest
from example_results import example_result, measured
from pydantic import ValidationError

from eval.result import from_dict, read_result, read_results, save_result, to_dict


def test_a_result_survives_its_file(tmp_path):
    result = example_result("c-MWP (MCG), scale 1.5", split="part of val")
    path = save_result(result, tmp_path / "new")
    assert path.name == "c-MWP_MCG_scale_1.5_part_of_val_012345.json"
    assert read_result(path) == result
    assert from_dict(to_dict(result)) == result
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_result_of_the_same_identity_gives_way(tmp_path):
    save_result(example_result(share=0.2), tmp_path)
    save_result(example_result(share=0.4), tmp_path)
    save_result(example_result(share=0.3, identity="another"), tmp_path)
    shares = [result.boxes["zhang18"].all.recall.at_1.share for result in read_results(tmp_path)]
    assert shares == [0.4, 0.3]


def test_presets_are_told_apart_by_their_kind():
    result = from_dict(to_dict(example_result()))
    assert list(result.boxes) == ["mdetr_any", "zhang18"]
    assert list(result.pointing) == ["pointing_mg"]


def test_boxes_of_a_file_are_not_ours():
    assert example_result().is_ours
    assert not example_result(predictions="boxes.json").is_ours


def test_a_result_cannot_be_made_of_what_is_no_share():
    with pytest.raises(ValidationError):
        replace(measured(0.4), share=40.0)
    with pytest.raises(ValidationError):
        replace(measured(0.4), share=math.nan)


MISSING = object()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 1, "expected a result of format 2, got 1; run python -m eval again"),
        ("name", MISSING, "name: field required"),
        ("name", "", "name: string should have at least 1 character"),
        ("manifest", MISSING, "manifest: field required"),
        ("manifest.gamma.value", 11, "manifest.gamma.value: input should be less than or equal to 10, got 11"),
        ("presets", {}, "presets: dictionary should have at least 1 item"),
        ("presets.zhang18.kind", "box", "presets.zhang18: input tag 'box' found"),
        ("presets.zhang18.all", None, "presets.zhang18.all: input should be an object, got None"),
        ("presets.zhang18.small.recall", MISSING, "presets.zhang18.small.recall: field required"),
        ("presets.zhang18.all.recall.at_5.share", MISSING, "presets.zhang18.all.recall.at_5.share: field required"),
        ("presets.zhang18.all.recall.at_1.share", 36.8, "should be less than or equal to 1, got 36.8"),
        ("presets.zhang18.all.recall.at_1.share", math.nan, "should be a finite number, got nan"),
        ("presets.zhang18.all.recall.at_1.interval", [0.1], r"interval\.1: field required"),
        ("presets.zhang18.all.precision.group", "1", "precision.group: input should be a valid number, got '1'"),
        ("presets.zhang18.all.instances", True, "instances: input should be a valid integer, got True"),
        ("presets.zhang18.protocol.truth", "both", "preset.truth must be union or any, got 'both'"),
        ("presets.pointing_mg.accuracy", MISSING, "presets.pointing_mg.accuracy: field required"),
        ("presets.pointing_mg.recall", 0.5, "presets.pointing_mg.recall: unexpected keyword argument"),
    ],
)
def test_a_damaged_result_names_its_file_and_field(tmp_path, field, value, message):
    values = at = to_dict(example_result())
    *names, last = field.split(".")
    for name in names:
        at = at[name]
    at.pop(last, None)
    if value is not MISSING:
        at[last] = value
    (tmp_path / "damaged.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"damaged\.json: .*{message}"):
        read_results(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "expected an object, got list")])
def test_a_file_of_something_else_is_named(tmp_path, text, message):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=rf"other\.json: {message}"):
        read_results(tmp_path)


def test_without_results_the_message_says_what_to_run_first(tmp_path):
    with pytest.raises(ValueError, match="no such folder; run python -m eval first"):
        read_results(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no result \(.json\) in it; run python -m eval first"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match=r"none\.json: No such file"):
        read_result(tmp_path / "none.json")
