"""What a result is made of, phrase by phrase and label by label, as tables for other programs."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from eval.metrics import Judged, ap_by_label, is_small


def phrases_csv(judged: Sequence[Judged], known: Sequence[bool] | None, *, small: float) -> str:
    """A line for each phrase: which it is, the rank of its first correct box (empty: none), what bounds it.

    Args:
        judged: phrases by a protocol.
        known: whether a phrase has a word that the model knows; None where no model was asked.
        small: share of the photo below which a phrase's box is small.
    """
    lines: list[Sequence[object]] = [
        ("photo", "sentence", "phrase", "text", "label", "types", "small", "known", "rank", "within_reach")
    ]
    for index, one in enumerate(judged):
        which, is_known = one.instance, None if known is None else int(known[index])
        lines.append(
            (
                *(which.photo, which.sentence, which.phrase, which.text, which.label, "/".join(which.types)),
                *(int(is_small(which, small)), is_known, one.rank, int(one.is_within_reach)),
            )
        )
    return _csv(lines)


def labels_csv(judged: Sequence[Judged]) -> str:
    """A line for each label of mAP (Phrase): its number of phrases and its average precision, frequent ones first."""
    counts = Counter(one.instance.label for one in judged)
    found = ap_by_label(judged)
    ordered = sorted(found, key=lambda label: (-counts[label], label))
    return _csv([("label", "phrases", "ap"), *((label, counts[label], f"{found[label]:.6f}") for label in ordered)])


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
