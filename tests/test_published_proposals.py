import tempfile
from pathlib import Path

import h5py
import hdf5storage
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image
from scipy.io import savemat
from scipy.sparse import csc_array

from grounding.images import load_image
from grounding.records import Segments
from proposals.published.conversion import FORMS
from proposals.published.lookup import Published, photo_size
from proposals.published.matlab import read_matlab

SIZE = (30, 40)  # height and width of the photos


def cells(items, *, column=True):
    """A MATLAB cell array."""
    array = np.empty((len(items), 1) if column else (1, len(items)), object)
    for index, item in enumerate(items):
        array.flat[index] = item
    return array


def save_v5(path, variables):
    savemat(path, variables)


def save_v5_compressed(path, variables):
    savemat(path, variables, do_compression=True)


def save_v73(path, variables):
    path.unlink(missing_ok=True)  # or else it would be added to
    hdf5storage.savemat(str(path), variables, appendmat=False, store_python_metadata=False)


SAVERS = [save_v5, save_v5_compressed, save_v73]
BY_FORMAT = pytest.mark.parametrize("save", SAVERS)


def make_photo(folder, name="dog.jpg", size=SIZE, **options):
    path = Path(folder) / name
    Image.new("RGB", size[::-1]).save(path, **options)
    return path


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path)


def mcg(**changes):
    """Four quarters of a photo, numbered 1, 2 above and 5, 9 below; three proposals."""
    quarters = np.array([[1, 2], [5, 9]], np.float64).repeat(SIZE[0] // 2, 0).repeat(SIZE[1] // 2, 1)
    labels = cells([np.array([[1, 2]], np.float64), np.array([[9.0]]), np.array([[9], [5]], np.float64)])
    fields = {"superpixels": quarters, "labels": labels, "scores": np.array([[0.1], [-0.3], [0.5]]), **changes}
    return {name: value for name, value in fields.items() if value is not None}


MCG_BOXES = [[0, 15, 40, 30], [0, 0, 40, 15], [20, 15, 40, 30]]  # best first


def test_the_files_written_here_are_laid_out_as_matlab_does(tmp_path):
    save_v73(tmp_path / "a.mat", mcg(image="dog"))
    assert (tmp_path / "a.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    with h5py.File(tmp_path / "a.mat") as file:
        classes = {name: file[name].attrs["MATLAB_class"] for name in ("superpixels", "labels", "image")}
        assert classes == {"superpixels": b"double", "labels": b"cell", "image": b"char"}
        assert file["superpixels"].shape == SIZE[::-1]  # columns first
        assert file["labels"].shape == (1, 3)
        third = file[file["labels"][0, 2]]
        assert third.name.startswith("/#refs#/")
        assert third.shape == (1, 2)  # of a column
        assert file["image"].dtype == np.uint16


@BY_FORMAT
@pytest.mark.parametrize("struct", [None, "candidates_mcg", "proposals"])
def test_segments_of_mcg_are_read_whole_and_best_first(photo, save, struct):
    save(photo.with_suffix(".mat"), {struct: mcg()} if struct else mcg())
    segments = Published(photo.parent)(photo)
    assert isinstance(segments, Segments)
    assert segments.boxes.tolist() == MCG_BOXES
    assert segments.scores.tolist() == pytest.approx([0.5, 0.1, -0.3])
    assert segments.superpixels.unique().tolist() == [0, 1, 2, 3]
    assert segments.superpixels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 1, 2, 3]
    assert segments.areas().tolist() == [600, 600, 300]
    assert segments.mask(0)[15:].all()
    assert not segments.mask(0)[:15].any()


@BY_FORMAT
def test_boxes_after_mcgs_own_suppression_do_not_replace_those_of_the_segments(photo, save):
    suppressed = {"bboxes": np.array([[1.0, 1, 2, 2]] * 5), "bboxes_scores": np.ones((5, 1))}
    save(photo.with_suffix(".mat"), mcg(**suppressed))
    assert Published(photo.parent)(photo).boxes.tolist() == MCG_BOXES


@BY_FORMAT
def test_without_scores_the_order_of_the_file_counts(photo, save):
    save(photo.with_suffix(".mat"), mcg(scores=None))
    segments = Published(photo.parent, count=2)(str(photo))
    assert segments.boxes.tolist() == [MCG_BOXES[1], MCG_BOXES[2]]
    assert segments.scores.tolist() == pytest.approx([1, 2 / 3])


@BY_FORMAT
def test_labels_may_be_rows_scalars_or_of_any_type_and_name_a_superpixel_twice(photo, save):
    labels = [np.array([[9, 5, 9]], np.uint16), np.array([[1]], np.int32)]
    save(photo.with_suffix(".mat"), mcg(labels=cells(labels, column=False), scores=np.array([[2.0, 1.0]])))
    segments = Published(photo.parent)(photo)
    assert segments.areas().tolist() == [600, 300]


@BY_FORMAT
def test_no_proposals_is_an_answer(photo, save):
    save(photo.with_suffix(".mat"), mcg(labels=np.empty((0, 0), object), scores=np.zeros((0, 0))))
    segments = Published(photo.parent)(photo)
    assert isinstance(segments, Segments)
    assert len(segments) == 0
    save(photo.with_suffix(".mat"), {"bbs": np.zeros((0, 5))})
    assert Published(photo.parent)(photo).boxes.shape == (0, 4)


@st.composite
def proposals(draw):
    """Superpixels from 1 or with gaps, sets of them, and scores."""
    ids = draw(arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(1, 9)))
    present = sorted(set(ids.ravel().tolist()))
    sets = draw(st.lists(st.sets(st.sampled_from(present), min_size=1), min_size=1, max_size=6))
    return ids, sets, draw(arrays(np.float32, len(sets), elements=st.floats(-9, 9, width=32)))


