"""Photos with objects of PASCAL VOC, COCO and ImageNet, in the files that these data sets come in.

A category is asked for by the phrase that ``eval/categories.json`` has for it, in which a caption would name it:
"computer mouse", not "mouse". A category that is not listed there is asked for by its own name.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from eval.regions.photos import LabelledPhotos, NamedObject, ObjectPhoto, Size, check_box, labelled_photos
from eval.voc_xml import parse_annotation, read_box, read_text
from grounding.coco import read_photos
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
        name = _phrase(row["class"], phrases, f"{table}, line {number}")
        box = check_box(table, x1 - 1, y1 - 1, x2, y2)
        objects.setdefault(row["image"], []).append(NamedObject(name, box, is_difficult=bool(is_difficult)))
    photos = [
        ObjectPhoto(folder / "images" / image, sizes[image], tuple(found)) for image, found in sorted(objects.items())
    ]
    return labelled_photos(title, folder / "images", photos, categories=tuple(phrases.values()))


def voc_photos(path: str, split: str) -> LabelledPhotos:
    """Read photos of PASCAL VOC as it is released: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.

    Args:
        path: the folder of a year, such as ``VOCdevkit/VOC2007``.
        split: a list in ``ImageSets/Main``, such as ``test``.

    Raises:
        ValueError: a file is missing or malformed, an annotation belongs to another photo, or has no object.
    """
    folder = Path(path).expanduser()
    phrases = category_phrases("voc")
    photos = []
    for name in _text(folder / "ImageSets" / "Main" / f"{split}.txt").split():
        size, objects = _read_xml(folder / "Annotations" / f"{name}.xml", phrases)
        photos.append(ObjectPhoto(folder / "JPEGImages" / f"{name}.jpg", size, objects))
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
    found, categories = read_photos(file, folder)
    names = {category: _phrase(category, phrases, str(file)) for category in categories}
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
        size, objects = _read_xml(file, phrases)
        photos.append(ObjectPhoto(places.get(file.stem, folder / f"{file.stem}.JPEG"), size, objects))
    return labelled_photos("ImageNet val", folder, photos)


@cache
def category_phrases(data: str) -> dict[str, str]:
    """The phrase for each category of ``voc`` or ``coco``, in the order of their own lists."""
    content = json.loads((Path(__file__).parent.parent / "categories.json").read_text(encoding="utf-8"))
    phrases: dict[str, str] = content[data]
    return phrases


def _imagenet_phrases() -> dict[str, str]:
    """The first name of each class of ImageNet by its number in WordNet, such as n01440764."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo()
    return {number: info.label_name_to_description(number).split(",")[0] for number in info.label_names()}


def _read_xml(file: Path, phrases: dict[str, str]) -> tuple[Size, tuple[NamedObject, ...]]:
    """The size of a photo and its objects, of which there is at least one."""
    text = _text(file)
    try:
        root, size = parse_annotation(text)
        photo = read_text(root, "filename")
        if Path(photo).stem != file.stem:
            raise ValueError(f"it belongs to another photo, {photo}")
        objects = tuple(
            NamedObject(
                _phrase(read_text(element, "name"), phrases, "object"),
                read_box(element, size),
                is_difficult=element.findtext("difficult") == "1",
            )
            for element in root.iter("object")
        )
        if not objects:
            raise ValueError("it has no object")
    except ValueError as error:
        raise ValueError(f"{file}: not an annotation of its photo: {error}") from None
    return size, objects


def _phrase(category: str, phrases: dict[str, str], where: str) -> str:
    if not category.strip():
        raise ValueError(f"{where}: a category without a name")
    return phrases.get(category, category)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8") from None
