import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from train.state import is_same, load_values, save_values, seed_torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), shapes, st.sampled_from(DTYPES))
keys = st.integers() | st.text() | st.sampled_from(["__tensor__", "__pairs__"])
states = st.recursive(
    plain | tensors, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


def assert_same(found, expected):
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(found) is type(expected)
        assert found == expected


@settings(max_examples=40)
@given(states)
def test_a_state_comes_back_as_it_was(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "state.safetensors"
    save_values(path, state)
    assert_same(load_values(path), state)


def test_a_run_goes_on_with_its_optimiser_and_its_schedule(tmp_path):
    def parts():
        torch.manual_seed(0)
        network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(network.parameters(), betas=(0.8, 0.9), fused=True)
        return network, optimiser, torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)

    def step(network, optimiser, schedule):
        optimiser.zero_grad()
        network(torch.linspace(0, 1, 150).reshape(2, 3, 5, 5)).square().sum().backward()
        optimiser.step()
        schedule.step(1.0)

    whole = parts()
    save_values(tmp_path / "state", [part.state_dict() for part in whole])
    assert math.isinf(load_values(tmp_path / "state")[2]["best"])
    step(*whole)
    save_values(tmp_path / "state", [part.state_dict() for part in whole])
    resumed = parts()
    for part, state in zip(resumed, load_values(tmp_path / "state"), strict=True):
        part.load_state_dict(state)
    for _ in range(2):
        step(*whole)
        step(*resumed)
    assert torch.equal(whole[0].weight, resumed[0].weight)
    assert whole[2].state_dict() == resumed[2].state_dict()


def test_tensors_that_share_memory_are_kept_each_and_what_changes_later_is_not(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_values(tmp_path / "state", {"a": weight, "b": weight.T, "c": weight[0]})
    weight.zero_()
    found = load_values(tmp_path / "state")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["c"].tolist() == [0, 1, 2]


def test_tensors_lie_in_memory_as_they_did(tmp_path):
    weights = [torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.rand(3, 2).T]
    save_values(tmp_path / "state", weights)
    found = load_values(tmp_path / "state")
    assert [value.stride() for value in found[:2]] == [value.stride() for value in weights[:2]]
    assert all(torch.equal(one, other) for one, other in zip(found, weights, strict=True))


def test_nan_and_broken_names_of_files_come_back(tmp_path):
    save_values(tmp_path / "state", [math.nan, "\udcff.jpg", -math.inf, 0.1])
    nan, *others = load_values(tmp_path / "state")
    assert math.isnan(nan)
    assert others == ["\udcff.jpg", -math.inf, 0.1]


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", {(1, 2): 3}])
def test_what_no_state_can_hold_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="the state of a training run holds"):
        save_values(tmp_path / "state", {"a": [value]})
    assert not list(tmp_path.iterdir())


def foreign(metadata):
    def make(path):
        save_file({"weight": torch.zeros(2)}, path, metadata)

    return make


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"junk, and more of it"),
        foreign(None),
        foreign({"state": "{"}),
        foreign({"state": '{"step": 1}'}),
        foreign({"state": '{"__tensor__": "000000"}'}),
        foreign({"state": '{"__pairs__": 3}'}),
        foreign({"state": '{"__pairs__": [[[1], 2]]}'}),
        foreign({"state": "[" * 100_000}),
    ],
)
def test_a_file_that_is_no_state_gets_one_line(tmp_path, make):
    path = tmp_path / "state.safetensors"
    make(path)
    with pytest.raises(
        ValueError, match=r"state\.safetensors: no state of a training run, or damaged: .*delete it"
    ) as e:
        load_values(path)
    assert "\n" not in str(e.value)


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_a_state_that_is_cut_off_anywhere_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    save_values(path, {"weights": torch.arange(50), "step": 3})
    content = path.read_bytes()
    path.write_bytes(content[: length % len(content)])
    with pytest.raises(ValueError, match="damaged"):
        load_values(path)


def test_a_state_that_cannot_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(OSError, match=r"state cannot be read: No such file"):
        load_values(tmp_path / "state")


def test_an_interrupted_write_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state"
    save_values(path, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        save_values(path, {"step": 2})
    assert load_values(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ([256, 288], (256, 288), True),
        ({"a": 1, "b": None}, {"b": None, "a": 1}, True),
        (0, 0.0, True),
        ([256], (256, 288), False),
        (None, 0, False),
        ("1", 1, False),
    ],
)
def test_settings_from_a_file_are_compared_with_those_in_use(found, expected, same):
    assert is_same(found, expected) == same


def test_what_is_drawn_follows_from_the_numbers_alone():
    def drawn(*numbers):
        seed_torch(*numbers)
        return torch.rand(3).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    different = [drawn(), drawn(0), drawn(0, 0), drawn(1, 0), drawn(0, 1), drawn(0, 1, 0), drawn(2**31, 10**9, 7)]
    assert len({tuple(values) for values in different}) == len(different)