@pytest.mark.parametrize("save", [save_v5, save_v73])
@settings(max_examples=25)
@given(st.booleans(), proposals(), st.booleans())
def test_masks_boxes_and_scores_come_back(save, in_struct, given_proposals, column):
    superpixels, sets, scores = given_proposals
    labels = cells([np.array(sorted(ids), np.float64).reshape(-1, 1) for ids in sets], column=column)
    if not column:
        labels = cells([cell.T for cell in labels.flat])
    variables = {"superpixels": superpixels, "labels": labels, "scores": scores.reshape(-1, 1)}
    with tempfile.TemporaryDirectory() as folder:
        photo = make_photo(folder, "dog.png", superpixels.shape)
        save(photo.with_suffix(".mat"), {"candidates": variables} if in_struct else variables)
        segments = Published(folder)(photo)
    order = np.argsort(-scores, kind="stable")
    assert segments.scores.tolist() == scores[order].tolist()
    for rank, index in enumerate(order):
        mask = np.isin(superpixels, list(sets[index]))
        assert (segments.mask(rank).numpy() == mask).all()
        (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
        assert segments.boxes[rank].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert segments.areas().tolist() == [int(segments.mask(rank).sum()) for rank in range(len(order))]


# One box, the pixels of columns 2 to 5 and rows 1 to 3 from 0, in each form.
ONE_BOX = {
    "xyxy": [2, 1, 6, 4],
    "xyxy_inclusive": [3, 2, 6, 4],
    "yxyx_inclusive": [2, 3, 4, 6],
    "xywh": [3, 2, 4, 3],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_box_becomes_ours(photo, form):
    photo.with_suffix(".txt").write_text(" ".join(map(str, ONE_BOX[form])))
    assert Published(photo.parent, form=form)(photo).boxes.tolist() == [[2, 1, 6, 4]]


@BY_FORMAT
@pytest.mark.parametrize(
    ("variables", "form"),
    [
        ({"bbs": [[*ONE_BOX["xywh"], 0.5]]}, None),
        ({"anything": [ONE_BOX["xywh"]]}, None),
        ({"anything": [[*ONE_BOX["xywh"], 0.5]], "scores": [[0.5]]}, None),
        ({"bboxes": [ONE_BOX["yxyx_inclusive"]], "bboxes_scores": [[0.5]]}, None),  # MCG without its segments
        ({"boxes": [ONE_BOX["yxyx_inclusive"]], "scores": [[0.5]]}, None),  # MCG as released for COCO
        ({"boxes": [[*ONE_BOX["xywh"], 0.5]]}, None),
        ({"boxes": [ONE_BOX["xyxy_inclusive"]]}, "xyxy_inclusive"),
    ],
)
def test_boxes_in_matlab_files_have_the_form_usual_for_their_name(photo, save, variables, form):
    save(photo.with_suffix(".mat"), {name: np.array(values, np.float32) for name, values in variables.items()})
    regions = Published(photo.parent, form=form)(photo)
    assert regions.boxes.tolist() == [[2, 1, 6, 4]]
    assert regions.scores.tolist() == ([0.5] if "0.5" in str(variables) else [1])


def test_unsigned_boxes_do_not_wrap_around(photo):
    save_v5(photo.with_suffix(".mat"), {"boxes": np.array([[0, 0, 3, 6]], np.uint16)})
    assert Published(photo.parent)(photo).boxes.tolist() == [[0, 0, 6, 3]]  # a pixel outside is cut off


TEXT = """
x1, y1, x2, y2, score
# ours
0 0 10 10 0.5
1,1 , 5,5,\t.75  # best
  2\t2\t40.5\t30\t5e-1
"""


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_read_with_comments_a_header_and_any_separator(photo, suffix, mark, end):
    photo.with_suffix(suffix).write_bytes((mark + TEXT.lstrip()).replace("\n", end).encode())
    regions = Published(photo.parent)(photo)
    assert regions.boxes.tolist() == [[1, 1, 5, 5], [0, 0, 10, 10], [2, 2, 40, 30]]  # ties in the file's order
    assert regions.scores.tolist() == [0.75, 0.5, 0.5]
    assert Published(photo.parent, count=1)(photo).boxes.tolist() == [[1, 1, 5, 5]]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "x1 y1 x2 y2\n"])
