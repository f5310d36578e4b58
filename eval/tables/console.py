"""Tables on the console: one result in detail, or several as Tables 6 and 7."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.result import ERRORS, BoxScores, PointingScores, Result, Subset
from eval.tables.cells import NONE, Table, count, pair, percent, with_interval
from eval.tables.content import errors_table, further_measures, paper_table_6, paper_table_7, table_6, table_7
from eval.tables.notes import MEASURES, PAPER, SCORES, notes
from eval.tables.rows import gamma_of, headline, photo_sets, photos_label

if TYPE_CHECKING:
    from rich.console import Console

NARROW = 110  # characters of a line; on narrower consoles, heads are abbreviated
SHORT = {
    "clothing": "cloth.",
    "bodyparts": "body",
    "animals": "anim.",
    "vehicles": "vehic.",
    "instruments": "instr.",
    "mAP (Group)": "mAP (G)",
    "mAP (Phrase)": "mAP (P)",
    "mAP (Group), raw": "mAP (G), raw",
    "R@1, IoU .75": "IoU .75",
}


def print_result(console: "Console", result: Result) -> None:
    """Print one result: recall with 95 % intervals, types, pointing, γ, time, and where it comes from."""
    found = headline(result)
    if found is None:
        say(console, result.name, "bold")
    else:
        name, scores = found
        title = f"{result.name}: {name}, {count(scores.all.photos)} photos, in per cent (95 % interval, by photo)"
        print_table(console, _subsets_table(title, result, scores))
        print_table(console, _types_table(scores))
        if others := {other: preset for other, preset in result.boxes.items() if other != name}:
            print_table(console, _presets_table(others))
    if result.pointing:
        print_table(console, _pointing_table(result.pointing))
    if result.gammas:
        print_table(console, _gammas_table(result))
    for line in (*_facts(result), result.manifest.supervision, _origin(result)):
        say(console, line)


def print_tables(console: "Console", results: Sequence[Result]) -> None:
    """Print Tables 6 and 7 for each set of photos, and then the paper's own."""
    for found in photo_sets(results):
        say(console, f"Measured on {found.label}", "bold")
        for make_table in (table_6, table_7, further_measures, errors_table):
            print_table(console, make_table(found.results))
        for note in notes(found):
            say(console, f"- {note}")
        say(console, "")
    for table in (paper_table_6(), paper_table_7()):
        print_table(console, table, style="dim")
    for note in (PAPER, MEASURES, SCORES):
        say(console, f"- {note}")


