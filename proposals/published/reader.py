"""Published proposals: MATLAB files of MCG and EdgeBoxes, and boxes as text, found by the photo's file name."""

import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from grounding.images import EXTENSIONS, ImageSource, load_image
from grounding.records import Regions, Segments

Floats: TypeAlias = NDArray[np.float64]

FORMS = ("xyxy", "xyxy_inclusive", "yxyx_inclusive", "xywh")  # all but the first count pixels from 1
SUFFIXES = (".mat", ".txt", ".csv")
BOXES = ("bbs", "bboxes", "boxes")  # variables of MATLAB files, first of those that are there
SCORES = ("bboxes_scores", "boxScores", "scores")
V5_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
ARRAY, COMPRESSED = 14, 15  # elements of v5
CELL, STRUCT, CHAR, NUMERIC = 1, 2, 4, range(6, 16)  # arrays of v5
KNOWN = {"superpixels", "labels", *BOXES}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _numbers(value: Any, name: str) -> Floats:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError(f"{name} should be a matrix of numbers")
    numbers = value.astype(np.float64)
    if not (np.abs(numbers) <= np.finfo(np.float32).max).all():  # false for NaN, too
        raise ValueError(f"{name} should be finite numbers, but some are NaN or infinite")
    return numbers


def _scores(value: Any, count: int) -> Floats:
    """Scores (N,), those of the file or, without, from 1 downwards in its order."""
    if value is None:
        return 1 - np.arange(count) / max(count, 1)
    scores = _numbers(value, "the scores").ravel()
    if len(scores) != count:
        raise ValueError(f"{count} proposals should have as many scores, got {len(scores)}")
    return scores


def _best_first(scores: Floats) -> torch.Tensor:
    return torch.from_numpy(np.argsort(-scores, kind="stable"))


def _text(rows: list[str]) -> Any:
    """A text, or several in a char matrix; MATLAB pads them with spaces and halves some characters in two."""
    texts = [row.rstrip().encode("utf-16", "surrogatepass").decode("utf-16") for row in rows]
    return texts[0] if len(texts) == 1 else texts


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The elements of a v5 file, or of an array in it: type and content."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, after = at + 8, at + 8 + size + (-size % 8 if kind != COMPRESSED else 0)
        if kind > 0xFFFF:  # type and size share the first half of eight bytes, the content is in the second
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > len(data):
            raise ValueError("it ends too early")
        content, at = data[start : start + size], after
        if kind == COMPRESSED:
            yield from _elements(memoryview(zlib.decompress(content)))
        else:
            yield kind, content


def _arrays(elements: Iterable[tuple[int, memoryview]]) -> Iterator[tuple[str, Any]]:
    for kind, content in elements:
        if kind != ARRAY:
            raise ValueError(f"it has an element of type {kind} for an array")
        yield _from_v5(content)


def _from_v5(data: memoryview) -> tuple[str, Any]:
    """Name and value of an array in a v5 file; None for what holds no proposals, as objects and functions.

    Not by `scipy.io.loadmat`, which some broken files crash, and the whole of Python with it.
    """
    parts = list(_elements(data))
    if not parts:
        return "", np.zeros((0, 0))
    kind = parts[0][1][0]
    if kind not in (CELL, STRUCT, CHAR, *NUMERIC):
        return "", None
    shape, name, values = struct.unpack(f"<{len(parts[1][1]) // 4}i", parts[1][1]), str(parts[2][1], "ascii"), parts[3:]
    if kind == CELL:
        cells = [value for _, value in _arrays(values)]
        if len(cells) != math.prod(shape):
            raise ValueError(f"{name} has {len(cells)} cells for {_times(shape)}")
        return name, cells
    if kind == STRUCT:
        width, fields = int.from_bytes(values[0][1], "little"), bytes(values[1][1])
        names = [fields[i : i + width].partition(b"\0")[0].decode() for i in range(0, len(fields), width)]
        is_array = len(names) != len(values) - 2
        return name, None if is_array else dict(zip(names, (v for _, v in _arrays(values[2:])), strict=True))
    if len(values) != 1:  # complex
        return name, None
    ((code, content),) = values
    if kind == CHAR:
        text = str(
            content, {4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}.get(code, "latin-1"), "replace"
        )
        rows = ["".join(row) for row in np.array([*text]).reshape(shape, order="F")] if shape[0] > 1 else [text]
        return name, _text(rows)
    return name, np.frombuffer(content, V5_NUMBERS[code]).reshape(shape, order="F")


