"""The rows of Tables 6 and 7: our results, by the photos they were measured on, and the paper's own rows.

Rows that were measured on different photos never share a table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eval.names import PROPOSALS
from eval.published import PaperRow, published
from eval.result import BoxScores, Measured, MeasuredPhotos, Result, Subset
from eval.tables.cells import count
from grounding.names import METHODS

HEADLINE = "zhang18"  # the preset of Tables 6 and 7

Values = tuple[float | None, ...]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of Tables 6 and 7, in per cent; None where there is no value."""

    name: str
    gamma: float | None
    all: Values  # `eval.published.COLUMNS`, with mAP of raw scores
    small: Values
    intervals: tuple[tuple[Interval | None, ...], ...]  # 95 %, of R@1, R@5 and R@10 of all, and of small phrases
    recall_5: Values  # R@5 of each type
    mean: float | None  # of these


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Results that were measured on the same photos, in the order of the paper's rows."""

    label: str  # such as "part of val, 247 photos"
    data: MeasuredPhotos
    results: tuple[Result, ...]


def photos_label(data: MeasuredPhotos) -> str:
    """Name the photos of a result, such as "part of val, 247 photos"."""
    return ", ".join(part for part in (data.split, f"{count(data.photos)} photos") if part)


def photo_sets(results: Sequence[Result]) -> list[PhotoSet]:
    """Group results by their photos: the test split first, then the others by their number of photos."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.manifest.data.digest, []).append(result)
    sets = [
        PhotoSet(photos_label(group[0].manifest.data), group[0].manifest.data, tuple(in_paper_order(group)))
        for group in groups.values()
    ]
    return sorted(sets, key=lambda found: (found.data.split != "test", -found.data.photos, found.data.digest))


def in_paper_order(results: Sequence[Result]) -> list[Result]:
    """Sort results as the paper sorts its methods; methods that are not in the paper follow by name."""
    order = [row.name for row in published().paper]

    def key(result: Result) -> tuple[int, str]:
        name = paper_name(result)
        return len(order) if name is None else order.index(name), result.name

    return sorted(results, key=key)


def paper_name(result: Result) -> str | None:
    """Return the name of the paper's row that a result repeats, by its own name or by its attention and proposals."""
    names = [row.name for row in published().paper]
    plain = re.sub(r"edge[ _]?boxes", "EB", result.name, flags=re.IGNORECASE).casefold()
    by_name = next((name for name in names if plain.startswith(name.casefold())), None)
    attention, proposals = result.manifest.attention, result.manifest.proposals
    by_settings = f"{METHODS.get(str(attention))} ({PROPOSALS.get(str(proposals))})"
    return by_name or (by_settings if by_settings in names else None)


def headline(result: Result) -> tuple[str, BoxScores] | None:
    """Return the preset of boxes that stands for a result, with its name: the paper's, or else the first."""
    boxes = result.boxes
    name = HEADLINE if HEADLINE in boxes else next(iter(boxes), None)
    return None if name is None else (name, boxes[name])


def headline_scores(results: Sequence[Result]) -> list[tuple[str, Result, BoxScores]]:
    """Return name, result and scores of each result with boxes; the name tells where the preset is not the paper's."""
    found = [(result, headline(result)) for result in results]
    return [
        (result.name if scored[0] == HEADLINE else f"{result.name}, by {scored[0]}", result, scored[1])
        for result, scored in found
        if scored is not None
    ]


def our_rows(results: Sequence[Result]) -> list[TableRow]:
    """Make a row of each result that has scores of boxes."""
    return [
        TableRow(
            name=name,
            gamma=gamma_of(result),
            all=_values(scores.all),
            small=_values(scores.small),
            intervals=tuple(
                tuple(_interval(measured) for measured in _recalls(subset)) for subset in (scores.all, scores.small)
            ),
            recall_5=tuple(
                per_cent(scores.all.types[kind].recall.at_5.share) if kind in scores.all.types else None
                for kind in published().types
            ),
            mean=per_cent(scores.all.type_mean_recall_5),
        )
        for name, result, scores in headline_scores(results)
    ]


def paper_rows() -> list[TableRow]:
    """Make a row of each row of the paper."""
    return [_paper_row(row) for row in published().paper]


def gamma_of(result: Result) -> float | None:
    """Return the γ that a result was measured with; None where it has none."""
    return None if result.manifest.gamma is None else result.manifest.gamma.value


def per_cent(share: float | None) -> float | None:
    """Convert a share to per cent."""
    return None if share is None else 100 * share


def _paper_row(row: PaperRow) -> TableRow:
    return TableRow(
        name=row.name,
        gamma=row.gamma,
        all=row.all,
        small=row.small,
        intervals=((None,) * 3,) * 2,
        recall_5=row.recall_5 or (None,) * len(published().types),
        mean=row.mean,
    )


def _values(subset: Subset) -> Values:
    """`eval.published.COLUMNS` of a subset."""
    shares = [measured.share for measured in _recalls(subset)]
    return tuple(per_cent(share) for share in (*shares, subset.raw_precision.group, subset.raw_precision.phrase))


def _recalls(subset: Subset) -> tuple[Measured, Measured, Measured]:
    return subset.recall.at_1, subset.recall.at_5, subset.recall.at_10


def _interval(measured: Measured) -> Interval | None:
    return None if measured.interval is None else (100 * measured.interval[0], 100 * measured.interval[1])
