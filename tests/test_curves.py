import csv
import io

import numpy as np
import pytest
from PIL import Image

from train.curves import draw_curves
from train.progress import COLUMNS, Board, write_log

ROWS = [
    {"step": 20, "epoch": 0.5, "learning_rate": 1e-4, "loss": 9.87654321, "photos_per_second": 100.0},
    {"step": 1234567, "epoch": 1.0, "learning_rate": 1e-5, "loss": 5.0, "validation_loss": 6.0, "mean_ap": 0.25},
]


def test_values_that_were_not_measured_are_empty_in_the_table(tmp_path):
    write_log(tmp_path, ROWS, with_picture=True)
    first, second = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert tuple(first) == COLUMNS
    assert list(first.values()) == ["20", "0.5", "0.0001", "9.87654", "100", "", ""]
    assert list(second.values()) == ["1234567", "1", "1e-05", "5", "", "6", "0.25"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    write_log(tmp_path, ROWS[:1], with_picture=False)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.csv"]


def test_the_log_can_be_written_without_the_picture(tmp_path):
    write_log(tmp_path, ROWS, with_picture=False)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def blue_and_orange(rows):
    pixels = np.asarray(Image.open(io.BytesIO(draw_curves(rows))).convert("RGB")).astype(int)
    red, blue = pixels[..., 0], pixels[..., 2]
    return (blue - red > 60).sum(), (red - blue > 100).sum(), len(pixels)


def test_curves_show_training_validation_and_a_second_panel_for_precision():
    blue, orange, height = blue_and_orange(ROWS)
    assert blue > 500
    assert orange > 200
    blue_alone, orange_alone, lower = blue_and_orange(ROWS[:1])  # one point
    assert blue_alone > 20
    assert orange_alone == 0
    assert lower < height
    _, less_orange, as_low = blue_and_orange([ROWS[0], {**ROWS[1], "mean_ap": None}])
    assert 0 < less_orange < orange
    assert as_low == lower


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 3.0, "validation_loss": 3.0, "mean_ap": 0.0}]])
def test_a_run_that_has_just_begun_has_a_picture_too(rows):
    assert Image.open(io.BytesIO(draw_curves(rows))).size[0] == 960


def test_tensorboard_gets_the_measured_values(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = Board(tmp_path / "board", 0)
    for row in ROWS:
        board.add({**row, "mean_ap": row.get("mean_ap")})
    board.close()
    found = event_accumulator.EventAccumulator(str(tmp_path / "board"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("mean_ap")] == [(1234567, 0.25)]
    assert [event.step for event in found.Scalars("loss")] == [20, 1234567]
    nothing = Board(None, 0)
    nothing.add(ROWS[0])
    nothing.close()