def _from_hdf5(node: Any) -> Any:
    import h5py

    if isinstance(node, h5py.Group):
        names = [name for name in node if name[0] != "#" and name != "masks"]  # MCG's masks are huge, its labels enough
        return {n: _from_hdf5(node[n]) for n in names if isinstance(node.get(n, getlink=True), h5py.HardLink)}
    kind = node.attrs.get("MATLAB_class", b"")
    if node.attrs.get("MATLAB_empty", 0):  # what is stored is the shape
        return [] if kind == b"cell" else "" if kind == b"char" else np.zeros((0, 0))
    if h5py.check_ref_dtype(node.dtype) is h5py.Reference:
        return [_from_hdf5(node.file[reference]) for reference in node[()].ravel()]
    if kind == b"char":
        return _text(["".join(map(chr, row)) for row in node[()].T])
    return node[()].T  # MATLAB writes columns first


def read_matlab(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, v5 or v7.3: arrays, texts, lists for cells (columns first), dicts for structs.

    A file with a single struct stands for the fields of the struct, unless a variable beside it is one that we know.

    Raises:
        ValueError: it is not a MATLAB file, or broken.
    """
    import h5py

    try:
        variables: dict[str, Any]
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                variables = _from_hdf5(file)
        else:
            content = path.read_bytes()
            if content[126:128] != b"IM":  # the end of the header of v5, and the order of bytes
                raise ValueError("its beginning is of neither (older files: save again with -v7)")
            variables = {name: value for name, value in _arrays(_elements(memoryview(content)[128:])) if name}
    except Exception as error:  # a broken file fails in every way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read as a MATLAB file, v5 or v7.3: {reason}") from None
    structs = [value for value in variables.values() if isinstance(value, dict)]
    return structs[0] if len(structs) == 1 and not KNOWN & variables.keys() else variables


def read_text(path: Path) -> Floats:
    """The boxes of a text file, one a line: (N, 4), or (N, 5) with scores.

    Numbers are separated by spaces, tabs or commas; ``#`` begins a comment, and the first line may be a header.

    Raises:
        ValueError: a line is not of 4 or 5 numbers or not as those before; the file is not text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read as text: {error}") from None
    contents = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, re.split(r"\s*,\s*|\s+", content)) for number, content in contents if content]
    if entries and len(entries[0][1]) in (4, 5) and all(word[:1].isalpha() for word in entries[0][1]):
        del entries[0]  # a header
    rows: list[list[float]] = []
    for number, words in entries:
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise ValueError(f"line {number}: expected 4 or 5 numbers: {error}") from None
        if len(row) not in ((len(rows[0]),) if rows else (4, 5)):
            raise ValueError(f"line {number}: expected 4 or 5 numbers, as many in each line, got {len(row)}")
        rows.append(_numbers(np.array(row), f"line {number}").tolist())
    return np.array(rows, np.float64) if rows else np.zeros((0, 4))


