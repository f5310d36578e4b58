"""Published proposals: MATLAB files of MCG and EdgeBoxes, and boxes as text, found by the photo's file name."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from grounding.images import EXTENSIONS, ImageSource, load_image
from grounding.records import Regions
from proposals.published.conversion import BOXES, FORMS, SCORES, from_fields, to_regions
from proposals.published.matlab import read_matlab
from proposals.published.text import read_text

SUFFIXES = (".mat", ".txt", ".csv")


class Published:
    """Looks up proposals in published files, by the photo's file name.

    Args:
        path: a folder with a file for each photo, which has the photo's name and ``.mat``, ``.txt`` or ``.csv``; or
            the ``.mat`` of a data set, with cell arrays ``images`` (names of photos), ``boxes`` or ``bbs``, and perhaps
            their scores.
        form: form of boxes: ``xyxy`` as in our records, ``xyxy_inclusive`` (from 1, with the last pixel),
            ``yxyx_inclusive`` (up, left, down, right) or ``xywh`` (from 1). None is ``xyxy`` for text and, for
            MATLAB files, the usual one (see `proposals.published.conversion.from_fields`).
        count: number of regions of each photo at most, the best first; None for all.

    Raises:
        ValueError: a setting is out of its range, or the path is no folder and no data set.
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
        with _naming_file(self.path):
            if self.path.is_file():
                self._photos = by_photo(_read_fields(self.path))
            elif not self.path.is_dir():
                raise ValueError("no such folder or file; expected published proposals")

    def __call__(self, image: ImageSource) -> Regions:
        """The proposals of the photo at a path, best first; `Segments` where the file has superpixels.

        Raises:
            ValueError: the image is no path or cannot be read; its proposals are missing, damaged or of another photo.
        """
        if not isinstance(image, str | Path):
            raise ValueError(
                f"published proposals are found by the photo's file name: expected a path, got {type(image).__name__} "
                "(`python -m proposals proposals=published` puts them into a store)"
            )
        photo = Path(image)
        size = photo_size(photo)
        if self._photos is not None:
            with _naming_file(self.path):
                if _key(photo.name) not in self._photos:
                    raise ValueError(f"images does not name {photo.name}")
                return from_fields(self._photos[_key(photo.name)], self.form, size)[: self.count]
        paths = [path for path in (self.path / f"{photo.stem}{suffix}" for suffix in SUFFIXES) if path.exists()]
        if len(paths) != 1:
            found = ", ".join(path.name for path in paths) or "none"
            raise ValueError(f"{self.path}: expected one of {photo.stem}{{{','.join(SUFFIXES)}}}, found {found}")
        with _naming_file(paths[0]):
            if paths[0].suffix == ".mat":
                return from_fields(_read_fields(paths[0]), self.form, size)[: self.count]
            return to_regions(read_text(paths[0]), None, self.form or "xyxy", size)[: self.count]


def by_photo(fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of each photo of a data set, by the photo's name without extension.

    Args:
        fields: the data set's: cell arrays ``images``, names of the photos, ``boxes`` or ``bbs``, and perhaps scores.

    Raises:
        ValueError: some are missing or differ in length, or two photos have the same name.
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


def _key(name: str) -> str:
    """A photo's name without its folder and extension."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return str(Path(last).with_suffix("")) if last.lower().endswith(EXTENSIONS) else last


def _read_fields(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, or the fields of its single struct where no variable beside it is a known one."""
    variables = read_matlab(path)
    structs = [value for value in variables.values() if isinstance(value, dict)]
    is_wrapped = len(structs) == 1 and not {"superpixels", "labels", *BOXES} & variables.keys()
    return structs[0] if is_wrapped else variables


def photo_size(photo: Path) -> tuple[int, int]:
    """The size (height, width) of a photo as `grounding.images.load_image` loads it, upright.

    Most photos need not be decoded for it.

    Raises:
        ValueError: the photo cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if photo.is_file():
                with Image.open(photo) as image:
                    if image.format in ("JPEG", "PNG", "WEBP") and min(image.size) > 0:
                        is_turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
                        return image.size if is_turned else (image.height, image.width)
    except Exception:  # load_image reports the error, if there is one
        pass
    height, width = load_image(photo).shape[-2:]
    return height, width


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    """Put the name of a file before the text of any error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
