"""``LEADERBOARD.md``: our results by photos and preset, and published rows in tables of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from eval.published import Group, Row, published
from eval.regions.result import RegionResult
from eval.regions.sections import comparison_sections
from eval.result import BoxScores, PointingScores, Result
from eval.tables.cells import NONE, Table, count, number, percent, with_interval
from eval.tables.markdown import escape, markdown_table
from eval.tables.notes import MEASURES, SCORES, notes, pointing_note
from eval.tables.rows import HEADLINE, PhotoSet, gamma_of, photo_sets
from eval.tables.section import section_markdown

INTRODUCTION = """# Leaderboard

Phrase grounding on Flickr30k Entities, and the paper's other experiments, in per cent. `python -m eval.leaderboard`
writes this page from the results that `python -m eval` and `python -m eval.regions` save; do not edit it by hand.

* Each number follows a protocol (a *preset* of `python -m eval`). Numbers of different protocols are not comparable as
  they stand, and pointing accuracies of different families are not comparable at all.
* Our results were measured on other photos than the published ones, unless their heading says test. So each kind has
  tables of its own, and no row of ours has a rank among published rows.
* GoldG, on which GLIP, Grounding DINO and others were trained, contains the *train* split of Flickr30k Entities. For
  them, "zero-shot" does not mean an unseen data set.
* Each published number has a mark: {marks}.
"""
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def leaderboard(results: Sequence[Result], region_results: Sequence[RegionResult] = ()) -> str:
    """Write the page: our results by photos and preset, the runs behind them, published rows, and the protocols.

    Args:
        results: what ``python -m eval`` measured.
        region_results: what ``python -m eval.regions`` measured; those of a table of the paper stand beside it.
    """
    marks = "; ".join(f"**{mark}**, {meaning}" for mark, meaning in published().marks.items())
    runs = _runs(results)
    parts = [INTRODUCTION.format(marks=marks), "## Measured here\n", f"{MEASURES}\n", f"{SCORES}\n"]
    for found in photo_sets(results):
        parts.append(f"### Measured on {found.label}\n")
        parts.append("".join(f"* {escape_note(note)}\n" for note in notes(found)))
        for preset in _presets(found.results):
            parts += _preset_section(preset, found, runs)
    if runs:
        parts.append("### Runs\n\n" + "".join(f"{index}. {line}\n" for index, line in enumerate(runs, 1)))
    parts += map(section_markdown, comparison_sections(region_results))
    for group in published().groups:
        parts.append(f"## Published: {group.title}\n")
        parts += [f"{escape(group.note)}\n"] if group.note else []
        parts += _group_tables(group)
    parts.append("## Protocols\n")
    parts.append("\n".join(f"* {escape(name)}: {meaning}" for name, meaning in published().protocols.items()) + "\n")
    return "\n".join(parts)


def escape_note(note: str) -> str:
    """Write a note in Markdown: underscores are escaped, while its code marks stay."""
    return note.replace("_", r"\_")


def _presets(results: Sequence[Result]) -> list[str]:
    """The names of all presets: the paper's first, then others of boxes, then those of pointing, each by name."""
    kinds = {name: scores.kind for result in results for name, scores in result.presets.items()}
    return sorted(kinds, key=lambda name: (kinds[name], name != HEADLINE, name))


def _runs(results: Sequence[Result]) -> dict[str, int]:
    """The run behind each result, as a line, with a number from 1."""
    runs: dict[str, int] = {}
    for result in results:
        runs.setdefault(_run(result), len(runs) + 1)
    return runs


def _run(result: Result) -> str:
    manifest = result.manifest
    command = " ".join(manifest.command.split())
    fence = "``" if "`" in command else "`"
    parts = (f"{fence}{command}{fence}", f"commit {manifest.commit}" if manifest.commit else "", manifest.date)
    return ", ".join(part for part in parts if part)


def _preset_section(preset: str, found: PhotoSet, runs: Mapping[str, int]) -> list[str]:
    """The scores of all methods by a preset, best first, below the preset's settings."""
    boxes = [(result, result.boxes[preset]) for result in found.results if preset in result.boxes]
    points = [(result, result.pointing[preset]) for result in found.results if preset in result.pointing]
    protocol = boxes[0][1].protocol if boxes else points[0][1].protocol
    settings = ", ".join(f"{name} {_setting(value)}" for name, value in asdict(protocol).items()).replace("_", " ")
    table = _boxes_table(boxes, runs) if boxes else _pointing_table(points, runs)
    note = [f"{pointing_note()}\n"] if preset.startswith("pointing_entity") else []
    return [f"#### {escape(preset)}, {found.label}\n", f"{escape(settings)}\n", *note, markdown_table(table)]