def _extents(superpixels: NDArray[Any], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """First column and row of each superpixel, and the column and row after its last; (count, 2) each."""
    start, end = np.full((count, 2), max(superpixels.shape)), np.zeros((count, 2), np.int64)
    for axis, places in enumerate(np.indices(superpixels.shape)[::-1]):
        np.minimum.at(start[:, axis], superpixels, places)
        np.maximum.at(end[:, axis], superpixels, places + 1)
    return start, end


def to_segments(fields: dict[str, Any], size: tuple[int, int]) -> Segments:
    """Segments from the fields of MCG, best first.

    Boxes are made from the superpixels: ``bboxes`` are what MCG's own suppression leaves, not those of the segments.

    Args:
        fields: ``superpixels`` (H, W), ``labels``, for each proposal the superpixels in it, and perhaps ``scores``.
        size: (height, width) of the photo.

    Raises:
        ValueError: a field is not what it should be.
    """
    partition = _numbers(fields["superpixels"], "superpixels")
    if (partition % 1).any():
        raise ValueError("superpixels should be whole numbers")
    if partition.shape != size:
        raise ValueError(
            f"superpixels should have the photo's size, {_times(size)} (height×width), not {_times(partition.shape)}"
        )
    if not isinstance(fields["labels"], list):
        raise ValueError("labels should be a cell array, one cell for each proposal")
    labels = [_numbers(cell, f"cell {i} of labels").ravel() for i, cell in enumerate(fields["labels"], 1)]
    sizes = np.array([len(cell) for cell in labels], np.int64)
    if not sizes.all():
        raise ValueError(f"cell {sizes.argmin() + 1} of labels names no superpixel")
    ids, superpixels = np.unique(partition, return_inverse=True)
    owners, named = np.arange(len(labels)).repeat(sizes), np.concatenate([np.zeros(0), *labels])
    places = np.searchsorted(ids, named).clip(max=len(ids) - 1)
    is_missing = ids[places] != named
    if is_missing.any():
        first = is_missing.argmax()
        raise ValueError(f"cell {owners[first] + 1} of labels names superpixel {named[first]:g}, which is not there")
    once = np.unique(owners * len(ids) + places)  # a superpixel named twice counts once
    members = once % len(ids)
    offsets = np.searchsorted(once, np.arange(len(labels) + 1) * len(ids))

    start, end = _extents(superpixels.reshape(size), len(ids))
    corners = np.minimum.reduceat(start[members], offsets[:-1]), np.maximum.reduceat(end[members], offsets[:-1])
    scores = _scores(fields.get("scores"), len(labels))
    segments = Segments(
        torch.from_numpy(np.hstack(corners).astype(np.float32)),
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(superpixels.reshape(size).astype(np.int32)),
        (torch.from_numpy(offsets), torch.from_numpy(members)),
    )
    return segments[_best_first(scores)]


def to_regions(rows: Floats, scores: Any, form: str, size: tuple[int, int]) -> Regions:
    """Regions from boxes in one of ``FORMS``, best first.

    Args:
        rows: (N, 4), or (N, 5) with scores in the last column.
        scores: N numbers, or None.
        form: what the columns are.
        size: (height, width) of the photo; boxes may lie outside by up to one pixel, which is cut off.

    Raises:
        ValueError: a box is empty or does not fit.
    """
    height, width = size
    boxes = rows[:, :4].copy()
    if form == "yxyx_inclusive":
        boxes = boxes[:, [1, 0, 3, 2]]
    if form != "xyxy":
        boxes[:, :2] -= 1
    if form == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    clipped = boxes.clip(0, [width, height, width, height])
    is_wrong = (np.abs(clipped - boxes) > 1).any(1) | (clipped[:, :2] >= clipped[:, 2:]).any(1)
    if is_wrong.any():
        which = is_wrong.argmax()
        row = ", ".join(f"{value:g}" for value in rows[which, :4])
        raise ValueError(
            f"box {which + 1} ({row}), as {form}, is empty or outside the photo of {_times(size)} pixels "
            f"(height×width); form may be {', '.join(FORMS)}"
        )
    ranks = rows[:, 4] if rows.shape[1] == 5 else _scores(scores, len(rows))
    tensors = (torch.from_numpy(part.astype(np.float32)) for part in (clipped, ranks))
    return Regions(*tensors)[_best_first(ranks)]


def from_fields(fields: dict[str, Any], form: str | None, size: tuple[int, int]) -> Regions:
    """The proposals for a photo of a size (height, width) in the variables of a MATLAB file, best first.

    The usual form is x, y, w, h, score, as EdgeBoxes writes; but four columns named ``boxes`` or ``bboxes`` are
    up, left, down, right, as MCG, selective search and the released sets of EdgeBoxes for VOC have them.

    Raises:
        ValueError: there are none, or they are not as they should be.
    """
    if {"superpixels", "labels"} <= fields.keys():
        return to_segments(fields, size)
    name = next((name for name in BOXES if name in fields), None)
    if name is None:
        arrays = {n: v for n, v in fields.items() if isinstance(v, np.ndarray) and n not in SCORES}
        matrices = [n for n, v in arrays.items() if v.dtype.kind in "biuf" and v.ndim == 2 and v.shape[1] in (4, 5)]
        if len(matrices) != 1:
            raise ValueError(
                "expected superpixels and labels, or bbs, bboxes or boxes, or a single matrix of 4 or 5 columns; "
                f"found {', '.join(fields) or 'no variable'}"
            )
        name = matrices[0]
    if isinstance(fields[name], list):
        raise ValueError(f"{name} is a cell array, of a whole data set: give the file as path, not its folder")
    rows = _numbers(fields[name], name)
    if rows.size == 0:
        rows = np.zeros((0, 4))
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise ValueError(f"{name} should have 4 or 5 columns, got {_times(rows.shape)}")
    usual = "yxyx_inclusive" if name in ("boxes", "bboxes") and rows.shape[1] == 4 else "xywh"
    return to_regions(rows, next((fields[n] for n in SCORES if n in fields), None), form or usual, size)


def _key(name: str) -> str:
    """A photo's name without folder and extension."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return str(Path(last).with_suffix("")) if last.lower().endswith(EXTENSIONS) else last


def by_photo(fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields for each photo of a data set, by its name without extension.

    Args:
        fields: cell arrays ``images``, names of the photos, ``boxes`` or ``bbs``, and perhaps their scores.

    Raises:
        ValueError: some are missing, of other lengths, or two photos have one name.
    """
    photos = fields.get("images")
    cells = {name: fields[name] for name in (*BOXES, *SCORES) if isinstance(fields.get(name), list)}
    if not isinstance(photos, list) or not all(isinstance(photo, str) for photo in photos) or not {*BOXES} & {*cells}:
        raise ValueError(
            f"expected a data set, cell arrays boxes or bbs and images (the photos' names); found {', '.join(fields)}"
        )
    for name, values in cells.items():
        if len(values) != len(photos):
            raise ValueError(f"images has {len(photos)} cells, so {name} should have as many, got {len(values)}")
    found = {_key(photo): {name: cells[name][i] for name in cells} for i, photo in enumerate(photos)}
    if len(found) < len(photos):
        raise ValueError("images should name each photo once, without its folder and extension")
    return found


def photo_size(photo: Path) -> tuple[int, int]:
    """(height, width) of a photo as `grounding.images.load_image` gives it, upright; of most, without decoding it.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if photo.is_file():
                with Image.open(photo) as image:
                    if image.format in ("JPEG", "PNG", "WEBP") and min(image.size) > 0:
                        is_turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
                        return image.size if is_turned else (image.height, image.width)
    except Exception:  # load_image says what is wrong, if anything is
        pass
    height, width = load_image(photo).shape[-2:]
    return height, width


class Published:
    """Proposals from files, by the photo's file name.

    Args:
        path: a folder with a file for each photo, of its name and ``.mat``, ``.txt`` or ``.csv``; or a data set's
            ``.mat``, with cell arrays ``images`` (names of photos), ``boxes`` or ``bbs``, and perhaps their scores.
        form: of boxes: ``xyxy`` as in our records, ``xyxy_inclusive`` (from 1, with the last pixel),
            ``yxyx_inclusive`` (up, left, down, right) or ``xywh`` (from 1). None is ``xyxy`` for text and, for
            MATLAB files, what is usual (see `from_fields`).
        count: how many at most, the best; None for all.
    """

    def __init__(self, path: str | Path, *, form: str | None = None, count: int | None = None) -> None:
        if form is not None and form not in FORMS:
            raise ValueError(f"Published: form must be one of {', '.join(FORMS)}, or null, got {form!r}")
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"Published: count must be a whole number from 1, or null, got {count!r}")
        self.path = Path(path).expanduser()
        self.form = form
        self.count = count
        self._photos: dict[str, dict[str, Any]] | None = None
        with _naming(self.path):
            if self.path.is_file():
                self._photos = by_photo(read_matlab(self.path))
            elif not self.path.is_dir():
                raise ValueError("no such folder or file; expected published proposals")

    def __call__(self, image: ImageSource) -> Regions:
        """The proposals of the photo at a path, best first; `Segments` where the file has superpixels.

        Raises:
            ValueError: the image is no path or cannot be read; its proposals are missing, broken or of another photo.
        """
        if not isinstance(image, str | Path):
            raise ValueError(
                f"published proposals are found by the photo's file name: expected a path, got {type(image).__name__} "
                "(`python -m proposals proposals=published` puts them into a store)"
            )
        photo = Path(image)
        size = photo_size(photo)
        if self._photos is not None:
            with _naming(self.path):
                if _key(photo.name) not in self._photos:
                    raise ValueError(f"images does not name {photo.name}")
                return from_fields(self._photos[_key(photo.name)], self.form, size)[: self.count]
        paths = [path for path in (self.path / f"{photo.stem}{suffix}" for suffix in SUFFIXES) if path.exists()]
        if len(paths) != 1:
            found = ", ".join(path.name for path in paths) or "none"
            raise ValueError(f"{self.path}: expected one of {photo.stem}{{{','.join(SUFFIXES)}}}, found {found}")
        with _naming(paths[0]):
            if paths[0].suffix == ".mat":
                return from_fields(read_matlab(paths[0]), self.form, size)[: self.count]
            return to_regions(read_text(paths[0]), None, self.form or "xyxy", size)[: self.count]
