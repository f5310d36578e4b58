"""Formats that detectors of phrases are trained with: an entry for each caption, and spans of characters in it.

A caption of which no phrase has a region is left out, because an entry without boxes would teach that nothing is there.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from grounding.export.masks import encode_mask
from grounding.export.photos import Name, Photo, Result, read_photos, to_xywh
from grounding.export.records import Record, collect


def to_mdetr(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> dict[str, Any]:
    """Export captions as MDETR's variety of COCO's annotations.

    Args:
        results: groundings, or rows of a batch; photos that failed are left out.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too; the format cannot mark them.

    Returns:
        ``images``, one for each caption, with ``caption``, ``original_img_id`` (the id of the row, or the number of the
        grounding, from 1) and ``sentence_id`` (the index of the caption); ``annotations``, one for each region, with
        ``bbox`` (x, y, width, height) and ``tokens_positive`` (start and end of the phrase in characters); and
        ``categories``, of which there is one.

    Raises:
        ValueError: a row does not tell its captions; or see `read_photos`.
    """
    return {
        **collect(MdetrExport(), read_photos(results, names, count=count, guesses=guesses)),
        "categories": MDETR_CATEGORIES,
    }


def to_odvg(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> list[dict[str, Any]]:
    """Export captions in ODVG, the lines of JSON that mmdetection and Open-GroundingDino train Grounding DINO with.

    A region has one box and the span of its phrase, which suits the readers of both.

    Args:
        results: groundings, or rows of a batch; photos that failed are left out.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too; the format cannot mark them.

    Returns:
        An entry for each caption: ``filename``, ``height``, ``width`` and ``grounding`` with ``caption`` and
        ``regions``, each with ``bbox`` (x1, y1, x2, y2), ``phrase`` and ``tokens_positive``.

    Raises:
        ValueError: a row does not tell its captions; or see `read_photos`.
    """
    return collect(OdvgExport(), read_photos(results, names, count=count, guesses=guesses))["entries"]


def to_grit(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> list[dict[str, Any]]:
    """Export captions as GRIT, the data that Kosmos-2 was trained with.

    Args:
        results: groundings, or rows of a batch; photos that failed are left out.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too; the format cannot mark them.

    Returns:
        An entry for each caption: ``image``, ``height``, ``width``, ``caption``, ``noun_chunks``, each of them start
        and end in the caption in characters, x1, y1, x2, y2 from 0 to 1, and the score; and ``ref_exps``, always empty.

    Raises:
        ValueError: a row does not tell its captions; or see `read_photos`.
    """
    return collect(GritExport(), read_photos(results, names, count=count, guesses=guesses))["entries"]


MDETR_CATEGORIES = [{"supercategory": "object", "id": 1, "name": "object"}]


class MdetrExport:
    """Turns one photo after the other into MDETR's records, and counts images and annotations."""

    streams = ("images", "annotations")

    def __init__(self) -> None:
        self._images = self._annotations = 0

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield the records of a photo: an image for each caption, and its annotations."""
        height, width = photo.size
        for index, caption, phrases in photo.captioned():
            self._images += 1
            yield (
                "images",
                {
                    "id": self._images,
                    "file_name": photo.name,
                    "height": height,
                    "width": width,
                    "caption": caption,
                    "dataset_name": "phrase_grounding",
                    "original_img_id": photo.id,
                    "sentence_id": index,
                    "tokens_negative": [[0, len(caption)]],
                },
            )
            for phrase in phrases:
                for region in phrase.regions:
                    self._annotations += 1
                    x, y, box_width, box_height = to_xywh(region.box)
                    mask = region.mask(photo.size)
                    outline = {} if mask is None else {"segmentation": encode_mask(mask)}
                    yield (
                        "annotations",
                        {
                            "id": self._annotations,
                            "image_id": self._images,
                            "category_id": 1,
                            "bbox": [x, y, box_width, box_height],
                            "area": box_width * box_height if mask is None else int(mask.sum()),
                            "iscrowd": 0,
                            "tokens_positive": [list(phrase.span)],
                            **outline,
                        },
                    )


class OdvgExport:
    """Turns one photo after the other into the entries of ODVG."""

    streams = ("entries",)

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield an entry for each caption of a photo."""
        height, width = photo.size
        for _, caption, phrases in photo.captioned():
            regions = [
                {"bbox": list(region.box), "phrase": phrase.text, "tokens_positive": [list(phrase.span)]}
                for phrase in phrases
                for region in phrase.regions
            ]
            grounding = {"caption": caption, "regions": regions}
            yield "entries", {"filename": photo.name, "height": height, "width": width, "grounding": grounding}


class GritExport:
    """Turns one photo after the other into the entries of GRIT."""

    streams = ("entries",)

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield an entry for each caption of a photo."""
        height, width = photo.size
        for _, caption, phrases in photo.captioned():
            chunks = []
            for phrase in phrases:
                for region in phrase.regions:
                    x1, y1, x2, y2 = region.box
                    chunks.append([*phrase.span, x1 / width, y1 / height, x2 / width, y2 / height, region.score])
            yield (
                "entries",
                {
                    "image": photo.name,
                    "height": height,
                    "width": width,
                    "caption": caption,
                    "noun_chunks": chunks,
                    "ref_exps": [],
                },
            )