def test_text_without_boxes_has_no_regions(photo, text):
    photo.with_suffix(".txt").write_text(text)
    assert len(Published(photo.parent)(photo)) == 0


@settings(max_examples=30)
@given(st.data(), st.sampled_from(FORMS), st.integers(0, 20))
def test_random_boxes_come_back_from_text_and_matlab(data, form, count):
    start = data.draw(arrays(np.int64, (count, 2), elements=st.integers(0, 20)))
    end = start + data.draw(arrays(np.int64, (count, 2), elements=st.integers(1, 10)))
    scores = np.arange(count)[::-1]
    left, up, right, down = *start.T, *end.T
    rows = {
        "xyxy": [left, up, right, down],
        "xyxy_inclusive": [left + 1, up + 1, right, down],
        "yxyx_inclusive": [up + 1, left + 1, down, right],
        "xywh": [left + 1, up + 1, right - left, down - up],
    }
    matrix = np.stack([*rows[form], scores], 1)
    with tempfile.TemporaryDirectory() as folder:
        photo = make_photo(folder, "dog.png")
        published = Published(folder, form=form)
        for suffix, save in ((".mat", save_v5), (".mat", save_v73), (".txt", None)):
            path = photo.with_suffix(suffix)
            save(path, {"bbs": matrix.astype(np.float64)}) if save else np.savetxt(path, matrix)
            regions = published(photo)
            path.unlink()
            assert regions.boxes.tolist() == np.hstack([start, end]).tolist()
            assert regions.scores.tolist() == scores.tolist()


