"""Photos with named regions, and their readers: one for each form in which such data come.

A name is one or more words, used as a phrase. All regions of a photo with the same name are one region: a mask (H, W)
of bool, or boxes (N, 4). Boxes are xyxy in pixels, 0-based, x2 and y2 exclusive.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grounding.photos import Photos, rows

Size = tuple[int, int]  # (height, width) in pixels

UNNAMED_CLOTHING = ("null", "skin")  # the background, and what a caption would name by the part of the body
# ADE20K's list puts the same mark between synonyms and between the words of a name. These names are of several words.
ADE20K_NAMES = (
    *("swivel chair", "coffee table", "pool table", "kitchen island", "screen door", "swimming pool", "trade name"),
    *("traffic light", "bulletin board", "conveyer belt", "arcade machine", "crt screen", "dirt track"),
    "chest of drawers",
)
VOC_NAMES = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}


class LabelledPhoto(Protocol):
    """A photo whose regions have names."""

    @property
    def path(self) -> Path:
        """The photo's file."""

    def read_regions(self, size: Size) -> dict[str, Tensor]:
        """The region of each name in the photo, which has this size; raises ValueError where it does not fit."""


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo with the class of each pixel, in an image of one channel.

    Args:
        path: the photo's file.
        mask: the file of the classes.
        names: the names of classes; pixels of other classes belong to no region.
    """

    path: Path
    mask: Path
    names: Mapping[int, str]

    def read_regions(self, size: Size) -> dict[str, Tensor]:
        """The mask (H, W) of each name that occurs in the photo."""
        try:
            with Image.open(self.mask) as image:
                classes = np.array(image)
        except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: a broken PNG
            raise ValueError(f"{self.mask}: cannot be read: {error}") from None
        _check_size(self.mask, classes.shape, size)
        found: dict[str, Tensor] = {}
        for value in np.unique(classes).tolist():
            if (name := self.names.get(value)) is not None:
                found[name] = torch.from_numpy(classes == value) | found.get(name, torch.tensor(False))
        return found


@dataclass(frozen=True, eq=False)
class BoxedPhoto:
    """A photo with boxes.

    Args:
        path: the photo's file.
        size: (height, width) that the boxes were drawn at.
        boxes: the boxes (N, 4) of each name, at least one.
    """

    path: Path
    size: Size
    boxes: Mapping[str, Tensor]

    def read_regions(self, size: Size) -> dict[str, Tensor]:
        """The boxes (N, 4) of each name."""
        _check_size(self.path, self.size, size)
        return dict(self.boxes)


@dataclass(frozen=True)
class LabelledPhotos(Photos):
    """Photos as every command takes them, together with their named regions."""

    title: str = ""  # the name of the data, such as "ADE20K"
    photos: tuple[LabelledPhoto, ...] = ()

    @property
    def have_boxes(self) -> bool:
        """Whether the regions are boxes."""
        return all(isinstance(photo, BoxedPhoto) for photo in self.photos)


def ade20k_photos(path: str) -> LabelledPhotos:
    """Read photos of ADE20K: folders ``images`` and ``masks``, and ``object150_info.csv`` with the name of each value.

    Of the synonyms that the list gives, the first is the name.

    Raises:
        ValueError: a file or folder is missing or malformed.
    """
    folder = Path(path).expanduser()
    table = folder / "object150_info.csv"
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            names = {int(row["Idx"]): _ade20k_name(row["Name"]) for row in csv.DictReader(lines)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{table}: expected the columns Idx and Name: {error!r}") from None
    return _masked_photos("ADE20K", folder, names)


def clothing_photos(path: str) -> LabelledPhotos:
    """Read street photos with masks of clothing: ``images``, ``masks`` and ``label_list.json``, the names in order.

    The classes of `UNNAMED_CLOTHING` are left out.

    Raises:
        ValueError: a file or folder is missing or malformed.
    """
    folder = Path(path).expanduser()
    names = _read_json(folder / "label_list.json")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{folder / 'label_list.json'}: expected a list of names")
    kept = {value: name for value, name in enumerate(names) if name not in UNNAMED_CLOTHING}
    return _masked_photos("clothing", folder, kept)


def voc_photos(path: str, title: str) -> LabelledPhotos:
    """Read photos of PASCAL VOC: a folder ``images``, and ``boxes.csv``, a box a line.

    Its columns are image, width, height, class, xmin, ymin, xmax, ymax and difficult. As in VOC's own files, corners
    are counted from 1 and inclusive. Difficult objects are left out, and with them photos that have no others.

    Args:
        path: the folder.
        title: the name of the photos.

    Raises:
        ValueError: a file or folder is missing or malformed.
    """
    folder = Path(path).expanduser()
    table = folder / "boxes.csv"
    columns = ("width", "height", "class", "xmin", "ymin", "xmax", "ymax", "difficult")
    sizes: dict[str, Size] = {}
    boxes: dict[str, dict[str, list[list[int]]]] = {}
    for number, row in rows(table, *columns):
        try:
            width, height, x1, y1, x2, y2, is_difficult = (int(row[name]) for name in columns if name != "class")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{table}, line {number}: {error}") from None
        if not is_difficult:
            sizes[row["image"]] = (height, width)
            name = VOC_NAMES.get(row["class"], row["class"])
            boxes.setdefault(row["image"], {}).setdefault(name, []).append([x1 - 1, y1 - 1, x2, y2])
    photos = [
        BoxedPhoto(
            folder / "images" / image, sizes[image], {name: _boxes(table, found) for name, found in named.items()}
        )
        for image, named in sorted(boxes.items())
    ]
    return _labelled_photos(title, folder / "images", photos)


def boxed_photos(path: str, boxes: str) -> LabelledPhotos:
    """Read photos of a folder with boxes in a JSON file, which names the data.

    The file has the form ``{"photos": {"a.jpg": {"phrase": "a can", "width": 640, "height": 480, "box": [x1, y1, x2,
    y2]}, …}}``.

    Raises:
        ValueError: a photo is missing, or the file is malformed.
    """
    folder, file = Path(path).expanduser(), Path(boxes).expanduser()
    try:
        photos = [
            BoxedPhoto(
                folder / name,
                (int(photo["height"]), int(photo["width"])),
                {str(photo["phrase"]): _boxes(file, [photo["box"]])},
            )
            for name, photo in _read_json(file)["photos"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: expected photos, each with its phrase, width, height and box: {error!r}") from None
    return _labelled_photos(file.stem, folder, photos)


def _masked_photos(title: str, folder: Path, names: Mapping[int, str]) -> LabelledPhotos:
    masks = sorted((folder / "masks").glob("*.png"))
    photos = [MaskedPhoto(folder / "images" / f"{mask.stem}.jpg", mask, names) for mask in masks]
    return _labelled_photos(title, folder / "images", photos)


def _labelled_photos(title: str, folder: Path, photos: Sequence[LabelledPhoto]) -> LabelledPhotos:
    if not photos:
        raise ValueError(f"{folder}: no photo with a named region")
    if missing := [photo.path for photo in photos if not photo.path.is_file()]:
        raise ValueError(f"{missing[0]}: no such photo; {len(missing)} of {len(photos)} are missing")
    names = [photo.path.relative_to(folder).as_posix() for photo in photos]
    return LabelledPhotos(folder, names, title=title, photos=tuple(photos))


def _ade20k_name(names: str) -> str:
    """The first name of a list whose words are separated by semicolons."""
    words = f"{names};"
    compound = (name for name in ADE20K_NAMES if words.startswith(f"{name.replace(' ', ';')};"))
    return next(compound, names.split(";")[0])


def _boxes(file: Path, corners: Sequence[Sequence[float]]) -> Tensor:
    boxes = torch.tensor(corners, dtype=torch.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise ValueError(f"{file}: expected boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2, got {corners}")
    return boxes


def _check_size(file: Path, annotated: tuple[int, ...], size: Size) -> None:
    if annotated != size:
        raise ValueError(f"{file}: annotated at (height, width) {annotated}, but the photo has {size}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
