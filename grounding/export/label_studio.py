"""Label Studio: tasks whose pre-annotations people correct, and the configuration of the labels."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from grounding.export.photos import Name, Photo, Result, read_photos
from grounding.export.records import Record, collect

MODEL = "phrase-grounding"
CONFIG_HEAD = '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
CONFIG_TAIL = "  </RectangleLabels>\n</View>\n"


def to_label_studio(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> list[dict[str, Any]]:
    """Export regions as tasks of Label Studio, all boxes of a photo in one prediction.

    Outlines become boxes. A label is a phrase in lower case without its article; `label_studio_config` makes the
    configuration of a project with these labels. The phrase itself, and what it is ranked by, is in ``meta``.

    Args:
        results: groundings, or rows of a batch; photos that failed are left out.
        names: see `grounding.export.photos.read_photos`, also for ``count`` and ``guesses``. Label Studio loads photos
            by them, so that they are URLs, or ``/data/local-files/?d=…``.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word are exported, too.

    Raises:
        ValueError: see `read_photos`.
    """
    return collect(LabelStudioExport(), read_photos(results, names, count=count, guesses=guesses))["tasks"]


def label_studio_config(tasks: Sequence[dict[str, Any]]) -> str:
    """The labelling configuration of a project for these tasks, in XML."""
    labels = dict.fromkeys(
        label
        for task in tasks
        for prediction in task["predictions"]
        for result in prediction["result"]
        for label in result["value"]["rectanglelabels"]
    )
    return CONFIG_HEAD + "".join(f"{label_element(label)}\n" for label in labels) + CONFIG_TAIL


def label_element(label: str) -> str:
    """The element of a label in a configuration.

    >>> label_element('a "big" dog & cat')
    '    <Label value=\\'a "big" dog &amp; cat\\'/>'
    """
    return f"    <Label value={quoteattr(label)}/>"


class LabelStudioExport:
    """Turns one photo after the other into a task, and keeps the labels that have occurred."""

    streams = ("tasks", "labels")

    def __init__(self) -> None:
        self._labels: set[str] = set()

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield new labels of a photo, and its task."""
        height, width = photo.size
        results: list[dict[str, Any]] = []
        objects = photo.objects()
        for phrase, region in objects:
            if phrase.label not in self._labels:
                self._labels.add(phrase.label)
                yield "labels", phrase.label
            x1, y1, x2, y2 = region.box
            results.append(
                {
                    "id": f"region_{len(results) + 1}",
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": region.score,
                    "meta": {"text": [phrase.text], "ranked_by": phrase.ranked_by},
                    "value": {  # in per cent of the photo, from the left top corner
                        "x": 100 * x1 / width,
                        "y": 100 * y1 / height,
                        "width": 100 * (x2 - x1) / width,
                        "height": 100 * (y2 - y1) / height,
                        "rotation": 0,
                        "rectanglelabels": [phrase.label],
                    },
                }
            )
        predictions = []
        if results:
            # Label Studio takes scores of predictions from 0 to 1 alone: not those of regions, but probabilities.
            known = [phrase.probability for phrase, _ in objects if phrase.probability is not None]
            score = {"score": sum(known) / len(known)} if known else {}
            predictions = [{"model_version": MODEL, **score, "result": results}]
        yield "tasks", {"data": {"image": photo.name}, "predictions": predictions}