def dataset(**changes):
    """Three photos' boxes, as released for EdgeBoxes on VOC."""
    boxes = [[ONE_BOX["yxyx_inclusive"], [1, 1, 1, 1]], [[1, 1, 30, 40]], np.zeros((0, 4))]
    fields = {
        "images": cells(["dog", "VOC2007/a.b.jpg", "😀.PNG"]),
        "boxes": cells([np.array(rows, np.float64) for rows in boxes], column=False),
        "boxScores": cells([np.array([[0.1], [0.2]]), np.array([[0.3]]), np.zeros((0, 1))]),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


@BY_FORMAT
def test_a_data_sets_file_is_searched_by_the_photos_name(tmp_path, photo, save):
    save(tmp_path / "set.mat", dataset())
    published = Published(tmp_path / "set.mat")
    regions = published(photo)
    assert regions.boxes.tolist() == [[0, 0, 1, 1], [2, 1, 6, 4]]
    assert regions.scores.tolist() == pytest.approx([0.2, 0.1])
    assert published(make_photo(tmp_path, "a.b.png")).boxes.tolist() == [[0, 0, 40, 30]]
    assert len(published(make_photo(tmp_path, "😀.png"))) == 0
    with pytest.raises(ValueError, match=r"set\.mat: images does not name cat\.jpg"):
        published(make_photo(tmp_path, "cat.jpg"))


def test_a_data_set_of_edge_boxes_rows(tmp_path, photo):
    rows = cells([np.array([[*ONE_BOX["xywh"], 0.5]])])
    save_v5(tmp_path / "set.mat", {"bbs": rows, "images": cells(["dog.jpg"])})
    assert Published(tmp_path / "set.mat")(photo).boxes.tolist() == [[2, 1, 6, 4]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "expected a data set, cell arrays boxes or bbs and images .*; found boxes, boxScores"),
        ({"boxes": None}, "expected a data set.*found images, boxScores"),
        ({"images": cells([np.ones((1, 1))] * 3)}, "expected a data set"),
        ({"boxScores": cells([np.ones((1, 1))])}, "images has 3 cells, so boxScores should have as many, got 1"),
        ({"images": cells(["dog", "cat.jpg", "x/cat"])}, "images should name each photo once"),
    ],
)
def test_a_broken_data_set_says_what_is_wrong(tmp_path, changes, message):
    save_v5(tmp_path / "set.mat", dataset(**changes))
    with pytest.raises(ValueError, match=rf"set\.mat: {message}"):
        Published(tmp_path / "set.mat")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp"])
