"""Tables as files: text, CSV, JSON and a picture."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval.published import COLUMNS, published
from eval.result import ERRORS, BoxScores, Measured, PointingScores, Result, Subset
from eval.tables.cells import percent
from eval.tables.console import print_tables
from eval.tables.picture import draw_tables
from eval.tables.rows import TableRow, our_rows, paper_rows, photo_sets
from eval.tables.section import plain_text
from grounding.files import png_bytes, write_file

if TYPE_CHECKING:
    from PIL.Image import Image

Cells = dict[str, object]


def write_tables(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Write ``tables.txt``, ``.csv``, ``.json`` and ``.png`` to a folder, and return their paths.

    Raises:
        ValueError: no result has scores of boxes.
        OSError: the disk is full or the folder cannot be written to.
    """
    texts = {"txt": as_text(results), "csv": as_csv(results), "json": as_json(results)}
    return write_forms(folder / "tables", texts, draw_tables(results))


def write_forms(path: Path, texts: Mapping[str, str], picture: "Image") -> list[Path]:
    """Write the forms of some tables to files beside each other, and return their paths.

    Args:
        path: of the files without their endings.
        texts: by ending.
        picture: for the ending png.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    contents = {ending: text.encode() for ending, text in texts.items()} | {"png": png_bytes(picture)}
    paths = [path.with_name(f"{path.name}.{ending}") for ending in contents]
    for file, content in zip(paths, contents.values(), strict=True):
        write_file(file, content)
    return paths


def as_text(results: Sequence[Result], *, width: int = 150) -> str:
    """Return what `print_tables` prints, as plain text of this width."""
    return plain_text(lambda console: print_tables(console, results), width=width)


def as_json(results: Sequence[Result]) -> str:
    """Return the rows of Tables 6 and 7 as JSON, in per cent with one decimal: ours by photos, the paper's apart."""
    page = {
        "measured_here": [
            {"photos": found.label, "rows": [_row_object(row) for row in our_rows(found.results)]}
            for found in photo_sets(results)
        ],
        "paper": {
            "photos": f"{published().split}, {published().photos:,} photos",
            "rows": [_row_object(row) for row in paper_rows()],
        },
    }
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Return a table with one row for each result, preset and subset, in per cent; missing values are empty cells."""
    return rows_as_csv([row for result in results for row in _csv_rows(result)])


def rows_as_csv(rows: Sequence[Cells]) -> str:
    """Write rows, of which each has a value for some of the columns, as CSV; missing values are empty cells."""
    columns = dict.fromkeys(name for row in rows for name in row)
    page = io.StringIO()
    writer = csv.DictWriter(page, list(columns), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return page.getvalue()


def _row_object(row: TableRow) -> Cells:
    types = published().types
    return {
        "name": row.name,
        "gamma": row.gamma,
        "all": {name: _rounded(value) for name, value in zip(COLUMNS, row.all, strict=True)},
        "small": {name: _rounded(value) for name, value in zip(COLUMNS, row.small, strict=True)},
        "recall_5": {kind: _rounded(value) for kind, value in zip(types, row.recall_5, strict=True)}
        | {"mean": _rounded(row.mean)},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _csv_rows(result: Result) -> Iterator[Cells]:
    for name, scores in result.presets.items():
        if isinstance(scores, BoxScores):
            for subset_name, subset in (("all", scores.all), ("small", scores.small), ("large", scores.large)):
                yield _origin_cells(result, name, subset_name) | _subset_cells(subset)
        else:
            yield _origin_cells(result, name, "all") | _pointing_cells(scores)


def _origin_cells(result: Result, preset: str, subset: str) -> Cells:
    manifest, data = result.manifest, result.manifest.data
    return {
        "name": result.name,
        "preset": preset,
        "subset": subset,
        "kind": result.presets[preset].kind,
        "data": data.name,
        "split": data.split or "",
        "model": manifest.model or "",
        "attention": manifest.attention or "",
        "proposals": manifest.proposals or "",
        "gamma": "" if manifest.gamma is None else manifest.gamma.value,
        "calibration": manifest.calibration,
        "reached": share_cell(result.reached.mean if result.reached else None),
        "commit": manifest.commit or "",
        "command": manifest.command,
    }


def _subset_cells(subset: Subset) -> Cells:
    measures = {
        "R@1": subset.recall.at_1,
        "R@5": subset.recall.at_5,
        "R@10": subset.recall.at_10,
        "bound": subset.recall.bound,
        "R@1, IoU .75": subset.recall_at_1_iou_75,
        "mean IoU": subset.mean_iou,
    }
    if subset.errors is not None:
        measures |= {error.replace("_", " "): getattr(subset.errors, error) for error in ERRORS}
    cells: Cells = {"photos": subset.photos, "instances": subset.instances}
    for name, measured in measures.items():
        cells |= measured_cells(name, measured)
    cells |= {
        "raw mAP (Group)": share_cell(subset.raw_precision.group),
        "raw mAP (Phrase)": share_cell(subset.raw_precision.phrase),
        "calibrated mAP (Group)": share_cell(subset.precision.group),
        "calibrated mAP (Phrase)": share_cell(subset.precision.phrase),
        "labels": subset.labels,
        "mean R@5 of types": share_cell(subset.type_mean_recall_5),
    }
    return cells | {f"{kind} R@5": share_cell(scores.recall.at_5.share) for kind, scores in subset.types.items()}


def _pointing_cells(scores: PointingScores) -> Cells:
    cells: Cells = {"photos": scores.photos, "instances": scores.instances}
    cells |= measured_cells("accuracy", scores.accuracy) | {"accuracy of the centre": share_cell(scores.centre)}
    return cells | {f"{kind} accuracy": share_cell(values.accuracy) for kind, values in scores.types.items()}


def measured_cells(name: str, measured: Measured) -> Cells:
    """A share and its interval as three cells, in per cent."""
    low, high = measured.interval or (None, None)
    return {name: share_cell(measured.share), f"{name} low": share_cell(low), f"{name} high": share_cell(high)}


def share_cell(share: float | None) -> str:
    """A share in per cent; empty where there is none."""
    return "" if share is None else percent(share)