def print_table(console: "Console", table: Table, *, style: str = "") -> None:
    """Print a table below its title. The first column may wrap; the others never do."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    is_tight = console.width < NARROW
    if table.title:
        say(console, table.title, "bold")
    grid = RichTable(box=box.SIMPLE, padding=(0, 0) if is_tight else (0, 1))
    for index, head in enumerate(table.heads):
        text = SHORT.get(head, head) if is_tight else head
        justify = "left" if index in table.left else "right"
        grid.add_column(text, justify=justify, no_wrap=index > 0)  # type: ignore[arg-type]
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row), style=style)
    console.print(grid)


def _subsets_table(title: str, result: Result, scores: BoxScores) -> Table:
    subsets = {"all": scores.all, "small": scores.small, "large": scores.large}
    calibration = result.manifest.calibration

    def row(label: str, *cells: str) -> tuple[str, ...]:
        return (label, *cells)

    found = subsets.values()
    rows = (
        row("phrases", *(count(subset.instances) for subset in found)),
        row("R@1", *(with_interval(subset.recall.at_1) for subset in found)),
        row("R@5", *(with_interval(subset.recall.at_5) for subset in found)),
        row("R@10", *(with_interval(subset.recall.at_10) for subset in found)),
        row("bound", *(with_interval(subset.recall.bound) for subset in found)),
        row("R@1, IoU .75", *(with_interval(subset.recall_at_1_iou_75) for subset in found)),
        row("mean IoU, first box", *(with_interval(subset.mean_iou) for subset in found)),
        *(row(error.replace("_", " "), *(_error(subset, error) for subset in found)) for error in ERRORS),
        row("mAP (Group), raw", *(percent(subset.raw_precision.group) for subset in found)),
        row("mAP (Phrase), raw", *(percent(subset.raw_precision.phrase) for subset in found)),
        row(f"mAP (Group), {calibration}", *(percent(subset.precision.group) for subset in found)),
        row(f"mAP (Phrase), {calibration}", *(percent(subset.precision.phrase) for subset in found)),
        row("mean R@5 of types", *(percent(subset.type_mean_recall_5) for subset in found)),
    )
    return Table(title, ("", *subsets), rows)


def _error(subset: Subset, error: str) -> str:
    return NONE if subset.errors is None else with_interval(getattr(subset.errors, error))


def _types_table(scores: BoxScores) -> Table:
    rows = []
    for kind, values in scores.all.types.items():
        recall = values.recall
        shares = [measured.share for measured in (recall.at_1, recall.at_5, recall.at_10, recall.bound)]
        cells = [percent(share) for share in (*shares, values.raw_precision, values.precision)]
        rows.append((kind, count(values.instances), *cells))
    heads = ("type", "phrases", "R@1", "R@5", "R@10", "bound", "AP, raw", "AP")
    return Table("", heads, tuple(rows))


def _presets_table(presets: dict[str, BoxScores]) -> Table:
    rows = []
    for name, scores in presets.items():
        cells = zip(_preset_cells(scores.all), _preset_cells(scores.small), strict=True)
        rows.append((name, *(pair(*values) for values in cells)))
    return Table("", ("all/small", "R@1", "R@5", "R@10", "bound", "mAP (Group), raw"), tuple(rows))


def _preset_cells(subset: Subset) -> list[str]:
    recall = subset.recall
    shares = [measured.share for measured in (recall.at_1, recall.at_5, recall.at_10, recall.bound)]
    return [percent(share) for share in (*shares, subset.raw_precision.group)]


def _pointing_table(presets: dict[str, PointingScores]) -> Table:
    rows = [
        (
            name.removeprefix("pointing_"),
            f"{count(scores.instances)} ({scores.protocol.unit})",
            with_interval(scores.accuracy),
            percent(scores.centre),
        )
        for name, scores in presets.items()
    ]
    return Table("", ("pointing", "of", "accuracy", "the photo's centre"), tuple(rows))


def _gammas_table(result: Result) -> Table:
    chosen = gamma_of(result)
    rows = [
        (
            f"{tried.value:g}",
            *(percent(share) for share in (tried.at_1, tried.at_5, tried.at_10)),
            "chosen" if tried.value == chosen else "",
        )
        for tried in result.gammas
    ]
    return Table("", ("γ", "R@1", "R@5", "R@10", ""), tuple(rows))


def _facts(result: Result) -> list[str]:
    """Sentences on known words, on the probability that reached the map, and on time."""
    lines = []
    if coverage := result.coverage:
        share = percent(coverage.known / coverage.phrases) if coverage.phrases else NONE
        lines.append(f"{count(coverage.known)} of {count(coverage.phrases)} phrases have a known word ({share} %)")
    if reached := result.reached:
        lines.append(
            f"winning probability that reached the map: {percent(reached.mean)} % on average over "
            f"{count(reached.phrases)} phrases, from {percent(reached.least)} to {percent(reached.greatest)} %"
        )
    if (timing := result.timing) and timing.total:
        # The pace is that of this run only if no attention map comes from an earlier one.
        is_complete = timing.photos and timing.attended == timing.photos
        pace = f", {timing.photos / timing.total:.2g} photos/s" if is_complete else ""
        parts = f"attention {timing.attention:.1f}, proposals {timing.proposals:.1f}, scoring {timing.scoring:.1f}"
        lines.append(f"{timing.total:.1f} s ({parts}){pace}")
    return lines


def _origin(result: Result) -> str:
    """The origin of a result in one line: method, photos, commit, date and versions."""
    manifest, data = result.manifest, result.manifest.data
    parts = [part for part in (manifest.model, manifest.attention, manifest.proposals, manifest.predictions) if part]
    if manifest.gamma is not None:
        parts.append(f"γ {manifest.gamma.value:g} (chosen on {manifest.gamma.chosen_on})")
    photos = f"{data.name}: {photos_label(data)}, {count(data.captions)} captions, {count(data.phrases)} phrases"
    parts += [photos, f"commit {manifest.commit}" if manifest.commit else "", manifest.date]
    parts += [f"{name} {version}" for name, version in manifest.versions.items()]
    return "; ".join(part for part in parts if part)


def say(console: "Console", text: str, style: str = "") -> None:
    """Print a text as it is, without markup."""
    console.print(text, style=style, markup=False, highlight=False)
