"""COCO (Lin et al. 2014): photos with the boxes and outlines of their objects."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CocoPhoto:
    """A photo and its K objects, in COCO's notation."""

    path: Path
    index: int  # among all photos; determines its fold
    size: tuple[int, int]  # (height, width)
    boxes: tuple[tuple[float, ...], ...]  # (K, 4), x, y, width, height
    polygons: tuple[tuple[tuple[float, ...], ...], ...]  # (K, parts, coordinates), x and y in turn


def read_photos(folder: Path) -> list[CocoPhoto]:
    """The photos of ``instances.json`` with those of their objects that have polygons and are no crowds.

    Raises:
        ValueError: the file is missing, or no such file.
    """
    path = folder / "instances.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        objects: dict[str, list[dict[str, Any]]] = {}
        for item in content["annotations"]:
            if not item.get("iscrowd") and isinstance(item["segmentation"], list):  # other outlines are run lengths
                objects.setdefault(str(item["image_id"]), []).append(item)
        return [
            CocoPhoto(
                folder / "images" / photo["file_name"],
                index,
                (photo["height"], photo["width"]),
                tuple(tuple(item["bbox"]) for item in objects.get(str(photo["id"]), [])),
                tuple(tuple(map(tuple, item["segmentation"])) for item in objects.get(str(photo["id"]), [])),
            )
            for index, photo in enumerate(content["images"])
        ]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: these are not instances as COCO writes them: {error!r}") from None


def object_boxes(photo: CocoPhoto) -> Tensor:
    """The boxes of a photo's objects, (K, 4), xyxy."""
    boxes = torch.tensor(photo.boxes, dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def object_masks(photo: CocoPhoto) -> Tensor:
    """The pixels whose centres lie in the outlines of a photo's objects, (K, H, W) bool."""
    from skimage.draw import polygon

    masks = np.zeros((len(photo.polygons), *photo.size), bool)
    for mask, parts in zip(masks, photo.polygons, strict=True):
        for part in parts:
            x, y = np.array(part).reshape(-1, 2).T - 0.5  # scikit-image has the centres at whole numbers
            mask[polygon(y, x, photo.size)] = True  # type: ignore[no-untyped-call]
    return torch.from_numpy(masks)
