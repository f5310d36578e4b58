"""A training that is stopped, or shared by processes, ends with the weights of one that is not."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import run_process, run_processes
from tag_runs import (
    TINY,
    assert_same_weights,
    read_log,
    read_weights,
    train_in_process,
    train_small,
    train_until,
    write_photos,
)

EMA = replace(TINY, optimiser="adamw", learning_rate=0.001, ema_decay=0.9, save_every=3)
PLATEAU = replace(TINY, schedule="plateau", validate_every=2, accumulation_steps=2, clip=5.0, save_every=3)
PLACES = replace(EMA, trained="blocks.3", pooling="lse", distil=0.5, colour=0.3, accumulation_steps=2)
CONTRAST = replace(EMA, contrast=2.0, batch_norm="frozen", pooling="lse", colour=0.3, accumulation_steps=2)
STOPPED = replace(EMA, schedule="constant", epochs=4, stop_at_plateau=0.9)
STOPPED_AT = 7  # of ten steps; the second epoch's third


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


def last_step(folder):
    return int(read_log(folder)[-1]["step"])


@pytest.mark.parametrize(
    "training",
    [EMA, PLATEAU, PLACES, CONTRAST, STOPPED],
    ids=["ema", "plateau", "places", "contrast", "stopped at a plateau"],
)
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_with_the_weights_of_an_unbroken_one(photos, tmp_path, training):
    def stop():
        raise InterruptedError

    keep = 1 if training.distil else None
    with pytest.raises(InterruptedError):
        train_until(STOPPED_AT, stop, photos, tmp_path / "stopped", training, keep)
    check_resumed(photos, tmp_path / "stopped", training, keep)


@pytest.mark.slow
def test_a_run_whose_process_was_killed_ends_with_the_weights_of_an_unbroken_one(photos, tmp_path):
    assert run_process(train_in_process, photos, tmp_path / "killed", EMA, STOPPED_AT) == -signal.SIGKILL
    check_resumed(photos, tmp_path / "killed", EMA)


def check_resumed(photos, folder, training, keep=None):
    """The run in a folder, resumed, comes to the weights and the log of one that was never stopped."""
    assert last_step(folder) == 6
    train_small(photos, folder, training, keep=keep)
    whole = train_small(photos, folder.with_name("whole"), training, keep=keep)
    assert last_step(folder) == 10
    assert_same_weights(read_weights(whole), read_weights(folder))
    assert read_log(whole) == read_log(folder)


@pytest.mark.slow
def test_two_processes_train_as_one_and_are_resumed_exactly(photos, tmp_path):
    training = replace(EMA, optimiser="sgd", learning_rate=0.01, batch_norm="frozen", accumulation_steps=2)
    assert run_processes(2, train_in_process, photos, tmp_path / "two", training) == [0, 0]
    ended = run_processes(2, train_in_process, photos, tmp_path / "killed", training, STOPPED_AT)
    assert ended == [-signal.SIGKILL] * 2
    assert last_step(tmp_path / "killed") == 6
    assert run_processes(2, train_in_process, photos, tmp_path / "killed", training) == [0, 0]
    assert_same_weights(read_weights(tmp_path / "two"), read_weights(tmp_path / "killed"))
    assert read_log(tmp_path / "two") == read_log(tmp_path / "killed")
    one = train_small(photos, tmp_path / "one", training)
    assert_same_weights(read_weights(one), read_weights(tmp_path / "two"), atol=1e-6, rtol=1e-4)
    for row, row_of_two in zip(read_log(one), read_log(tmp_path / "two"), strict=True):
        for name, value in row.items():
            found = row_of_two[name]
            assert (value == found == "") or float(value) == pytest.approx(float(found), rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_two_processes_share_the_features_of_a_head(photos, tmp_path):
    training = replace(TINY, trained="head", views=1, schedule="plateau")
    assert run_processes(2, train_in_process, photos, tmp_path / "two", training) == [0, 0]
    one = train_small(photos, tmp_path / "one", training)
    assert_same_weights(read_weights(one), read_weights(tmp_path / "two"), atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_torchrun_starts_the_command_in_two_processes(photos, tmp_path):
    training = ["epochs=1", "batch_size=4", "resize=[40,48]", "crop=32", "workers=0", "batch_norm=frozen", "half=false"]
    settings = ["model=timm", "model.name=test_efficientnet", "model.pretrained=false", "model.layer=blocks.2"]
    settings += ["data=tagged", f"data.path={photos}/train.jsonl"]
    settings += ["data@validation=tagged", f"validation.path={photos}/val.jsonl"]
    settings += ["task.device=cpu", "task.lemmatise=false", *(f"task.training.{one}" for one in training)]
    launchers = {"one": [], "two": ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]}
    for name, launcher in launchers.items():
        output = [f"task.output={tmp_path / name}", f"hydra.run.dir={tmp_path / 'log'}"]
        ended = subprocess.run(
            [sys.executable, "-m", *launcher, "train", *settings, *output],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert ended.returncode == 0, ended.stderr
    weights = [read_weights(tmp_path / name) for name in launchers]
    assert_same_weights(*weights, atol=1e-6, rtol=1e-4)
