"""Photos with named regions, and the readers of those that have masks of classes, or one box each.

A name is one or more words, used as a phrase. All regions of a photo with the same name are one region: a mask (H, W)
of bool, or boxes (N, 4). Boxes are xyxy in pixels, 0-based, x2 and y2 exclusive.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grounding.photos import Photos

Size = tuple[int, int]  # (height, width) in pixels

UNNAMED_CLOTHING = ("null", "skin")  # the background, and what a caption would name by the part of the body
# ADE20K's list puts the same mark between synonyms and between the words of a name. These names are of several words.
ADE20K_NAMES = (
    *("swivel chair", "coffee table", "pool table", "kitchen island", "screen door", "swimming pool", "trade name"),
    *("traffic light", "bulletin board", "conveyer belt", "arcade machine", "crt screen", "dirt track"),
    "chest of drawers",
)
SUBJECTS = Path(__file__).resolve().parents[1] / "subjects.json"  # boxes of 90 photos of things, drawn by the project
OBJECTS = ("clear", "all", "single")  # see `choose_objects`


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


@dataclass(frozen=True, slots=True)
class NamedObject:
    """A thing in a photo, or a crowd of things."""

    name: str
    box: tuple[float, float, float, float]
    mask: Callable[[Size], Tensor] | None = None  # its mask (H, W) in a photo of this size; None: it has its box alone
    is_difficult: bool = False  # as annotators of VOC call what is hard to recognise
    is_crowd: bool = False  # as COCO calls many things under one outline


@dataclass(frozen=True, slots=True)
class ObjectPhoto:
    """A photo with its objects.

    Args:
        path: the photo's file.
        size: (height, width) that the objects were drawn at.
        objects: the objects; those of a name are one region.
    """

    path: Path
    size: Size
    objects: tuple[NamedObject, ...]

    def read_regions(self, size: Size) -> dict[str, Tensor]:
        """The mask (H, W), or the boxes (N, 4), of each name."""
        _check_size(self.path, self.size, size)
        found: dict[str, list[NamedObject]] = {}
        for one in self.objects:
            found.setdefault(one.name, []).append(one)
        try:
            return {name: _region(objects, size) for name, objects in found.items()}
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def chosen(self, objects: str) -> tuple[NamedObject, ...]:
        """The objects that take part, by one of `OBJECTS`."""
        clear = tuple(one for one in self.objects if not one.is_difficult and not one.is_crowd)
        if objects == "clear":
            return clear
        if objects == "single":
            return clear if len(self.objects) == 1 else ()
        asked = {one.name for one in self.objects if not one.is_difficult}
        return tuple(one for one in self.objects if one.name in asked)


@dataclass(frozen=True)
class LabelledPhotos(Photos):
    """Photos as every command takes them, together with their named regions."""

    title: str = ""  # the name of the data, such as "ADE20K"
    photos: tuple[LabelledPhoto, ...] = ()
    categories: tuple[str, ...] = ()  # all names there are, in the order of the data; empty where they have no order

    @property
    def have_boxes(self) -> bool:
        """Whether the regions are boxes."""
        return all(
            isinstance(photo, ObjectPhoto) and all(one.mask is None for one in photo.objects) for photo in self.photos
        )


def choose_objects(photos: LabelledPhotos, objects: str) -> LabelledPhotos:
    """The photos with the objects that take part; photos without any are left out, as COCO's without objects are.

    Args:
        photos: the photos; where a region is a mask of all that has a name, they stay as they are.
        objects: ``clear``, without difficult objects and crowds; ``all``, as in torchray's pointing game, where those
            are part of the region, and a name is left out only if all of its objects are difficult; or ``single``,
            the photos with exactly one object, which is clear.

    Raises:
        ValueError: there is no such choice, no photo is left, or single objects are wanted of masks of classes.
    """
    if objects not in OBJECTS:
        raise ValueError(f"objects must be {', '.join(OBJECTS[:-1])} or {OBJECTS[-1]}, got {objects!r}")
    names: list[str] = []
    chosen: list[LabelledPhoto] = []
    for name, photo in zip(photos.names, photos.photos, strict=True):
        if isinstance(photo, ObjectPhoto):
            photo = replace(photo, objects=photo.chosen(objects))
            if not photo.objects:
                continue
        elif objects == "single":
            raise ValueError(f"{photos.folder}: objects=single needs objects, but these are masks of classes")
        names.append(name)
        chosen.append(photo)
    if not chosen:
        raise ValueError(f"{photos.folder}: no photo is left with objects={objects}")
    title = f"{photos.title}, single objects" if objects == "single" else photos.title
    return replace(photos, names=names, photos=tuple(chosen), title=title)


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


def boxed_photos(path: str, boxes: str | None) -> LabelledPhotos:
    """Read photos of a folder with boxes in a JSON file, which names the data; without a file, those of `SUBJECTS`.

    The file has the form ``{"photos": {"a.jpg": {"phrase": "a can", "width": 640, "height": 480, "box": [x1, y1, x2,
    y2]}, …}}``.

    Raises:
        ValueError: a photo is missing, or the file is malformed.
    """
    folder, file = Path(path).expanduser(), SUBJECTS if boxes is None else Path(boxes).expanduser()
    try:
        photos = [
            ObjectPhoto(
                folder / name,
                (int(photo["height"]), int(photo["width"])),
                (NamedObject(str(photo["phrase"]), check_box(file, *photo["box"])),),
            )
            for name, photo in _read_json(file)["photos"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: expected photos, each with its phrase, width, height and box: {error!r}") from None
    return labelled_photos(file.stem, folder, photos)


def _masked_photos(title: str, folder: Path, names: Mapping[int, str]) -> LabelledPhotos:
    masks = sorted((folder / "masks").glob("*.png"))
    photos = [MaskedPhoto(folder / "images" / f"{mask.stem}.jpg", mask, names) for mask in masks]
    return labelled_photos(title, folder / "images", photos)


def labelled_photos(
    title: str, folder: Path, photos: Sequence[LabelledPhoto], *, categories: tuple[str, ...] = ()
) -> LabelledPhotos:
    """Photos of a folder, all of which have to be there.

    Raises:
        ValueError: there is no photo, or one is missing.
    """
    if not photos:
        raise ValueError(f"{folder}: no photo with a named region")
    if missing := [photo.path for photo in photos if not photo.path.is_file()]:
        raise ValueError(f"{missing[0]}: no such photo; {len(missing)} of {len(photos)} are missing")
    names = [photo.path.relative_to(folder).as_posix() for photo in photos]
    return LabelledPhotos(folder, names, title=title, photos=tuple(photos), categories=categories)


def _ade20k_name(names: str) -> str:
    """The first name of a list whose words are separated by semicolons."""
    words = f"{names};"
    compound = (name for name in ADE20K_NAMES if words.startswith(f"{name.replace(' ', ';')};"))
    return next(compound, names.split(";")[0])


def check_box(file: Path, *corners: float) -> tuple[float, float, float, float]:
    """The corners of a box; raises ValueError, which names the file, where they are not four, or in another order."""
    if len(corners) != 4 or not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise ValueError(f"{file}: expected boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2, got {list(corners)}")
    return corners


def _region(objects: Sequence[NamedObject], size: Size) -> Tensor:
    """The mask (H, W), or the boxes (N, 4), of objects with the same name."""
    masks = [one.mask(size) for one in objects if one.mask is not None]
    if masks:
        return torch.stack(masks).any(0)
    return torch.tensor([one.box for one in objects], dtype=torch.float32)


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
