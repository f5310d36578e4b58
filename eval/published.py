"""Published numbers, in ``published.json``: the paper's Tables 6 and 7, and rows of other papers.

Numbers are in per cent, as they were printed.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

COLUMNS = ("R@1", "R@5", "R@10", "mAP (Group)", "mAP (Phrase)")  # of Table 6


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of Table 6, with its row of Table 7; None where the paper has a dash."""

    name: str  # method and proposals, such as "c-MWP (MCG)"
    proposals: str
    gamma: float | None
    supervised: bool  # whether the method learned from the boxes of Flickr30k Entities
    all: tuple[float | None, ...]  # `COLUMNS`
    small: tuple[float | None, ...]
    recall_5: tuple[float, ...] | None  # R@5 of each of `eval.flickr30k.TYPES`
    mean: float | None  # mean of ``recall_5``, as printed
    note: str


@dataclass(frozen=True, slots=True)
class Row:
    """A published row of another paper."""

    method: str
    numbers: tuple[float | None, ...]  # R@1, R@5 and R@10 as far as they are known, or pointing accuracy
    shown: str  # how the first number is printed where it is a range or approximate; else empty
    protocol: str | None  # a key of `Published.protocols`
    split: str | None
    source: str | None
    mark: str  # how reliable the number is: a key of `Published.marks`
    note: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rows with the same kind of supervision and measure."""

    name: str
    title: str
    kind: str  # boxes or pointing
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The contents of ``published.json``."""

    marks: dict[str, str]  # meaning of each mark
    protocols: dict[str, str]  # description of each protocol
    photos: int  # number of photos that the paper tested on
    split: str
    types: tuple[str, ...]  # of phrases, in the order of Table 7
    paper: tuple[PaperRow, ...]  # in the paper's order
    groups: tuple[Group, ...]


@cache
def published() -> Published:
    """Read the published numbers."""
    values = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    nothing = (None,) * len(COLUMNS)
    paper = tuple(
        PaperRow(
            name=row["name"],
            proposals=row["proposals"],
            gamma=row["gamma"],
            supervised=row["supervised"],
            all=tuple(row["all"]),
            small=tuple(row["small"] or nothing),
            recall_5=tuple(row["recall_5"]) if row["recall_5"] else None,
            mean=row["mean"],
            note=row.get("note", ""),
        )
        for row in values["paper"]["rows"]
    )
    groups = tuple(
        Group(
            name=group["name"],
            title=group["title"],
            kind=group["kind"],
            note=group.get("note", ""),
            rows=tuple(_row(row) for row in group["rows"]),
        )
        for group in values["groups"]
    )
    source = values["paper"]
    return Published(
        marks=values["marks"],
        protocols=values["protocols"],
        photos=source["photos"],
        split=source["split"],
        types=tuple(source["types"]),
        paper=paper,
        groups=groups,
    )


def _row(values: dict[str, object]) -> Row:
    numbers = values["numbers"]
    assert isinstance(numbers, list)
    text = {name: values.get(name) for name in ("protocol", "split", "source")}
    return Row(
        method=str(values["method"]),
        numbers=tuple(numbers),
        shown=str(values.get("shown", "")),
        **{name: None if value is None else str(value) for name, value in text.items()},
        mark=str(values["mark"]),
        note=str(values.get("note", "")),
    )
