"""A training ends where its loss has stopped falling."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tag_runs import TINY, assert_same_weights, read_log, read_weights, train_small, write_photos

from train.stopping import is_at_plateau, period_losses

CONSTANT = replace(TINY, schedule="constant")


@given(
    st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=1, max_size=5), st.sets(st.integers(1, 15))
)
def test_the_loss_of_a_period_is_the_mean_of_its_steps_wherever_there_are_rows(periods, more):
    losses = [loss for period in periods for loss in period]
    steps = sorted({*range(3, len(losses) + 1, 3), *(step for step in more if step <= len(losses))})
    rows = [
        {"step": step, "loss": sum(losses[before:step]) / (step - before)}
        for before, step in zip([0, *steps], steps, strict=False)
    ]
    means = [sum(period) / 3 for period in periods]
    assert period_losses(rows, 3) == pytest.approx(means)
    assert period_losses(rows[: steps.index(3)], 3) == []  # a period that is not over has none


@pytest.mark.parametrize(
    ("losses", "share", "expected"),
    [
        ([], 0.01, False),
        ([5.0], 0.01, False),
        ([5.0, 4.9], 0.01, False),
        ([5.0, 4.96], 0.01, True),
        ([5.0, 4.96], 0, False),
        ([5.0, 5.0], 0, True),
        ([5.0, 4.0, 4.5, 3.99], 0.01, True),  # compared with the lowest, not with the last
    ],
)
def test_a_plateau_is_a_loss_that_is_not_lower_by_a_share_than_the_lowest(losses, share, expected):
    rows = [{"step": 2 * number, "loss": loss} for number, loss in enumerate(losses, 1)]
    assert is_at_plateau(rows, 2, share) is expected


def test_a_run_ends_at_the_plateau_with_the_weights_of_a_shorter_run(tmp_path, caplog):
    caplog.set_level("INFO")
    write_photos(tmp_path)
    stopping = replace(CONSTANT, epochs=5, stop_at_plateau=0.9)  # no loss falls to a tenth in an epoch
    stopped = train_small(tmp_path, tmp_path / "stopped", stopping)
    assert "the training loss has stopped falling: the run ends after step 10 of 25" in caplog.text
    shorter = train_small(tmp_path, tmp_path / "shorter", CONSTANT)
    assert read_log(stopped) == read_log(shorter)
    weights = read_weights(stopped)
    assert_same_weights(weights, read_weights(shorter))
    assert_same_weights(weights, read_weights(train_small(tmp_path, tmp_path / "stopped", stopping)))
    assert {row["learning_rate"] for row in read_log(stopped)} == {"0.01"}
