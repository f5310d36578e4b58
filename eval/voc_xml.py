"""XML annotations of a photo's objects in the form of PASCAL VOC, which Flickr30k Entities and ImageNet share."""

from xml.etree import ElementTree

Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[float, float, float, float]  # xyxy in pixels, 0-based, x2 and y2 exclusive


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
