"""Tables of our results on named regions in the forms of the paper's, and tables that were published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eval.regions.result import ALPHAS, RegionResult
from eval.tables.cells import NONE, Table, count, percent, with_interval

CENTRE = "the photo's centre"  # the name of its row


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of ``published_tables.json``: numbers in per cent as they were printed, and what is said without one."""

    columns: tuple[str, ...]
    rows: dict[str, tuple[str | None, ...]]  # cells by the name of the row; None where the table has a dash


@cache
def published_tables() -> dict[str, PublishedTable]:
    """The published tables by their names, such as "table_1"."""
    path = Path(__file__).parent.parent / "published_tables.json"
    return {
        name: PublishedTable(
            columns=tuple(table["columns"]), rows={row: tuple(cells) for row, cells in table["rows"].items()}
        )
        for name, table in json.loads(path.read_text(encoding="utf-8")).items()
    }


def published_table(name: str, title: str) -> Table:
    """A published table, to be shown apart from ours."""
    table = published_tables()[name]
    rows = [(row, *(NONE if cell is None else cell for cell in cells)) for row, cells in table.rows.items()]
    return Table(title, ("method", *table.columns), tuple(rows))


def sets_of_photos(results: Sequence[RegionResult]) -> list[str]:
    """The names of the photos of results, in alphabetical order."""
    return sorted({result.manifest.data.name for result in results}, key=str.casefold)


def by_place(results: Sequence[RegionResult]) -> dict[tuple[str, str], RegionResult]:
    """Results by their names and those of their photos."""
    return {(result.name, result.manifest.data.name): result for result in results}


def game_tables(results: Sequence[RegionResult]) -> list[Table]:
    """The mean accuracy of each method on each set of photos, for all and difficult pairs; the centres come last."""
    data, found = sets_of_photos(results), by_place(results)
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        chosen = [found.get((name, one)) for one in data]
        rows.append((name, *(cell for result in chosen for cell in _means(result))))
    some = [next(result for result in results if result.manifest.data.name == one) for one in data]
    subsets = [subset for result in some for subset in (result.pointing, result.difficult)]
    rows.append((CENTRE, *(NONE if one is None else percent(one.centre_name_mean) for one in subsets)))
    rows.append(("number of pairs", *(NONE if one is None else count(one.pairs) for one in subsets)))
    heads = [head for one in data for head in (one, "difficult")]
    return [Table("Mean accuracy over categories, per cent (95 % interval)", ("method", *heads), tuple(rows))]


def dominant_tables(results: Sequence[RegionResult]) -> list[Table]:
    """The error of each method with its α, and that for every α on the measured photos, from which none was chosen."""
    errors, alphas = [], []
    for result in results:
        if (dominant := result.dominant) is not None:
            data = result.manifest.data
            chosen = NONE if dominant.chosen_on is None else count(dominant.chosen_on)
            error = with_interval(dominant.error)
            errors.append((result.name, data.name, count(data.pairs), f"{dominant.alpha:g}", chosen, error))
            alphas.append((result.name, data.name, *(percent(error) for error in dominant.errors.values())))
    heads = ("method", "photos", "pairs", "α", "chosen on photos", "error")
    alpha_heads = ("method", "photos", *(f"{alpha:g}" for alpha in ALPHAS))
    left = frozenset({0, 1})
    return [
        Table("Localisation error, per cent (95 % interval)", heads, tuple(errors), left=left),
        Table("The same error for every α, per cent", alpha_heads, tuple(alphas), left=left),
    ]


def _means(result: RegionResult | None) -> tuple[str, str]:
    if result is None:
        return NONE, NONE
    difficult = NONE if result.difficult is None else with_interval(result.difficult.name_mean)
    return with_interval(result.pointing.name_mean), difficult