def _boxes_table(scored: Sequence[tuple[Result, BoxScores]], runs: Mapping[str, int]) -> Table:
    rows = []
    for result, scores in sorted(scored, key=lambda one: (-(one[1].all.recall.at_1.share or 0), one[0].name)):
        recall, small = scores.all.recall, scores.small.recall
        row = [*_first_cells(result, runs), count(scores.all.instances), with_interval(recall.at_1)]
        row += [percent(measured.share) for measured in (recall.at_5, recall.at_10, recall.bound)]
        row += [percent(scores.all.recall_at_1_iou_75.share), percent(scores.all.mean_iou.share)]
        row.append("/".join(percent(measured.share) for measured in (small.at_1, small.at_5, small.at_10)))
        raw, calibrated = scores.all.raw_precision, scores.all.precision
        row += [percent(share) for share in (raw.group, calibrated.group, raw.phrase, calibrated.phrase)]
        row.append(NONE if result.reached is None else percent(result.reached.mean))
        rows.append(tuple(row))
    heads = ["method", "model", "γ", "phrases", "R@1 (interval)", "R@5", "R@10", "bound", "R@1, IoU .75", "mean IoU"]
    heads += ["small: R@1/5/10", "mAP (Group), raw", "calibrated", "mAP (Phrase), raw", "calibrated", "reached"]
    return Table("", tuple(heads), tuple(rows), left=frozenset({0, 1}))


def _pointing_table(scored: Sequence[tuple[Result, PointingScores]], runs: Mapping[str, int]) -> Table:
    rows = [
        (*_first_cells(result, runs), count(scores.instances), with_interval(scores.accuracy), percent(scores.centre))
        for result, scores in sorted(scored, key=lambda one: (-(one[1].accuracy.share or 0), one[0].name))
    ]
    heads = ("method", "model", "γ", "number", "accuracy (interval)", "the photo's centre")
    return Table("", heads, tuple(rows), left=frozenset({0, 1}))


def _first_cells(result: Result, runs: Mapping[str, int]) -> tuple[str, str, str]:
    run = str(runs[_run(result)]).translate(SUPERSCRIPTS)
    owner = "" if result.is_ours else ", another system's boxes"
    gamma = gamma_of(result)
    return f"{result.name}{owner} {run}", result.manifest.model or NONE, NONE if gamma is None else f"{gamma:g}"


def _setting(value: object) -> str:
    words = {True: "yes", False: "no", None: "none"}
    return words[value] if isinstance(value, bool | None) else str(value)


def _group_tables(group: Group) -> list[str]:
    """The published rows of a group, best first; those of pointing in a table for each protocol."""
    rows = sorted(group.rows, key=lambda row: (-(row.numbers[0] or 0), row.method))
    if group.kind == "boxes":
        return [markdown_table(_published_table(group.kind, rows))]
    titles = published().protocols
    protocols = sorted({row.protocol for row in rows if row.protocol})
    parts = []
    for protocol in (*protocols, None):
        chosen = [row for row in rows if row.protocol == protocol]
        title = f"{escape(protocol)}: {titles[protocol]}" if protocol else "not known"
        parts += [f"### Protocol {title}\n", markdown_table(_published_table(group.kind, chosen))] if chosen else []
    return parts


def _published_table(kind: str, rows: Sequence[Row]) -> Table:
    measures = ("R@1", "R@5", "R@10") if kind == "boxes" else ("accuracy",)
    heads = ("method", *measures, "protocol", "data", "mark", "source, notes")
    cells = [
        (
            row.method,
            *_printed_numbers(row, len(measures)),
            row.protocol or NONE,
            row.split or NONE,
            row.mark,
            "; ".join(part for part in (row.source, row.note) if part),
        )
        for row in rows
    ]
    return Table("", heads, tuple(cells), left=frozenset({0, *range(len(heads) - 4, len(heads))}))


def _printed_numbers(row: Row, columns: int) -> list[str]:
    """The numbers of a row with the decimals that were published, at least one."""
    numbers = [
        number(value) if value is None or f"{value:.2f}".endswith("0") else f"{value:.2f}" for value in row.numbers
    ]
    if row.shown:
        numbers[0] = row.shown
    return numbers + [NONE] * (columns - len(numbers))
