"""Photos with objects of PASCAL VOC, COCO and ImageNet, in the files that these data sets come in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.regions.photos import LabelledPhotos, NamedObject, ObjectPhoto, Size, check_box, labelled_photos
from grounding import coco, voc
from grounding.categories import category_phrase, category_phrases
from grounding.photos import rows


def voc_table_photos(path: str, title: str) -> LabelledPhotos:
    """Read photos of PASCAL VOC: a folder ``images``, and ``boxes.csv``, a box a line.

    Its columns are image, width, height, class, xmin, ymin, xmax, ymax and difficult. As in VOC's own files, corners
    are counted from 1 and inclusive.

    Args:
        path: the folder.
        title: the name of the photos.

    Raises:
        ValueError: a file or folder is missing or malformed.
    """
    folder = Path(path).expanduser()
    table = folder / "boxes.csv"
    columns = ("width", "height", "class", "xmin", "ymin", "xmax", "ymax", "difficult")
    phrases = category_phrases("voc")
    sizes: dict[str, Size] = {}
    objects: dict[str, list[NamedObject]] = {}
    for number, row in rows(table, *columns):
        try:
            width, height, x1, y1, x2, y2, is_difficult = (int(row[name]) for name in columns if name != "class")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{table}, line {number}: {error}") from None
        sizes[row["image"]] = (height, width)
        name = category_phrase(row["class"], phrases, f"{table}, line {number}")
        box = check_box(table, x1 - 1, y1 - 1, x2, y2)
        objects.setdefault(row["image"], []).append(NamedObject(name, box, is_difficult=bool(is_difficult)))
    photos = [
        ObjectPhoto(folder / "images" / image, sizes[image], tuple(found)) for image, found in sorted(objects.items())
    ]
    return labelled_photos(title, folder / "images", photos, categories=tuple(phrases.values()))


def voc_photos(path: str, split: str) -> LabelledPhotos:
    """Read photos of PASCAL VOC as it is released; arguments and errors as in `grounding.voc.read_photos`."""
    folder = Path(path).expanduser()
    phrases = category_phrases("voc")
    photos = [
        ObjectPhoto(photo.path, photo.size, _named(photo.objects, phrases, photo.path))
        for photo in voc.read_photos(folder, split)
    ]
    title = f"{folder.name} {split}"
    return labelled_photos(title, folder / "JPEGImages", photos, categories=tuple(phrases.values()))


def coco_photos(path: str, annotations: str, title: str) -> LabelledPhotos:
    """Read photos of COCO with the outlines of their objects.

    Args:
        path: the folder of the photos.
        annotations: a file such as ``instances_val2014.json``.
        title: the name of the photos.

    Raises:
        ValueError: a file is missing or malformed.
    """
    folder, file = Path(path).expanduser(), Path(annotations).expanduser()
    phrases = category_phrases("coco")
    found, categories = coco.read_photos(file, folder)
    names = {category: category_phrase(category, phrases, str(file)) for category in categories}
    photos = [
        ObjectPhoto(
            photo.path,
            photo.size,
            tuple(NamedObject(names[one.category], one.box, one.mask, is_crowd=one.is_crowd) for one in photo.objects),
        )
        for photo in found
    ]
    return labelled_photos(title, folder, photos, categories=tuple(names.values()))


def imagenet_photos(path: str, annotations: str) -> LabelledPhotos:
    """Read photos of ImageNet's validation set with the boxes of the one class that each is labelled with.

    A class is asked for by the first of its names, such as "tench"; two pairs of classes share theirs, "crane" and
    "maillot".

    Args:
        path: the folder of the photos, ``NAME.JPEG``, or of a folder for each class, as torchvision has them.
        annotations: the folder of ``NAME.xml``.

    Raises:
        ValueError: a file is missing or malformed, an annotation belongs to another photo, or has no object.
    """
    folder, drawn = Path(path).expanduser(), Path(annotations).expanduser()
    phrases = _imagenet_phrases()
    files = sorted(drawn.glob("*.xml"))
    if not files:
        raise ValueError(f"{drawn}: no annotation (.xml) in it")
    places = {photo.stem: photo for photo in folder.rglob("*.JPEG")}
    photos = []
    for file in files:
        size, objects = voc.read_annotation(file)
        place = places.get(file.stem, folder / f"{file.stem}.JPEG")
        photos.append(ObjectPhoto(place, size, _named(objects, phrases, file)))
    return labelled_photos("ImageNet val", folder, photos)


def _imagenet_phrases() -> dict[str, str]:
    """The first name of each class of ImageNet by its number in WordNet, such as n01440764."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo()
    return {number: info.label_name_to_description(number).split(",")[0] for number in info.label_names()}


def _named(objects: Iterable[voc.VocObject], phrases: dict[str, str], where: Path) -> tuple[NamedObject, ...]:
    """Objects with the phrases by which their categories are asked for."""
    return tuple(
        NamedObject(category_phrase(one.category, phrases, str(where)), one.box, is_difficult=one.is_difficult)
        for one in objects
    )
