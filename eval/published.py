"""What others have published, in ``published.json``: the paper's Tables 6 and 7, and rows of the leaderboard.

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
    supervised: bool  # whether it learned from the boxes of Flickr30k Entities
    all: tuple[float | None, ...]  # `COLUMNS`
    small: tuple[float | None, ...]
    recall_5: tuple[float, ...] | None  # R@5 of each of `eval.flickr30k.TYPES`
    mean: float | None  # of these, as printed
    note: str


@dataclass(frozen=True, slots=True)
class Row:
    """A published row of the leaderboard."""

    method: str
    numbers: tuple[float | None, ...]  # R@1, R@5, R@10, or pointing accuracy; as many as are known, at least one
    shown: str  # what stands for the first number where that is a range or about right; else empty
    protocol: str | None  # a key of `Published.protocols`
    split: str | None
    source: str | None
    mark: str  # how sure it is: a key of `Published.marks`
    note: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that may be compared, as far as their protocols allow."""

    name: str
    title: str
    kind: str  # boxes or pointing
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """All of ``published.json``."""

    marks: dict[str, str]  # what V, S and M mean
    protocols: dict[str, str]  # in words
    photos: int  # that the paper tested on
    split: str
    paper: tuple[PaperRow, ...]  # in the paper's order
    groups: tuple[Group, ...]


@cache
def published() -> Published:
    """The published numbers, read from the file beside this one."""
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
        Group(group["name"], group["title"], group["kind"], tuple(map(_row, group["rows"])))
        for group in values["groups"]
    )
    source = values["paper"]
    return Published(values["marks"], values["protocols"], source["photos"], source["split"], paper, groups)


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
