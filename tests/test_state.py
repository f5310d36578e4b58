import json
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from train.averaging import averaged_model
from train.state import (
    TrainingState,
    is_same,
    load_values,
    resume_training,
    save_training,
    save_values,
    seed_torch,
)

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


def small_training(schedule):
    """A network with its average, a fused optimiser and a schedule, before the first step."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.8, 0.9), fused=True)
    schedules = {
        "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser),
        "cosine": lambda: torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step)),
        "one cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=9),
    }
    return TrainingState(network, optimiser, schedules[schedule](), averaged_model(network, 0.5))


def take_steps(state, count):
    for _ in range(count):
        state.optimiser.zero_grad()
        state.network(torch.linspace(0, 1, 150).reshape(2, 3, 5, 5)).square().sum().backward()
        state.optimiser.step()
        if isinstance(state.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            state.schedule.step(1.0)
        else:
            state.schedule.step()
        state.average.update_parameters(state.network)
        state.step += 1
        state.rows.append({"step": state.step, "loss": 1 / 3})


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "one cycle"])
@pytest.mark.parametrize("stopped_at", [0, 2])
def test_a_training_continues_exactly_from_its_file(tmp_path, schedule, stopped_at):
    whole, stopped, resumed = (small_training(schedule) for _ in range(3))
    take_steps(whole, 4)
    take_steps(stopped, stopped_at)
    stopped.note_unreadable(["b.png: broken", "a.png: broken", "b.png: broken"])
    save_training(tmp_path / "state", stopped, {"sides": (1, 2)})
    resume_training(tmp_path / "state", resumed, {"sides": (1, 2)}, run=tmp_path)
    assert resumed.step == stopped_at
    assert list(resumed.unreadable) == ["b.png: broken", "a.png: broken"]
    take_steps(resumed, 4 - stopped_at)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    for name, value in whole.average.state_dict().items():
        assert torch.equal(resumed.average.state_dict()[name], value), name
    assert alike(resumed.schedule.state_dict()) == alike(whole.schedule.state_dict())
    assert resumed.rows == whole.rows


def alike(values):
    """Values after a round trip through JSON, which turns tuples into lists."""
    return json.loads(json.dumps(values))


def test_a_state_of_other_settings_or_of_another_training_is_refused(tmp_path):
    path = tmp_path / "state"
    save_training(path, small_training("plateau"), {"rate": 1, "words": 3})
    with pytest.raises(ValueError, match=r"state belongs to other settings \(rate, sides\): .* or delete run"):
        resume_training(path, small_training("plateau"), {"rate": 2, "words": 3, "sides": 1}, run="run")
    other = small_training("plateau")
    other.network.append(torch.nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match=r"state: not a state of this training: .*; delete it") as error:
        resume_training(path, other, {"rate": 1, "words": 3}, run="run")
    assert "\n" not in str(error.value)
    save_values(path, [1, 2])
    with pytest.raises(ValueError, match="state: not a state of this training"):
        resume_training(path, other, {"rate": 1}, run="run")


def test_tensors_that_share_memory_are_saved_one_by_one_as_they_are_now(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_values(tmp_path / "state", {"a": weight, "b": weight.T, "c": weight[0]})
    weight.zero_()
    found = load_values(tmp_path / "state")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["c"].tolist() == [0, 1, 2]


def test_tensors_keep_their_memory_layout(tmp_path):
    weights = [torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.rand(3, 2).T]
    save_values(tmp_path / "state", weights)
    found = load_values(tmp_path / "state")
    assert [value.stride() for value in found[:2]] == [value.stride() for value in weights[:2]]
    assert all(torch.equal(one, other) for one, other in zip(found, weights, strict=True))


def test_nan_infinity_and_file_names_that_are_not_utf8_come_back(tmp_path):
    save_values(tmp_path / "state", [math.nan, "\udcff.jpg", -math.inf, 0.1])
    nan, *others = load_values(tmp_path / "state")
    assert math.isnan(nan)
    assert others == ["\udcff.jpg", -math.inf, 0.1]


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", {(1, 2): 3}])
def test_values_of_other_types_are_refused(tmp_path, value):
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
def test_a_file_that_is_no_state_gets_a_one_line_error(tmp_path, make):
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


def test_random_numbers_follow_from_the_seeds_alone():
    def drawn(*numbers):
        seed_torch(*numbers)
        return torch.rand(3).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    different = [drawn(), drawn(0), drawn(0, 0), drawn(1, 0), drawn(0, 1), drawn(0, 1, 0), drawn(2**31, 10**9, 7)]
    assert len({tuple(values) for values in different}) == len(different)
