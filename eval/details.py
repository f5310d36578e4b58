"""The details of a result, phrase by phrase and label by label, as CSV tables for other programs."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from eval.judging import Judged, is_small
from eval.metrics import precision_by_label
from eval.records import Prediction


def phrases_csv(judged: Sequence[Judged], predictions: Sequence[Prediction], *, small: float) -> str:
    """Write a table with a line for each phrase and the quality of its prediction; missing values are empty cells.

    Columns: ``rank`` of the first correct box, ``within_reach``, whether any box is correct, ``iou`` and ``outcome`` of
    the first box (see `eval.errors`), ``known``, whether the model knows a word, and ``reached``, the winning
    probability that reached the layer.

    Args:
        judged: the phrases, judged by a protocol.
        predictions: the prediction for each of them.
        small: share of the photo below which a phrase's box is small.
    """
    head = ("photo", "sentence", "phrase", "text", "label", "types", "small", "known", "rank", "within_reach")
    lines: list[Sequence[object]] = [(*head, "iou", "outcome", "reached")]
    for one, prediction in zip(judged, predictions, strict=True):
        phrase = one.instance
        lines.append(
            [
                phrase.photo,
                phrase.sentence,
                phrase.phrase,
                phrase.text,
                phrase.label,
                "/".join(phrase.types),
                int(is_small(phrase, small)),
                None if prediction.is_known is None else int(prediction.is_known),
                one.rank,
                int(one.is_within_reach),
                f"{one.first_iou:.4f}",
                one.outcome,
                None if prediction.reached is None else f"{prediction.reached:.4f}",
            ]
        )
    return _csv(lines)


def labels_csv(judged: Sequence[Judged]) -> str:
    """A line for each label of mAP (Phrase): its number of phrases and its average precision, frequent ones first."""
    counts = Counter(one.instance.label for one in judged)
    found = precision_by_label(judged)
    ordered = sorted(found, key=lambda label: (-counts[label], label))
    return _csv([("label", "phrases", "ap"), *((label, counts[label], f"{found[label]:.6f}") for label in ordered)])


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
