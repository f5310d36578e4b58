"""Results for people: one result as tables, many as the paper's Tables 6 and 7 with the paper's rows beside ours.

A *result* is what ``python -m eval`` saves, plain values with shares from 0 to 1. All is printed in per cent.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.flickr30k import TYPES
from eval.published import COLUMNS, PaperRow, published
from grounding.files import png_bytes, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image
    from rich.console import Console
    from rich.table import Table

Result = Mapping[str, Any]

HEADLINE = "zhang18"  # the preset of Tables 6 and 7
RANKS = ("1", "5", "10", "bound")
SUBSETS = ("all", "small", "large")
NARROW = 110  # characters of a line; below, heads are short
SHORT = {
    **{"clothing": "cloth.", "bodyparts": "body", "animals": "anim.", "vehicles": "vehic.", "instruments": "instr."},
    **{"mAP (Group)": "mAP (G)", "mAP (Phrase)": "mAP (P)"},
}
# The paper's names of what ``attention=`` and ``proposals=`` choose.
METHODS = {"grad": "Grad", "deconv": "Deconv", "lrp": "LRP", "cam": "CAM", "mwp": "MWP", "cmwp": "c-MWP"}
PROPOSALS = {"mcg": "MCG", "edge_boxes": "EB"}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of Tables 6 and 7, ours or the paper's, in per cent; None where there is nothing."""

    name: str
    data: str  # such as "test, 1,000 photos"
    gamma: float | None
    all: tuple[float | None, ...]  # `COLUMNS`
    small: tuple[float | None, ...]
    intervals: tuple[tuple[tuple[float, float] | None, ...], ...]  # 95 %, of R@1, R@5, R@10 of all, and of small
    recall_5: tuple[float | None, ...]  # of each of `TYPES`
    mean: float | None
    is_paper: bool

    @property
    def label(self) -> str:
        return f"paper: {self.name}" if self.is_paper else self.name


def headline(result: Result) -> tuple[str, Mapping[str, Any]] | None:
    """The preset that stands for a result, by name, with its scores: the paper's, else the first of boxes."""
    boxes = _presets(result, "boxes")
    name = HEADLINE if HEADLINE in boxes else next(iter(boxes), None)
    return None if name is None else (name, boxes[name])


def table_rows(results: Sequence[Result]) -> list[tuple[TableRow, ...]]:
    """The rows of Tables 6 and 7 by the paper's methods, in its order: ours, then its own; our other rows last."""
    scored = [(result, scores) for result in results if (scores := headline(result)) is not None]
    matches = [_paper_name(result) for result, _ in scored]
    groups = [
        (*(_our_row(*pair) for pair, match in zip(scored, matches, strict=True) if match == row.name), _paper_row(row))
        for row in published().paper
    ]
    others = tuple(_our_row(*pair) for pair, match in zip(scored, matches, strict=True) if match is None)
    return [*groups, others] if others else groups


def print_result(console: "Console", result: Result) -> None:
    """One result: recall with 95 % intervals, types, pointing, γ, time, and how it came about."""
    name = str(result.get("name") or "result")
    found = headline(result)
    if found is not None:
        preset, scores = found
        photos = _of(scores, "all", "photos")
        _say(console, f"{name}: {preset}, {count(photos)} photos, in per cent (95 % interval, by photo)", "bold")
        _print_subsets(console, scores)
        _print_types(console, scores)
        _print_presets(console, _presets(result, "boxes"), preset)
    else:
        _say(console, name, "bold")
    _print_pointing(console, _presets(result, "pointing"))
    _print_gammas(console, result)
    for line in (_coverage(result), _seconds(result), _manifest(result)):
        if line:
            _say(console, line)


