"""``docs/results.md``: Tables 6 and 7 of our results with the paper's for reference, pointing, and error analysis."""

import json
from collections.abc import Sequence
from pathlib import Path

from eval.leaderboard.page import escape_note
from eval.regions.result import RegionResult
from eval.regions.sections import comparison_sections
from eval.regions.tables import other_photos
from eval.result import Result
from eval.tables.cells import Table, count, percent
from eval.tables.content import (
    errors_table,
    further_measures,
    paper_table_6,
    paper_table_7,
    pointing_table,
    splits_table,
    table_6,
    table_7,
)
from eval.tables.markdown import markdown_table, titled_table
from eval.tables.notes import ERRORS_NOTE, MEASURES, PAPER, SCORES, notes, pointing_note
from eval.tables.rows import photo_sets
from eval.tables.section import section_markdown

INTRODUCTION = """# Results

Where the phrases of captions are, on Flickr30k Entities. `python -m eval.leaderboard` writes this page from the results
that `python -m eval` saves; do not edit it by hand. [All protocols, with intervals and the commands that were
run](../LEADERBOARD.md); [how methods are scored](evaluation.md).
"""
SPLITS_COMMAND = "python benchmarks/splits.py PHOTOS ENTITIES --output eval/splits.json"
ERRORS = Path(__file__).parent.parent / "error_analysis.json"


def results_page(results: Sequence[Result], region_results: Sequence[RegionResult] = ()) -> str:
    """Write the page.

    Args:
        results: what ``python -m eval`` measured.
        region_results: what ``python -m eval.regions`` measured; there may be none.
    """
    parts = [INTRODUCTION, "## Measures\n", f"{MEASURES}\n", f"{ERRORS_NOTE}\n", f"{SCORES}\n", f"{pointing_note()}\n"]
    parts += [
        "## Composition of the photos\n",
        f"In per cent; `{SPLITS_COMMAND}` counts them.\n",
        markdown_table(splits_table()),
    ]
    for found in photo_sets(results):
        parts.append(f"## Measured on {found.label}\n")
        parts.append("".join(f"* {escape_note(note)}\n" for note in notes(found)))
        parts += [titled_table(table(found.results)) for table in (table_6, table_7, further_measures, errors_table)]
        if any(result.pointing for result in found.results):
            parts.append(titled_table(pointing_table(found.results)))
    others = [result for result in region_results if result.table is None]
    sections = [*([other_photos(others)] if others else []), *comparison_sections(region_results)]
    parts += map(section_markdown, sections)
    if ERRORS.exists():
        parts += ["## Error analysis\n", error_analysis(ERRORS)]
    parts += ["## The paper's tables, for reference\n", f"{PAPER}\n"]
    parts += [titled_table(paper_table_6()), titled_table(paper_table_7())]
    return "\n".join(parts)


def error_analysis(path: Path) -> str:
    """Write what ``benchmarks/oracles.py --output`` saved: recall and pointing with an oracle in place of a part.

    Raises:
        ValueError: the file has another form.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (row["name"], *(percent(row["recall"][rank]) for rank in ("1", "5", "10", "bound")))
            for row in saved["rows"]
        ]
        points = "; ".join(f"{name}, {percent(share)} %" for name, share in saved["pointing"].items())
        title = f"{saved['attention']}, {count(saved['phrases'])} phrases of {count(saved['photos'])} photos, per cent"
        command = saved["command"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an error analysis of benchmarks/oracles.py: {error!r}") from None
    table = titled_table(Table(title, ("", "R@1", "R@5", "R@10", "bound"), tuple(rows)))
    return (
        "Each row replaces one part of the method by an oracle: the word by the best one in the photo's captions,\n"
        "or the map by 1 inside the true boxes and 0 outside. The difference from the first row is what this\n"
        f"part costs.\n\n{table}\nPhrases whose greatest attention lies in one of their boxes: {points}. "
        f"Command: `{command}`.\n"
    )