def test_the_size_of_a_photo_is_that_of_the_photo_when_loaded(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo = make_photo(tmp_path, name, exif=exif)
    assert photo_size(photo) == tuple(load_image(photo).shape[-2:])


def test_boxes_and_superpixels_fit_the_photo_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo = make_photo(tmp_path, size=SIZE[::-1], exif=exif)  # stored lying, seen upright
    save_v5(photo.with_suffix(".mat"), mcg())
    assert len(Published(tmp_path)(photo)) == 3


@BY_FORMAT
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (mcg(superpixels=np.ones(SIZE[::-1])), r"superpixels should have the photo's size, 30×40 .*, not 40×30"),
        (mcg(superpixels=np.full(SIZE, np.nan)), "superpixels should be finite numbers"),
        (mcg(superpixels=np.full(SIZE, 1.5)), "superpixels should be whole numbers"),
        (mcg(superpixels="none"), "superpixels should be a matrix of numbers"),
        (mcg(labels=np.ones((3, 2))), "labels should be a cell array"),
        (mcg(labels=cells([np.ones((1, 1)), np.zeros((0, 0))])), "cell 2 of labels names no superpixel"),
        (mcg(labels=cells([np.ones((1, 1)), "two"])), "cell 2 of labels should be a matrix of numbers"),
        (
            mcg(labels=cells([np.array([[1.0, 9]]), np.array([[9.0, 3]])])),
            "cell 2 of labels names superpixel 3, which is not there",
        ),
        (mcg(scores=np.array([[1.0, np.nan, 2]])), "the scores should be finite numbers"),
        (mcg(scores=np.ones((2, 1))), "3 proposals should have as many scores, got 2"),
        ({"superpixels": np.ones(SIZE)}, "expected superpixels and labels, or bbs, .*; found superpixels"),
        ({"proposals": {"other": np.ones((2, 3))}}, "expected .*; found other"),
        ({"one": np.ones((2, 4)), "two": np.ones((2, 5))}, "expected .*; found one, two"),
        ({"bbs": np.array([[1.0, 1, 5, 5, np.nan]])}, "bbs should be finite numbers"),
        ({"bbs": np.ones((2, 3))}, "bbs should have 4 or 5 columns, got 2×3"),
        ({"bbs": np.array([[1.0, 1, 5, 5, 1], [1, 2, 50, 5, 1]])}, r"box 2 \(1, 2, 50, 5\), as xywh, is empty or outs"),
        ({"bboxes": np.array([[9.0, 1, 5, 5]])}, r"box 1 \(9, 1, 5, 5\), as yxyx_inclusive, is empty"),
        ({"boxes": np.ones((2, 4)), "scores": np.ones((3, 1))}, "2 proposals should have as many scores, got 3"),
        (dataset(), "boxes is a cell array, of a whole data set: give the file as path"),
    ],
)
def test_matlab_files_that_do_not_fit_say_why(photo, save, variables, message):
    save(photo.with_suffix(".mat"), variables)
    with pytest.raises(ValueError, match=rf"dog\.mat: {message}") as caught:
        Published(photo.parent)(photo)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 5 5\n1 1 5", "line 2: expected 4 or 5 numbers, as many in each line, got 3"),
        ("1 1 5 5 1\n\n1 1 5 5", "line 3: expected 4 or 5 numbers, as many in each line, got 4"),
        ("1 1 5", "line 1: .* got 3"),
        ("1,,5,5", "line 1: expected 4 or 5 numbers: .*''"),
        ("1 1 5 5\nx1 y1 x2 y2", "line 2: expected 4 or 5 numbers: .*'x1'"),
        ("1 1 five 5", "line 1: .*'five'"),
        ("version https://example.com\noid 12", "line 1: .*'version'"),
        ("1 1 5 nan", "line 1 should be finite numbers"),
        ("1 1 5 5 -inf", "line 1 should be finite numbers"),
        ("3 3 3 5", r"box 1 \(3, 3, 3, 5\), as xyxy, is empty"),
        ("0 0 5 31.5", r"box 1 .* outside the photo of 30×40 pixels .* form may be xyxy, xyxy_inclusive"),
        (b"\xff\xfe1\x00", "cannot be read as text"),
    ],
)
def test_texts_that_do_not_fit_say_why(photo, text, message):
    photo.with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"dog\.txt: {message}"):
        Published(photo.parent)(photo)


