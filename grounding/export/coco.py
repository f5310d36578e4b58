"""COCO: results for `pycocotools.coco.COCO.loadRes`, with the images and the categories that they name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grounding.export.masks import encode_mask
from grounding.export.photos import Name, Photo, Result, read_photos, to_xywh
from grounding.export.records import Record, collect


@dataclass(frozen=True)
class CocoResults:
    """Results in COCO's format.

    Args:
        results: an entry for each region: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score``, and
            ``segmentation`` where the region has an outline; also its ``phrase``, and what it is ``ranked_by``.
        images: ``id``, ``file_name``, ``height`` and ``width`` of each photo.
        categories: ``id`` and ``name`` of each category.
    """

    results: list[dict[str, Any]]
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]

    def dataset(self) -> dict[str, Any]:
        """The images and categories as a dataset without annotations, which results can be loaded into."""
        return {"images": self.images, "categories": self.categories, "annotations": []}


def to_coco(
    results: Iterable[Result],
    names: Iterable[Name] | None = None,
    *,
    count: int = 1,
    guesses: bool = False,
    categories: Mapping[str, int] | None = None,
    image_ids: Mapping[str, int] | None = None,
) -> CocoResults:
    """Export regions as COCO results.

    The vocabulary is open: a category is a phrase in lower case without its article ("red cup"), and categories are
    numbered from 1 in the order in which they occur. An image has the id of its row, or the number of its grounding,
    from 1.

    Args:
        results: groundings, or rows of a batch; photos that failed are left out.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too.
        categories: the ids of categories by name, such as those of annotations to compare with.
        image_ids: the ids of images by the names of their photos, such as those of annotations to compare with.

    Raises:
        ValueError: a phrase or a photo is not among the given ids; or see `read_photos`.
    """
    export = CocoExport(categories, image_ids)
    found = collect(export, read_photos(results, names, count=count, guesses=guesses))
    return CocoResults(found["results"], found["images"], found["categories"])


class CocoExport:
    """Turns one photo after the other into COCO's records, and keeps the ids of the categories."""

    streams = ("results", "images", "categories")

    def __init__(self, categories: Mapping[str, int] | None = None, image_ids: Mapping[str, int] | None = None) -> None:
        self._given, self._image_ids = categories, image_ids
        self._categories: dict[str, int] = {}  # those that have occurred

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield the records of a photo: the image, then new categories and the results of each region."""
        height, width = photo.size
        image_id = photo.id if self._image_ids is None else _given_id(self._image_ids, photo.name, "image_ids")
        yield "images", {"id": image_id, "file_name": photo.name, "height": height, "width": width}
        for phrase, region in photo.objects():
            if phrase.label not in self._categories:
                number = len(self._categories) + 1
                number = number if self._given is None else _given_id(self._given, phrase.label, "categories")
                self._categories[phrase.label] = number
                yield "categories", {"id": number, "name": phrase.label}
            mask = region.mask(photo.size)
            result: dict[str, Any] = {
                "image_id": image_id,
                "category_id": self._categories[phrase.label],
                "bbox": list(to_xywh(region.box)),
                "score": region.score,
            }
            if mask is not None:
                result["segmentation"] = encode_mask(mask)
            yield "results", {**result, "phrase": phrase.text, "ranked_by": phrase.ranked_by}


def _given_id(ids: Mapping[str, int], name: str, setting: str) -> int:
    if name not in ids:
        raise ValueError(f"{setting} has no id for {name!r}")
    return ids[name]
