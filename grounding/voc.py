"""PASCAL VOC (Everingham et al. 2010): photos with the categories and boxes of their objects.

Flickr30k Entities and ImageNet have XML annotations in the same form.
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[float, float, float, float]  # xyxy in pixels, 0-based, x2 and y2 exclusive


@dataclass(frozen=True, slots=True)
class VocObject:
    """A thing in a photo."""

    category: str
    box: Box
    is_difficult: bool  # hard to recognise, as the annotators found


@dataclass(frozen=True, slots=True)
class VocPhoto:
    """A photo and all of its objects, of which there is at least one."""

    path: Path
    size: Size
    objects: tuple[VocObject, ...]


def read_photos(folder: Path, split: str) -> list[VocPhoto]:
    """The photos of a year as it is released: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.

    Args:
        folder: the folder of the year, such as ``VOCdevkit/VOC2007``.
        split: a list in ``ImageSets/Main``, such as ``test``.

    Raises:
        ValueError: a file is missing or malformed, an annotation belongs to another photo, or has no object.
    """
    photos = []
    for name in _text(folder / "ImageSets" / "Main" / f"{split}.txt").split():
        size, objects = read_annotation(folder / "Annotations" / f"{name}.xml")
        photos.append(VocPhoto(folder / "JPEGImages" / f"{name}.jpg", size, objects))
    return photos


def read_annotation(file: Path) -> tuple[Size, tuple[VocObject, ...]]:
    """The size of a photo and its objects, of which there is at least one.

    Raises:
        ValueError: the file is missing or malformed, belongs to another photo, or has no object.
    """
    text = _text(file)
    try:
        root, size = parse_annotation(text)
        photo = read_text(root, "filename")
        if Path(photo).stem != file.stem:
            raise ValueError(f"it belongs to another photo, {photo}")
        objects = tuple(
            VocObject(
                read_text(element, "name"),
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


def parse_annotation(text: str) -> tuple[ElementTree.Element, Size]:
    """The root of an annotation, and the size that it says the photo has.

    Raises:
        ValueError: the text is no XML, or says no size.
    """
    if "<!DOCTYPE" in text:  # XML entities could expand to huge texts or read other files
        raise ValueError("a document type is not allowed")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    height, width = (int(read_text(root, f"size/{side}")) for side in ("height", "width"))
    if min(height, width) < 1:
        raise ValueError(f"no photo has {width}×{height} pixels")
    return root, (height, width)


def read_box(element: ElementTree.Element, size: Size) -> Box:
    """The box of an object; in the file, corners are inclusive and counted from 1.

    Raises:
        ValueError: the object has no box, or it does not lie in the photo.
    """
    height, width = size
    x1, y1, x2, y2 = (float(read_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):  # false for NaN, too
        raise ValueError(f"box {x1:g} {y1:g} {x2:g} {y2:g} is not within {width}×{height} pixels")
    return x1 - 1, y1 - 1, x2, y2


def read_text(parent: ElementTree.Element, path: str) -> str:
    """The text of an element; raises ValueError where there is none."""
    text = parent.findtext(path)
    if text is None:
        raise ValueError(f"no {path} in <{parent.tag}>")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8") from None