@pytest.mark.parametrize(
    "content", [b"", b"0 0 5 5\n", b"MATLAB", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n", b"\x80\x04K\x01."]
)
def test_what_is_no_matlab_file_is_refused(photo, content):
    photo.with_suffix(".mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"dog\.mat: cannot be read as a MATLAB file"):
        Published(photo.parent)(photo)


@BY_FORMAT
@settings(max_examples=50)
@given(st.data())
def test_broken_matlab_files_end_in_one_line(save, data):
    with tempfile.TemporaryDirectory() as folder:
        photo = make_photo(folder)
        path = photo.with_suffix(".mat")
        save(path, mcg())
        content = bytearray(path.read_bytes())
        end = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[end:]
        else:
            content[end] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            regions, message = Published(folder)(photo), None
        except ValueError as error:
            regions, message = None, str(error)
    if message is not None:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    else:  # a byte that does not matter, or a number that is as good
        assert torch.isfinite(regions.scores).all()


def test_a_cut_off_matlab_file_is_never_taken_for_a_whole_one(photo):
    path = photo.with_suffix(".mat")
    for save in SAVERS:
        save(path, mcg())
        content = path.read_bytes()
        for share in (0.1, 0.5, 0.9, 0.99):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(ValueError, match=r"dog\.mat: "):
                Published(photo.parent)(photo)


def test_files_that_a_matlab_file_points_to_are_not_opened(tmp_path, photo):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["bbs"] = np.ones((5, 1))
    with h5py.File(photo.with_suffix(".mat"), "w") as file:
        file["bbs"] = h5py.ExternalLink("other.h5", "/bbs")
    with pytest.raises(ValueError, match=r"found no variable"):
        Published(tmp_path)(photo)


def test_a_cell_that_holds_itself_is_refused(photo):
    with h5py.File(photo.with_suffix(".mat"), "w") as file:
        labels = file.create_dataset("labels", (1, 1), h5py.ref_dtype)
        labels.attrs["MATLAB_class"] = np.bytes_("cell")
        labels[0, 0] = labels.ref
    with pytest.raises(ValueError, match=r"dog\.mat: cannot be read as a MATLAB file"):
        Published(photo.parent)(photo)


def test_the_photo_must_have_one_file(tmp_path, photo):
    published = Published(tmp_path)
    with pytest.raises(ValueError, match=r"expected one of dog\{\.mat,\.txt,\.csv\}, found none"):
        published(photo)
    for suffix in (".txt", ".csv"):
        photo.with_suffix(suffix).write_text("")
    with pytest.raises(ValueError, match=r"expected one of .* found dog\.txt, dog\.csv"):
        published(photo)


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 30, 40), np.zeros((30, 40, 3), np.uint8), Image.new("RGB", (4, 4)), None]
)
def test_only_a_path_names_a_photo(tmp_path, image):
    with pytest.raises(ValueError, match=r"by the photo's file name: expected a path, .*proposals=published"):
        Published(tmp_path)(image)


def test_a_photo_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "dog.txt").write_text("0 0 1 1")
    with pytest.raises(ValueError, match=r"dog\.jpg: no such file"):
        Published(tmp_path)(tmp_path / "dog.jpg")
    (tmp_path / "dog.jpg").write_bytes(b"GIF")
    with pytest.raises(ValueError, match=r"dog\.jpg: not an image"):
        Published(tmp_path)(tmp_path / "dog.jpg")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"form": "cxcywh"}, "form must be one of xyxy"),
        ({"count": 0}, "count must be a whole number"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"path": "nowhere"}, "nowhere: no such folder or file"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        Published(**{"path": tmp_path, **setting})


@BY_FORMAT
def test_variables_are_plain_values(tmp_path, save):
    variables = {"number": np.arange(6.0).reshape(2, 3), "text": "dog", "cell": cells(["a", np.ones((2, 1))])}
    save(tmp_path / "a.mat", {**variables, "struct": {"inner": np.eye(2)}, "bbs": np.zeros((0, 4))})
    read = read_matlab(tmp_path / "a.mat")
    assert read["number"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["text"] == "dog"
    assert read["cell"][0] == "a"
    assert read["cell"][1].tolist() == [[1], [1]]
    assert read["struct"]["inner"].tolist() == [[1, 0], [0, 1]]
    assert read["bbs"].size == 0


def test_what_holds_no_proposals_does_not_disturb(photo):
    others = {
        "sparse": csc_array(np.eye(3)),
        "imaginary": np.array([[1j]]),
        "structs": np.array([[(1.0,), (2.0,)]], dtype=[("field", object)]),
        "names": np.array(["dog", "horse"]),
        "empty": "",
        "truth": np.array([[True]]),
    }
    save_v5(photo.with_suffix(".mat"), {**others, **mcg()})
    assert read_matlab(photo.with_suffix(".mat"))["names"] == ["dog", "horse"]
    assert Published(photo.parent)(photo).boxes.tolist() == MCG_BOXES
