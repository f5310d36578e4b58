"""The call of transformers' zero-shot object detection: labels in, a list of scores, labels and boxes out.

This is a thin adapter around a grounder: each label is a phrase, its box is the best region, and its score is the
probability that this box is right, whether the photo shows the label or not: ``presence`` times ``probability``
(docs/scores.md). Detectors give several boxes for a label; here it has one at most.
"""

from collections.abc import Callable, Sequence
from typing import Any

from grounding.images import ImageSource
from grounding.records import GroundedPhrase, Grounding

Labels = str | Sequence[str]
Detection = dict[str, Any]  # score, label and box, which is a dictionary of xmin, ymin, xmax and ymax


def detect(
    ground: Callable[[Sequence[ImageSource], Sequence[Sequence[str]]], Sequence[Grounding]],
    images: "ImageSource | Sequence[ImageSource]",
    candidate_labels: Labels | Sequence[Labels],
    *,
    threshold: float,
    top_k: int | None,
) -> list[Detection] | list[list[Detection]]:
    """Find the labels in one photo, or in each of several.

    Args:
        ground: grounds phrases, one list of them for each photo.
        images: one photo, or a list of photos.
        candidate_labels: labels for all photos, as a list or as one text with commas between them; or, for a list of
            photos, such labels for each. A label that is given twice is answered twice.
        threshold: the least score of an answer, from 0 to 1.
        top_k: the greatest number of answers for a photo; None for all.

    Returns:
        The answers for one photo, best first; for a list of photos, a list of such lists. Boxes are whole pixels.

    Raises:
        ValueError: there is no label, a label is not text or empty, numbers differ, or a setting is out of its range.
    """
    if not _is_number(threshold) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability from 0 to 1, got {threshold!r}")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ValueError(f"top_k is a number of answers, at least 1, or None for all; got {top_k!r}")
    is_list = isinstance(images, list | tuple)
    photos: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    labels = _labels_of_each(candidate_labels, len(photos), is_list=is_list)
    found = [_answers(grounding, threshold, top_k) for grounding in ground(photos, labels)]
    return found if is_list else found[0]


def _labels_of_each(candidate_labels: object, count: int, *, is_list: bool) -> list[list[str]]:
    """The labels of each photo."""
    if is_list and isinstance(candidate_labels, list | tuple) and any(_is_list(each) for each in candidate_labels):
        if len(candidate_labels) != count:
            raise ValueError(f"{count} images, but lists of candidate_labels for {len(candidate_labels)}")
        return [_read_labels(each) for each in candidate_labels]
    return [_read_labels(candidate_labels)] * count


def _read_labels(labels: object) -> list[str]:
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",")]
    if not isinstance(labels, list | tuple):
        raise ValueError(f"candidate_labels are a list of texts, got {type(labels).__name__}")
    if not labels:
        raise ValueError("no candidate_labels: give one label or more")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"candidate_labels are texts that are not empty, got {label!r}")
    return list(labels)


def _answers(grounding: Grounding, threshold: float, top_k: int | None) -> list[Detection]:
    height, width = grounding.size
    found = [_answer(phrase, width, height) for phrase in grounding.phrases]
    found = sorted((each for each in found if each["score"] >= threshold), key=lambda each: -each["score"])
    return found[:top_k]


def _answer(phrase: GroundedPhrase, width: int, height: int) -> Detection:
    x1, y1, x2, y2 = (round(edge) for edge in phrase.regions.boxes[0].tolist())
    box = {"xmin": max(x1, 0), "ymin": max(y1, 0), "xmax": min(x2, width), "ymax": min(y2, height)}
    assert phrase.probability is not None
    assert phrase.presence is not None
    return {"score": phrase.probability * phrase.presence, "label": phrase.text, "box": box}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
