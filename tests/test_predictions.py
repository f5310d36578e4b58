"""Reading and writing the scored boxes of other systems."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.predictions import read_predictions, write_json, write_text
from eval.records import Instance, Prediction
from grounding.records import Regions


def instance(photo, sentence, phrase):
    return Instance(
        photo, (100, 200), sentence, phrase, "a dog", (0, 5), "7", ("animals",), torch.ones(1, 4), "dog", True
    )


# Two captions of one photo and one of another; the first phrase of photo 12, caption 0 has no box.
INSTANCES = [instance("12", 0, 1), instance("12", 0, 2), instance("12", 1, 0), instance("345", 0, 0)]


def prediction(*rows):
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Prediction(Regions(table[:, 1:], table[:, 0]))


PREDICTIONS = [
    prediction((0.9, 0, 0, 10, 20), (0.1, 5.5, 6.25, 7, 8)),
    prediction(),
    prediction((-3, 1, 2, 1, 2)),  # a box without area
    prediction((2, 3.3, 4.7, 199.9, 99.9), (2, 0, 0, 1, 1), (1e-30, 0, 0, 1, 1)),
]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.regions.boxes, other.regions.boxes)
        assert torch.equal(one.regions.scores, other.regions.scores)
        assert one.regions.boxes.shape[1] == 4


def folder_of(tmp_path, **files):
    folder = tmp_path / "boxes"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.lstrip("n").replace("_txt", ".txt")).write_text(text)
    return folder


def test_a_folder_is_read_as_it_was_written(tmp_path):
    write_text(tmp_path / "new" / "folder", INSTANCES, PREDICTIONS)
    read = read_predictions(tmp_path / "new" / "folder", INSTANCES)
    assert_same(read.predictions, PREDICTIONS)
    assert read.missing == ()
    assert read.unused == ()


@pytest.mark.parametrize("name", ["boxes.json", "boxes.jsonl"])
def test_a_json_file_is_read_as_it_was_written(tmp_path, name):
    write_json(tmp_path / name, INSTANCES, PREDICTIONS)
    assert_same(read_predictions(tmp_path / name, INSTANCES).predictions, PREDICTIONS)
    # Predictions come in the order of the instances.
    reverse = read_predictions(tmp_path / name, INSTANCES[::-1])
    assert_same(reverse.predictions[::-1], PREDICTIONS)


CORNERS = st.integers(0, 2**16).map(lambda value: value / 2**7)
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)


@given(st.lists(st.tuples(FLOATS, CORNERS, CORNERS, CORNERS, CORNERS), max_size=4))
def test_scores_and_corners_are_kept_exactly(tmp_path_factory, rows):
    rows = [(s, min(a, c), min(b, d), max(a, c), max(b, d)) for s, a, b, c, d in rows]
    expected = [prediction(*sorted(rows, key=lambda row: -row[0]))]
    folder = tmp_path_factory.mktemp("boxes")
    write_text(folder / "text", INSTANCES[:1], expected)
    write_json(folder / "boxes.json", INSTANCES[:1], expected)
    assert_same(read_predictions(folder / "text", INSTANCES[:1]).predictions, expected)
    assert_same(read_predictions(folder / "boxes.json", INSTANCES[:1]).predictions, expected)


def test_text_has_inclusive_corners_counted_from_1(tmp_path):
    folder = folder_of(
        tmp_path, n12_1_2="0.2 1 1 10 20\n\n0.7 5 6 5 6\n0.7 2 2 3 3\n", n12_1_1="1 1 1 2 2", n345_1_1_txt=""
    )
    read = read_predictions(folder, INSTANCES)
    first = read.predictions[0].regions
    assert first.boxes.tolist() == [[4, 5, 5, 6], [1, 1, 3, 3], [0, 0, 10, 20]]  # equal scores as they stand
    assert first.scores.tolist() == pytest.approx([0.7, 0.7, 0.2])
    assert read.missing == ("12_1_3", "12_2_1")  # no file: no regions
    assert [len(each.regions) for each in read.predictions] == [3, 0, 0, 0]
    assert read.unused == ("12_1_1",)  # a phrase without boxes


def test_file_names_may_count_from_0(tmp_path):
    write_text(tmp_path / "boxes", INSTANCES, PREDICTIONS, first=0)
    assert (tmp_path / "boxes" / "12_0_1.txt").exists()
    assert_same(read_predictions(tmp_path / "boxes", INSTANCES, first=0).predictions, PREDICTIONS)
    with pytest.raises(ValueError, match=r"12_0_1.txt: sentences and phrases count from 1; .* set first to 0"):
        read_predictions(tmp_path / "boxes", INSTANCES)


def test_writing_again_rewrites_only_broken_or_missing_files(tmp_path):
    folder = tmp_path / "boxes"
    write_text(folder, INSTANCES, PREDICTIONS)
    untouched, broken, lost = (folder / name for name in ("12_1_2.txt", "12_2_1.txt", "345_1_1.txt"))
    before = untouched.stat().st_ino  # writing makes a new file
    broken.write_text("0.5 1 1")
    lost.unlink()
    write_text(folder, INSTANCES, PREDICTIONS)
    assert untouched.stat().st_ino == before
    assert_same(read_predictions(folder, INSTANCES).predictions, PREDICTIONS)


def test_hidden_files_and_those_of_a_killed_run_are_skipped(tmp_path):
    folder = folder_of(tmp_path, n12_1_2="1 1 1 2 2")
    (folder / ".DS_Store").write_bytes(b"\xff")
    (folder / "tmpabc.part").write_bytes(b"")
    assert len(read_predictions(folder, INSTANCES).predictions[0].regions) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 1 1 2\n", "12_1_2, line 1: expected confidence x1 y1 x2 y2, got '0.5 1 1 2'"),
        ("1 1 1 2 2\n0.5 a 1 2 2\n", "12_1_2, line 2: expected confidence"),
        ("nan 1 1 2 2", "line 1: expected finite numbers"),
        ("1 1 1 inf 2", "line 1: expected finite numbers"),
        ("1e39 1 1 2 2", "line 1: expected finite numbers"),
        ("1 9 1 2 2", "line 1: expected corners x1 y1 x2 y2, but"),
        ("1 1 9 2 2", "line 1: expected corners x1 y1 x2 y2, but"),
        (b"\xff\xfe", "12_1_2: not text"),
    ],
)
def test_a_broken_line_is_named(tmp_path, text, message):
    folder = folder_of(tmp_path)
    (folder / "12_1_2").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_predictions(folder, INSTANCES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["99_1_1"], "99_1_1: photo 99 is not among the 2 that are evaluated"),
        (["boxes.csv"], "boxes.csv: expected files named IMAGE_SENTENCE_PHRASE, such as 12_1_2"),
        (["12_1_2", "12_1_2.txt"], "12_1_2.txt: the same phrase as 12_1_2; keep only one"),
        ([], "boxes: no file for any of the 4 phrases, the first of which is 12_1_2"),
        (["12_1_1"], "boxes: no file for any of the 4 phrases"),
    ],
)
def test_a_folder_with_other_files_is_refused(tmp_path, names, message):
    folder = folder_of(tmp_path)
    for name in names:
        (folder / name).write_text("1 1 1 2 2")
    with pytest.raises(ValueError, match=message):
        read_predictions(folder, INSTANCES)


def record(photo, sentence, boxes, **more):
    return {"image_id": photo, "sentence_id": sentence, "boxes": boxes} | more


BOX = [1, 2, 3, 4]
RIGHT = [record(12, 0, [[BOX, [0, 0, 9, 9]], []]), record("12", 1, [[BOX]]), record(345, 0, [[BOX]])]


@pytest.mark.parametrize("is_lines", [False, True])
def test_records_without_scores_are_scored_by_rank(tmp_path, is_lines):
    path = tmp_path / "boxes.json"
    extra = record(12, 4, [])  # a sentence without phrases that have boxes
    path.write_text("\n".join(map(json.dumps, [*RIGHT, extra])) if is_lines else json.dumps([*RIGHT, extra]))
    read = read_predictions(path, INSTANCES)
    first, second, *_ = read.predictions
    assert first.regions.boxes.tolist() == [BOX, [0, 0, 9, 9]]
    assert first.regions.scores.tolist() == [1, 0.5]
    assert len(second.regions) == 0
    assert first.mass == 1
    assert first.point is None


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (RIGHT[:2], "1 of 3 sentences are missing, the first is image_id 345, sentence_id 0"),
        ([*RIGHT, record(99, 0, [])], "record 4: photo 99 is not among the 2"),
        ([*RIGHT, RIGHT[0]], "record 4: sentence 0 of photo 12 appears twice"),
        (
            [record(12, 0, [[BOX]])],
            r"record 1: boxes for 1 phrases; sentence 0 of photo 12 .* has 2 phrases with boxes",
        ),
        ([record(12, 3, [[BOX]])], r"sentence 3 of photo 12 .* has 0 phrases with boxes"),
        ([record(12, 1, [[[1, 2, 3]]])], r"record 1: expected a box \[x1, y1, x2, y2\] and a score, got \[1, 2, 3\]"),
        ([record(12, 1, [[[1, 2, 3, "4"]]])], r"expected a box"),
        ([record(12, 1, [[7]])], r"expected a box"),
        ([record(12, 1, [7])], "expected a list of boxes for each phrase, got 7"),
        ([record(12, 1, [[[1, 2, 0, 4]]])], "expected corners x1 y1 x2 y2, but"),
        ([record(12, 1, [[[1, 2, float("nan"), 4]]])], "expected finite numbers"),
        ([record(12, 1, [[[1, 2, 10**400, 4]]])], "expected finite numbers"),
        ([record(12, 1, [[BOX]], scores=[])], "expected scores nested like boxes, for 1 phrases"),
        ([record(12, 1, [[BOX]], scores=[[]])], "expected scores nested like boxes, 1 for this phrase"),
        ([record(12, 1, [[BOX, BOX]], scores=[[0.1, 0.2]])], "scores rise within a phrase"),
        ([record(True, 1, [[BOX]])], "expected image_id to be a number or a text, got True"),
        ([record(12, "1", [[BOX]])], "expected sentence_id to be a whole number from 0, got '1'"),
        ([record(12, 1, None)], "expected boxes to hold a list for each phrase, got NoneType"),
        ([5], "record 1: expected an object with image_id"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, records, message):
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match=rf"boxes.json.*{message}"):
        read_predictions(tmp_path / "boxes.json", INSTANCES)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b.json", "[1, 2", "b.json: not JSON"),
        ("b.jsonl", '{"image_id": 12,\n', "b.jsonl, line 1: not JSON"),
        ("b.jsonl", "", "b.jsonl: 3 of 3 sentences are missing"),
        ("b.csv", "", "b.csv: expected a folder of text files, or a .json or .jsonl file"),
    ],
)
def test_other_kinds_of_files_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / name, INSTANCES)
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder"):
        read_predictions(tmp_path / "nowhere", INSTANCES)
    with pytest.raises(ValueError, match="no phrase to read predictions for"):
        read_predictions(tmp_path / name, [])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([prediction()], "1 predictions for 4 phrases; expected one for each"),
        ([prediction((0.1, *BOX), (0.2, *BOX))] * 4, "12_0_1: scores rise"),
        ([prediction((float("nan"), *BOX))] * 4, "12_0_1: a box or score is not finite"),
    ],
)
def test_predictions_that_could_not_be_read_are_not_written(tmp_path, predictions, message):
    with pytest.raises(ValueError, match=message):
        write_text(tmp_path / "text", INSTANCES, predictions)
    with pytest.raises(ValueError, match=message):
        write_json(tmp_path / "b.json", INSTANCES, predictions)
    with pytest.raises(ValueError, match=r"expected a name that ends in .json or .jsonl"):
        write_json(tmp_path / "b.txt", INSTANCES, PREDICTIONS)
    assert list(tmp_path.iterdir()) == []
