"""A table of texts, and how numbers are written in its cells. Shares from 0 to 1 are written in per cent."""

from dataclasses import dataclass

from eval.result import Measured

NONE = "–"  # a cell without a value


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose cells are texts, for the console or for Markdown."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset({0})  # the columns that are aligned on the left

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(f"{self.title}: expected {len(self.heads)} cells in a row, got {len(row)}")


def number(value: float | None) -> str:
    """Write a number with one decimal.

    >>> number(26.25), number(None)
    ('26.2', '–')
    """
    return NONE if value is None else f"{value:.1f}"


def percent(share: float | None) -> str:
    """Write a share in per cent with one decimal.

    >>> percent(0.4077)
    '40.8'
    """
    return number(None if share is None else 100 * share)


def with_interval(measured: Measured) -> str:
    """Write a share with its 95 % interval.

    >>> with_interval(Measured(0.4077, (0.3775, 0.439)))
    '40.8 (37.8–43.9)'
    """
    if measured.share is None or measured.interval is None:
        return percent(measured.share)
    low, high = measured.interval
    return f"{percent(measured.share)} ({percent(low)}–{percent(high)})"


def pair(first: str, second: str) -> str:
    """Write the values of all and of small instances in one cell; a dash where both are missing."""
    return NONE if first == second == NONE else f"{first}/{second}"


def count(value: int) -> str:
    """Write a count with thousands separated by commas."""
    return f"{value:,}"


def gamma(value: float | None) -> str:
    """Write an area exponent γ with two decimals."""
    return NONE if value is None else f"{value:.2f}"
