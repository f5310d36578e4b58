"""A table of the paper with our results beside it as files: text, Markdown, CSV, JSON and a picture."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from eval.regions.paper_tables import published_tables
from eval.regions.picture import draw_comparison
from eval.regions.result import RegionPointing, RegionResult
from eval.regions.sections import COMPARISONS, comparison_section, in_paper_order
from eval.result import Measured
from eval.tables.files import Cells, measured_cells, rows_as_csv, share_cell, write_forms
from eval.tables.section import plain_text, print_section, section_markdown

WIDTH = 220  # characters of a line, for the error of every α


def write_comparison(folder: Path, table: str, results: Sequence[RegionResult]) -> list[Path]:
    """Write results beside a table of the paper to a folder, to files that are named for it, and return their paths.

    Args:
        folder: an existing folder.
        table: one of `COMPARISONS`.
        results: those that belong to the table, at least one.

    Raises:
        ValueError: two results have the same name and photos.
        OSError: the disk is full or the folder cannot be written to.
    """
    section, ours = comparison_section(table, results), in_paper_order(table, results)
    texts = {
        "txt": plain_text(lambda console: print_section(console, section), width=WIDTH),
        "md": section_markdown(section),
        "csv": rows_as_csv([row for result in ours for row in _csv_rows(result)]),
        "json": _as_json(table, ours),
    }
    return write_forms(folder / table, texts, draw_comparison(table, ours))


def _csv_rows(result: RegionResult) -> Iterator[Cells]:
    """A row for all pairs, and one for the difficult ones where there are some."""
    manifest, data = result.manifest, result.manifest.data
    origin: Cells = {
        "name": result.name,
        "photos": data.name,
        "number of photos": data.photos,
        "model": manifest.model,
        "attention": manifest.attention,
    }
    last: Cells = {"commit": manifest.commit or "", "command": manifest.command}
    dominant: Cells = {}
    if result.dominant is not None:
        error = measured_cells("localisation error", result.dominant.error)
        dominant = {"α": result.dominant.alpha, "α chosen on": result.dominant.chosen_on or "", **error}
    yield origin | _pointing_cells("all", result.pointing) | dominant | last
    if result.difficult is not None:
        yield origin | _pointing_cells("difficult", result.difficult) | last


def _pointing_cells(subset: str, pointing: RegionPointing) -> Cells:
    cells: Cells = {"subset": subset, "pairs": pointing.pairs, "categories": len(pointing.names)}
    cells |= measured_cells("mean accuracy", pointing.name_mean) | measured_cells("accuracy", pointing.accuracy)
    centres = {"mean accuracy of the centre": pointing.centre_name_mean, "accuracy of the centre": pointing.centre}
    return cells | {name: share_cell(share) for name, share in centres.items()}


def _as_json(table: str, results: Sequence[RegionResult]) -> str:
    """Our results and the published tables as JSON, in per cent."""
    published = {
        title: {"columns": published_tables()[name].columns, "rows": published_tables()[name].rows}
        for name, title in COMPARISONS[table].published
    }
    page = {"table": table, "measured_here": [_row_object(result) for result in results], "published": published}
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def _row_object(result: RegionResult) -> Cells:
    dominant = result.dominant
    return {
        "name": result.name,
        "model": result.manifest.model,
        "data": asdict(result.manifest.data),
        "all": _pointing_object(result.pointing),
        "difficult": None if result.difficult is None else _pointing_object(result.difficult),
        "dominant": None
        if dominant is None
        else {"alpha": dominant.alpha, "chosen_on": dominant.chosen_on, "error": _measured_object(dominant.error)},
        "command": result.manifest.command,
    }


def _pointing_object(pointing: RegionPointing) -> Cells:
    return {
        "pairs": pointing.pairs,
        "mean_accuracy": _measured_object(pointing.name_mean),
        "accuracy": _measured_object(pointing.accuracy),
        "centre_mean_accuracy": _rounded(pointing.centre_name_mean),
        "categories": {name: _rounded(scores.accuracy) for name, scores in pointing.names.items()},
    }


def _measured_object(measured: Measured) -> Cells:
    interval = None if measured.interval is None else [_rounded(end) for end in measured.interval]
    return {"value": _rounded(measured.share), "interval": interval}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
