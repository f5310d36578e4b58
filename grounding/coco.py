"""COCO (Lin et al. 2014): photos with the categories, boxes and outlines of their objects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Polygons: TypeAlias = tuple[tuple[float, ...], ...]  # the parts of an outline, each x and y in turn
RunLengths: TypeAlias = tuple[int, ...]  # pixels outside and inside a mask in turn, down its columns


@dataclass(frozen=True, slots=True)
class CocoObject:
    """A thing in a photo, or a crowd of things."""

    category: str
    box: tuple[float, float, float, float]  # xyxy in pixels
    outline: Polygons | RunLengths
    is_crowd: bool

    def mask(self, size: tuple[int, int]) -> Tensor:
        """The pixels whose centres lie in the outline, (H, W) bool; raises ValueError where run lengths do not fit."""
        if self.outline and isinstance(self.outline[0], int):
            return _mask_of_runs(np.array(self.outline), size)
        from skimage.draw import polygon

        mask = np.zeros(size, bool)
        for part in self.outline:
            x, y = np.array(part).reshape(-1, 2).T - 0.5  # scikit-image has the centres at whole numbers
            mask[polygon(y, x, size)] = True  # type: ignore[no-untyped-call]
        return torch.from_numpy(mask)


@dataclass(frozen=True, slots=True)
class CocoPhoto:
    """A photo and all of its objects."""

    path: Path
    size: tuple[int, int]  # (height, width)
    objects: tuple[CocoObject, ...]

    @property
    def things(self) -> tuple[CocoObject, ...]:
        """The objects that are no crowds."""
        return tuple(one for one in self.objects if not one.is_crowd)


def read_photos(annotations: Path, images: Path) -> tuple[list[CocoPhoto], tuple[str, ...]]:
    """The photos of a file such as ``instances_val2014.json``, and the names of all categories by their numbers.

    Args:
        annotations: the file.
        images: the folder of the photos.

    Raises:
        ValueError: the file is missing, or no such file.
    """
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        categories = {one["id"]: str(one["name"]) for one in content["categories"]}
        objects: dict[Any, list[CocoObject]] = {}
        for item in content["annotations"]:
            objects.setdefault(item["image_id"], []).append(_object(item, categories))
        photos = [
            CocoPhoto(
                images / photo["file_name"], (photo["height"], photo["width"]), tuple(objects.get(photo["id"], ()))
            )
            for photo in content["images"]
        ]
    except OSError as error:
        raise ValueError(f"{annotations}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{annotations}: these are not instances as COCO writes them: {error!r}") from None
    return photos, tuple(categories[number] for number in sorted(categories))


def object_boxes(photo: CocoPhoto) -> Tensor:
    """The boxes of a photo's K things, (K, 4), xyxy."""
    return torch.tensor([one.box for one in photo.things], dtype=torch.float64).reshape(-1, 4)


def object_masks(photo: CocoPhoto) -> Tensor:
    """The masks of a photo's K things, (K, H, W) bool."""
    masks = [one.mask(photo.size) for one in photo.things]
    return torch.stack(masks) if masks else torch.zeros(0, *photo.size, dtype=torch.bool)


def _object(item: Mapping[str, Any], categories: Mapping[Any, str]) -> CocoObject:
    left, top, width, height = item["bbox"]
    segmentation = item["segmentation"]
    if isinstance(segmentation, list):
        outline: Polygons | RunLengths = tuple(tuple(map(float, part)) for part in segmentation)
    elif isinstance(segmentation["counts"], list):
        outline = tuple(map(int, segmentation["counts"]))
    else:
        raise ValueError("run lengths are compressed, but COCO's own files list them as numbers")
    return CocoObject(
        category=categories[item["category_id"]],
        box=(left, top, left + width, top + height),
        outline=outline,
        is_crowd=bool(item.get("iscrowd")),
    )


def _mask_of_runs(runs: "np.ndarray[Any, np.dtype[np.int64]]", size: tuple[int, int]) -> Tensor:
    if runs.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths of {runs.sum()} pixels, but the photo has {size[1]}×{size[0]}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return torch.from_numpy(values.reshape(size[1], size[0]).T.copy())
