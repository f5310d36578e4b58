"""Objects of other libraries in Python: supervision's detections, and FiftyOne's samples."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from grounding.export.photos import Name, Photo, Result, read_photos, to_xywh


def to_supervision(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> list[Any]:
    """Export regions as `supervision.Detections`, one for each photo; those of a photo that failed are empty.

    Their ``data`` has ``class_name`` (the phrase in lower case without its article), ``phrase``, ``caption`` (its
    index) and ``ranked_by``. ``class_id`` numbers the class names of all results from 0. There are masks where all
    regions of a photo have outlines, as rows never have.

    Args:
        results: groundings, or rows of a batch.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too.

    Raises:
        ValueError: supervision is not installed; or see `read_photos`.
    """
    try:
        from supervision import Detections
    except ImportError:
        raise ValueError("to_supervision needs supervision: pip install supervision") from None
    class_ids: dict[str, int] = {}
    exported = []
    for photo in read_photos(results, names, count=count, guesses=guesses):
        objects = photo.objects()
        if not objects:
            exported.append(Detections.empty())
            continue
        masks = [region.mask(photo.size) for _, region in objects]
        outlines = [mask.numpy() for mask in masks if mask is not None]
        phrases = [phrase for phrase, _ in objects]
        exported.append(
            Detections(
                xyxy=np.array([region.box for _, region in objects], np.float32),
                mask=np.stack(outlines) if len(outlines) == len(objects) else None,
                confidence=np.array([region.score for _, region in objects], np.float32),
                class_id=np.array([class_ids.setdefault(phrase.label, len(class_ids)) for phrase in phrases]),
                data={
                    "class_name": np.array([phrase.label for phrase in phrases]),
                    "phrase": np.array([phrase.text for phrase in phrases]),
                    "caption": np.array([phrase.caption for phrase in phrases]),
                    "ranked_by": np.array([phrase.ranked_by for phrase in phrases]),
                },
            )
        )
    return exported


def to_fiftyone(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> list[Any]:
    """Export photos as `fiftyone.Sample`, with detections and heat maps; photos that failed are left out.

    ``phrases`` of a sample holds a `fiftyone.Detection` for each region, whose ``label`` is the phrase in lower case
    without its article, with its mask, if there is one, cropped to the box. ``attention_1``, ``attention_2`` … hold a
    `fiftyone.Heatmap` for each phrase that has attention, with its ``phrase``; rows have none. ``captions`` are the
    captions.

    Args:
        results: groundings, or rows of a batch.
        names: the paths of the photos, see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too.

    Raises:
        ValueError: FiftyOne is not installed; or see `read_photos`.
    """
    try:
        import fiftyone
    except ImportError:
        raise ValueError("to_fiftyone needs FiftyOne: pip install fiftyone (docs/export.md)") from None
    samples = []
    for photo in read_photos(results, names, count=count, guesses=guesses):
        if photo.error is not None:
            continue
        detections = [fiftyone.Detection(**values) for values in _detections(photo)]
        maps = [(phrase.text, phrase.attention) for phrase in photo.phrases if phrase.attention is not None]
        heat_maps = {
            f"attention_{number}": fiftyone.Heatmap(**_heat_map(attention), phrase=text)
            for number, (text, attention) in enumerate(maps, 1)
        }
        samples.append(
            fiftyone.Sample(
                filepath=photo.name,
                captions=list(photo.captions or ()),
                phrases=fiftyone.Detections(detections=detections),
                **heat_maps,
            )
        )
    return samples


def _detections(photo: Photo) -> list[dict[str, Any]]:
    """The arguments of FiftyOne's detections in a photo."""
    height, width = photo.size
    detections = []
    for phrase, region in photo.objects():
        x, y, box_width, box_height = to_xywh(region.box)
        mask = region.mask(photo.size)
        outline = {} if mask is None else {"mask": _cropped(mask, region.box)}
        detections.append(
            {
                "label": phrase.label,
                "bounding_box": [x / width, y / height, box_width / width, box_height / height],
                "confidence": region.score,
                "phrase": phrase.text,
                "ranked_by": phrase.ranked_by,
                **outline,
            }
        )
    return detections


def _cropped(mask: Tensor, box: tuple[float, float, float, float]) -> Any:
    """The part of a mask (H, W) in a box, at least one pixel."""
    x1, y1, x2, y2 = (round(edge) for edge in box)
    x1, y1 = min(x1, mask.shape[1] - 1), min(y1, mask.shape[0] - 1)
    return mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)].numpy()


def _heat_map(attention: Tensor) -> dict[str, Any]:
    """The arguments of FiftyOne's heat map."""
    greatest = float(attention.max())
    return {"map": attention.numpy(), "range": [0.0, greatest if greatest > 0 else 1.0]}