def print_tables(console: "Console", results: Sequence[Result]) -> None:
    """Tables 6 and 7, all and small instances, ours (bold) and the paper's."""
    groups = table_rows(results)
    presets = ", ".join(dict.fromkeys(found[0] for result in results if (found := headline(result))))
    _say(console, f"Table 6: recall and mean average precision, per cent, all/small ({presets or 'no result'})", "bold")
    table = _table("method", "γ", *COLUMNS, wraps=True, tight=console.width < NARROW)
    for row, is_last in _flat(groups):
        _add(table, f"{row.label}, {row.data}", _gamma(row.gamma), *_pairs(row), row=row, is_last=is_last)
    console.print(table)
    _say(console, "Table 7: R@5 of each type, per cent, and the mean of the types", "bold")
    table = _table("method", *TYPES, "mean", wraps=True, tight=console.width < NARROW)
    for row, is_last in _flat(groups):
        if any(value is not None for value in row.recall_5):
            cells = map(number, (*row.recall_5, row.mean))
            _add(table, f"{row.label}, {row.data}", *cells, row=row, is_last=is_last)
    console.print(table)


def as_text(results: Sequence[Result], *, width: int = 150) -> str:
    """`print_tables` as plain text of this width."""
    from rich.console import Console

    page = io.StringIO()
    print_tables(Console(file=page, width=width, color_system=None, legacy_windows=False), results)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """A table with one row for each result, preset and subset, in per cent; what was not measured is empty."""
    rows = [row for result in results for row in _csv_rows(result)]
    page = io.StringIO()
    writer = csv.DictWriter(page, _csv_columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return page.getvalue()


def as_json(results: Sequence[Result]) -> str:
    """The rows of Tables 6 and 7 as a list of objects, in per cent with one decimal."""
    rows = [
        {
            "name": row.name,
            "of": "paper" if row.is_paper else "ours",
            "data": row.data,
            "gamma": row.gamma,
            "all": dict(zip(COLUMNS, map(_rounded, row.all), strict=True)),
            "small": dict(zip(COLUMNS, map(_rounded, row.small), strict=True)),
            "recall_5": dict(zip(TYPES, map(_rounded, row.recall_5), strict=True)) | {"mean": _rounded(row.mean)},
        }
        for row, _ in _flat(table_rows(results))
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def write_tables(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Write ``tables.txt``, ``.csv``, ``.json`` and ``.png`` to a folder; the paths.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    contents = {
        "txt": as_text(results).encode(),
        "csv": as_csv(results).encode(),
        "json": as_json(results).encode(),
        "png": png_bytes(draw_tables(results)),
    }
    paths = [folder / f"tables.{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_file(path, content)
    return paths


def markdown_table6(results: Sequence[Result]) -> str:
    """Table 6 in Markdown, all/small, ours bold."""
    lines = [_line("method", "photos", "γ", *COLUMNS), "|---|---|" + "---:|" * (1 + len(COLUMNS))]
    for row, _ in _flat(table_rows(results)):
        lines.append(_line(_markdown_name(row), row.data, _gamma(row.gamma), *_pairs(row)))
    return "\n".join(lines) + "\n"


def markdown_table7(results: Sequence[Result]) -> str:
    """Table 7 in Markdown, ours bold."""
    lines = [_line("method", "photos", *TYPES, "mean"), "|---|---|" + "---:|" * (1 + len(TYPES))]
    for row, _ in _flat(table_rows(results)):
        if any(value is not None for value in row.recall_5):
            lines.append(_line(_markdown_name(row), row.data, *map(number, (*row.recall_5, row.mean))))
    return "\n".join(lines) + "\n"


def draw_tables(results: Sequence[Result]) -> "Image":
    """Tables 6 and 7 as a picture: recall with intervals beside the paper's, and below R@5 of each type.

    Raises:
        ValueError: no result has scores of boxes.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    groups = table_rows(results)
    ours = [(row, group[-1] if group[-1].is_paper else None) for group in groups for row in group if not row.is_paper]
    if not ours:
        raise ValueError("no result with scores of boxes to draw")
    typed = [
        row for group in groups if not group[0].is_paper for row in group if any(v is not None for v in row.recall_5)
    ]
    heights = [0.62 * len(ours) + 1.0, 0.3 * len(typed) + 0.9 if typed else 0]
    figure = Figure(figsize=(12, sum(heights) + 0.6), dpi=120, layout="constrained")
    parts: Any = figure.subfigures(2 if typed else 1, 1, squeeze=False, height_ratios=heights[: 2 if typed else 1])
    _draw_recall(parts[0, 0].subplots(1, 3, sharey=True), ours)
    if typed:
        _draw_types(parts[1, 0].subplots(), typed)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


_BLUE, _ORANGE = "#0072b2", "#d55e00"  # of Okabe and Ito: told apart by every eye


def _draw_recall(panels: "Iterable[Axes]", ours: Sequence[tuple[TableRow, TableRow | None]]) -> None:
    """Dots with whiskers, an open mark for the paper's number; a panel for each rank."""
    first = None
    for rank, panel in enumerate(panels):
        first = first or panel
        for index, (row, paper) in enumerate(ours):
            if index % 2:
                panel.axhspan(index - 0.5, index + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
            for subset, (values, color, mark) in enumerate(((row.all, _BLUE, "o"), (row.small, _ORANGE, "s"))):
                y, value, interval = index - 0.17 + 0.34 * subset, values[rank], row.intervals[subset][rank]
                if value is not None and interval is not None:
                    panel.plot(interval, (y, y), color=color, linewidth=1.8, alpha=0.7, solid_capstyle="butt", zorder=2)
                if value is not None:
                    panel.plot(value, y, mark, color=color, markersize=6, zorder=4)
                theirs = None if paper is None else (paper.all, paper.small)[subset][rank]
                if theirs is not None:
                    panel.plot(
                        *(theirs, y, mark),
                        markersize=6,
                        markerfacecolor="none",
                        markeredgecolor=color,
                        markeredgewidth=1.4,
                        zorder=3,
                    )
        panel.set_title(COLUMNS[rank], fontsize=12, loc="left")
        panel.set_xlim(0, 100)
        panel.set_xticks(range(0, 100, 20))
        panel.grid(axis="x", alpha=0.3, linewidth=0.8)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_xlabel("per cent of phrases")
    assert first is not None
    first.set_ylim(len(ours) - 0.5, -0.5)
    first.set_yticks(range(len(ours)), [f"{row.name}\n{row.data}" for row, _ in ours])
    for fill, color, mark, label in (
        ("full", _BLUE, "o", "all phrases"),
        ("full", _ORANGE, "s", "small ones"),
        ("none", "#555555", "o", "the paper, test, 1,000 photos"),
    ):
        first.plot(
            *([], [], mark),
            color=color,
            fillstyle=fill,
            markersize=6,
            linestyle="none",
            markeredgewidth=1.4,
            label=label,
        )
    first.figure.legend(loc="outside upper right", ncols=3, frameon=False)


def _draw_types(panel: "Axes", rows: Sequence[TableRow]) -> None:
    """Numbers on a ground that is darker where they are higher."""
    import numpy as np

    cells = np.array([[np.nan if v is None else v for v in (*row.recall_5, row.mean)] for row in rows], dtype=float)
    panel.imshow(cells, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for y, x in np.ndindex(*cells.shape):
        text = "–" if np.isnan(cells[y, x]) else f"{cells[y, x]:.1f}"
        panel.text(x, y, text, ha="center", va="center", fontsize=10, color="white" if cells[y, x] > 60 else "black")
    panel.set_xticks(range(cells.shape[1]), [*TYPES, "mean"])
    panel.set_yticks(range(len(rows)), [f"{row.label}, {row.data}" for row in rows])
    for label, row in zip(panel.get_yticklabels(), rows, strict=True):
        label.set_color("#777777" if row.is_paper else "black")
    for y, row in enumerate(rows[:-1]):
        panel.axhline(y + 0.5, color="white", linewidth=4 if row.is_paper else 1)
    panel.axvline(len(TYPES) - 0.5, color="white", linewidth=4)
    panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    panel.spines[:].set_visible(False)
    panel.set_title("R@5 of each type", fontsize=12, loc="left", pad=10)


def percent(share: float | None) -> str:
    """A share as it is printed, in per cent with one decimal."""
    return number(_per_cent(share))


def number(value: float | None) -> str:
    """A number of per cent with one decimal, a dash for none."""
    return "–" if value is None else f"{value:.1f}"


def count(value: Any) -> str:
    """A count with thousands apart, a dash for none."""
    return f"{value:,}" if isinstance(value, int) else "–"


def data_of(result: Result, photos: Any = None) -> str:
    """What a result was measured on, such as "val, 247 photos"."""
    split = _of(result, "manifest", "split")
    photos = photos if photos is not None else _of(result, "manifest", "photos")
    return ", ".join(part for part in (str(split or ""), f"{count(photos)} photos") if part)


def gamma_of(result: Result) -> float | None:
    """The γ that a result was measured with, if it has one."""
    gamma = _of(result, "manifest", "gamma")
    value = gamma.get("value") if isinstance(gamma, Mapping) else gamma
    return float(value) if isinstance(value, int | float) else None


def _of(values: Any, *names: str) -> Any:
    """What is at the end of these names; None where one is missing."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _presets(result: Result, kind: str) -> dict[str, Mapping[str, Any]]:
    presets = _of(result, "presets") or {}
    return {name: scores for name, scores in presets.items() if _of(scores, "kind") == kind}


def _paper_name(result: Result) -> str | None:
    """The paper's row that a result repeats, by its name, else by its attention and proposals."""
    names = [row.name for row in published().paper]
    plain = re.sub(r"edge[ _]?boxes", "EB", str(result.get("name") or ""), flags=re.IGNORECASE).casefold()
    attention, proposals = (_of(result, "manifest", name) for name in ("attention", "proposals"))
    by_manifest = f"{METHODS.get(str(attention))} ({PROPOSALS.get(str(proposals))})"
    return next(
        (name for name in names if plain.startswith(name.casefold())), by_manifest if by_manifest in names else None
    )


def _our_row(result: Result, found: tuple[str, Mapping[str, Any]]) -> TableRow:
    _, scores = found
    return TableRow(
        name=str(result.get("name") or "ours"),
        data=data_of(result, _of(scores, "all", "photos")),
        gamma=gamma_of(result),
        all=_scores(scores, "all"),
        small=_scores(scores, "small"),
        intervals=tuple(
            tuple(_interval(_of(scores, subset, "interval", rank)) for rank in RANKS[:3]) for subset in ("all", "small")
        ),
        recall_5=tuple(_per_cent(_of(scores, "all", "types", each, "recall", "5")) for each in TYPES),
        mean=_per_cent(_of(scores, "all", "type_mean_recall_5")),
        is_paper=False,
    )


def _paper_row(row: PaperRow) -> TableRow:
    table = published()
    return TableRow(
        name=row.name,
        data=f"{table.split}, {count(table.photos)} photos",
        gamma=row.gamma,
        all=row.all,
        small=row.small,
        intervals=((None,) * 3,) * 2,
        recall_5=row.recall_5 or (None,) * len(TYPES),
        mean=row.mean,
        is_paper=True,
    )


def _scores(scores: Mapping[str, Any], subset: str) -> tuple[float | None, ...]:
    """`COLUMNS` of a subset."""
    recall = [_of(scores, subset, "recall", rank) for rank in RANKS[:3]]
    return tuple(map(_per_cent, (*recall, *(_of(scores, subset, name) for name in ("map_group", "map_phrase")))))


def _per_cent(share: Any) -> float | None:
    return 100 * share if isinstance(share, int | float) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _interval(shares: Any) -> tuple[float, float] | None:
    return (100 * shares[0], 100 * shares[1]) if isinstance(shares, Sequence) and None not in shares else None


def _with_interval(share: Any, interval: Any) -> str:
    """Such as "36.8 (34.1–39.2)"."""
    ends = _interval(interval)
    return percent(share) + (f" ({ends[0]:.1f}–{ends[1]:.1f})" if ends and share is not None else "")


def _gamma(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _pairs(row: TableRow) -> list[str]:
    """All/small, of `COLUMNS`."""
    pairs = zip(row.all, row.small, strict=True)
    return ["–" if pair == (None, None) else "/".join(map(number, pair)) for pair in pairs]


def _flat(groups: Sequence[tuple[TableRow, ...]]) -> list[tuple[TableRow, bool]]:
    """All rows, and whether each is the last of its group."""
    return [(row, row is group[-1]) for group in groups for row in group]


def _markdown_name(row: TableRow) -> str:
    return cell(row.label) if row.is_paper else f"**{cell(row.label)}**"


def cell(text: object) -> str:
    """Text as it stands in a cell of a Markdown table."""
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(str(text).split()))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _csv_columns() -> list[str]:
    columns = ["name", "preset", "kind", "subset", "photos", "instances"]
    for name in ("R@1", "R@5", "R@10", "bound", "accuracy"):
        columns += [name, f"{name} low", f"{name} high"]
    columns += ["mAP (Group)", "mAP (Phrase)", "labels", "mean R@5 of types"]
    columns += [f"{each} {measure}" for each in TYPES for measure in ("R@5", "accuracy")]
    return [*columns, "model", "attention", "proposals", "gamma", "calibration", "data", "split", "commit", "command"]


def _csv_rows(result: Result) -> Iterable[dict[str, object]]:
    names = ("model", "attention", "proposals", "calibration", "data", "split", "commit", "command")
    manifest = {name: _of(result, "manifest", name) for name in names} | {"gamma": gamma_of(result)}
    for preset, values in (_of(result, "presets") or {}).items():
        for subset in SUBSETS:
            scores = _of(values, subset)
            if scores is None:
                continue
            row: dict[str, object] = {"name": result.get("name"), "preset": preset, "kind": _of(values, "kind")}
            row |= {"subset": subset, "photos": _of(scores, "photos"), "instances": _of(scores, "instances")}
            measures = {f"R@{rank}": (_of(scores, "recall", rank), _of(scores, "interval", rank)) for rank in RANKS[:3]}
            measures["bound"] = _of(scores, "recall", "bound"), _of(scores, "interval", "bound")
            if _of(values, "kind") == "pointing":
                measures = {"accuracy": (_of(scores, "accuracy"), _of(scores, "interval"))}
            for name, (share, interval) in measures.items():
                low, high = _interval(interval) or (None, None)
                row |= {name: _short(_per_cent(share)), f"{name} low": _short(low), f"{name} high": _short(high)}
            row |= {
                "mAP (Group)": _short(_per_cent(_of(scores, "map_group"))),
                "mAP (Phrase)": _short(_per_cent(_of(scores, "map_phrase"))),
                "labels": _of(scores, "labels"),
                "mean R@5 of types": _short(_per_cent(_of(scores, "type_mean_recall_5"))),
            }
            for each in TYPES:
                row[f"{each} R@5"] = _short(_per_cent(_of(scores, "types", each, "recall", "5")))
                row[f"{each} accuracy"] = _short(_per_cent(_of(scores, "types", each, "accuracy")))
            yield row | manifest


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _print_subsets(console: "Console", scores: Mapping[str, Any]) -> None:
    subsets = [subset for subset in SUBSETS if _of(scores, subset)]
    table = _table("", *subsets)
    _add(table, "phrases", *(count(_of(scores, subset, "instances")) for subset in subsets))
    for rank in RANKS:
        cells = (
            _with_interval(_of(scores, each, "recall", rank), _of(scores, each, "interval", rank)) for each in subsets
        )
        _add(table, rank if rank == "bound" else f"R@{rank}", *cells)
    for label, name in (
        ("mAP (Group)", "map_group"),
        ("mAP (Phrase)", "map_phrase"),
        ("mean R@5 of types", "type_mean_recall_5"),
    ):
        _add(table, label, *(percent(_of(scores, subset, name)) for subset in subsets))
    console.print(table)


def _print_types(console: "Console", scores: Mapping[str, Any]) -> None:
    types = _of(scores, "all", "types")
    if not types:
        return
    table = _table("type", "phrases", "R@1", "R@5", "R@10", "bound", "AP")
    for name, values in types.items():
        recall = (percent(_of(values, "recall", rank)) for rank in RANKS)
        _add(table, name, count(_of(values, "instances")), *recall, percent(_of(values, "ap")))
    console.print(table)


def _print_presets(console: "Console", presets: Mapping[str, Mapping[str, Any]], shown: str) -> None:
    """The other presets of boxes, all/small."""
    others = {name: scores for name, scores in presets.items() if name != shown}
    if not others:
        return
    table = _table("all/small", "R@1", "R@5", "R@10", "bound", "mAP (Group)")
    for name, scores in others.items():
        pairs = [[_of(scores, each, "recall", rank) for each in ("all", "small")] for rank in RANKS]
        pairs.append([_of(scores, each, "map_group") for each in ("all", "small")])
        _add(table, name, *("/".join(map(percent, pair)) for pair in pairs))
    console.print(table)


def _print_pointing(console: "Console", presets: Mapping[str, Mapping[str, Any]]) -> None:
    if not presets:
        return
    scores = [_of(values, "all") for values in presets.values()]
    table = _table("pointing", *(name.removeprefix("pointing_") for name in presets))
    _add(table, "accuracy", *(_with_interval(_of(each, "accuracy"), _of(each, "interval")) for each in scores))
    units = (str(_of(values, "settings", "unit") or "instance") for values in presets.values())
    _add(table, "of", *(f"{count(_of(each, 'instances'))} ({unit})" for each, unit in zip(scores, units, strict=True)))
    for name in TYPES:
        shares = [_of(each, "types", name, "accuracy") for each in scores]
        if any(share is not None for share in shares):
            _add(table, name, *map(percent, shares))
    console.print(table)


def _print_gammas(console: "Console", result: Result) -> None:
    gammas = _of(result, "gammas")
    if not gammas:
        return
    chosen = gamma_of(result)
    table = _table("γ", "R@1", "R@5", "R@10", "")
    for gamma, recall in sorted(gammas.items(), key=lambda item: float(item[0])):
        is_chosen = chosen is not None and float(gamma) == chosen
        _add(table, f"{float(gamma):g}", *(percent(_of(recall, rank)) for rank in RANKS[:3]), "chosen" * is_chosen)
    console.print(table)


def _coverage(result: Result) -> str:
    phrases, known = (_of(result, "coverage", name) for name in ("phrases", "known"))
    if not phrases or known is None:
        return ""
    return f"{count(known)} of {count(phrases)} phrases with a known word ({percent(known / phrases)} %)"


def _seconds(result: Result) -> str:
    seconds = _of(result, "seconds") or {}
    total, photos = seconds.get("total"), seconds.get("photos")
    if not total:
        return ""
    parts = ", ".join(
        f"{name} {value:.1f}"
        for name, value in seconds.items()
        if name not in ("photos", "attended", "total") and isinstance(value, int | float)
    )
    is_whole = photos and seconds.get("attended", photos) == photos  # else attention was kept from another run
    pace = f", {photos / total:.2g} photos/s" if is_whole else ""
    return f"{total:.1f} s" + (f" ({parts})" if parts else "") + pace


def _manifest(result: Result) -> str:
    manifest = _of(result, "manifest") or {}
    parts = [str(manifest[name]) for name in ("model", "attention", "proposals") if manifest.get(name)]
    gamma = gamma_of(result)
    if gamma is not None:
        chosen = _of(manifest, "gamma", "chosen_on")
        parts.append(f"γ {gamma:g}" + (f" (chosen on {chosen})" if chosen else ""))
    if manifest.get("calibration"):
        parts.append(f"scores {manifest['calibration']}")
    if manifest.get("data"):
        counts = (f"{count(manifest[name])} {name}" for name in ("photos", "captions", "phrases") if manifest.get(name))
        parts.append(
            " ".join((str(manifest["data"]), str(manifest.get("split") or ""))).strip() + ": " + ", ".join(counts)
        )
    parts += [f"{name} {manifest[name]}" for name in ("commit",) if manifest.get(name)]
    parts += [str(manifest["date"])] if manifest.get("date") else []
    parts += [f"{name} {version}" for name, version in (manifest.get("versions") or {}).items()]
    return "; ".join(parts)


def _say(console: "Console", text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, highlight=False)


def _table(*heads: str, wraps: bool = False, tight: bool = False) -> "Table":
    """An empty table: text on the left, which may wrap, numbers on the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 0) if tight else (0, 1))
    for index, head in enumerate(heads):
        table.add_column(
            SHORT.get(head, head) if tight else head,
            justify="right" if index else "left",
            no_wrap=bool(index) or not wraps,
        )
    return table


def _add(table: "Table", *cells: str, row: TableRow | None = None, is_last: bool = False) -> None:
    from rich.text import Text

    style = None if row is None else "dim" if row.is_paper else "bold"
    table.add_row(*map(Text, cells), style=style, end_section=is_last)
