"""The tables of several results: Tables 6 and 7 of the paper, measures that it does not report, and pointing."""

from collections.abc import Sequence

from eval.published import COLUMNS, published
from eval.result import ERRORS, Result, Subset
from eval.splits import saved_statistics
from eval.tables.cells import NONE, Table, count, gamma, number, pair, percent, with_interval
from eval.tables.rows import TableRow, headline_scores, our_rows, paper_rows

PAPER = "Zhang et al. 2018: other photos, other training data"


def table_6(results: Sequence[Result]) -> Table:
    """Table 6 of our results. As in the paper, mAP is that of raw scores."""
    return _table_6("Table 6: recall and mAP of raw scores, per cent, all/small phrases", our_rows(results))


def paper_table_6() -> Table:
    """The paper's Table 6, to be shown apart from ours."""
    return _table_6(f"For reference, Table 6 of {PAPER}", paper_rows())


def table_7(results: Sequence[Result]) -> Table:
    """Table 7 of our results: R@5 of each type of phrase."""
    return _table_7("Table 7: R@5 of each type, per cent, and the mean of the types", our_rows(results))


def paper_table_7() -> Table:
    """The paper's Table 7, to be shown apart from ours."""
    return _table_7(f"For reference, Table 7 of {PAPER}", paper_rows())


def further_measures(results: Sequence[Result]) -> Table:
    """Measures that the paper does not report: see `eval.tables.notes.MEASURES`."""
    rows = []
    for name, result, scores in headline_scores(results):
        cells = [pair(*cell) for cell in zip(_further(scores.all), _further(scores.small), strict=True)]
        rows.append((name, *cells, NONE if result.reached is None else percent(result.reached.mean)))
    calibrations = "/".join(dict.fromkeys(result.manifest.calibration for result in results))
    title = f"Further measures, per cent, all/small phrases; mAP here with calibrated scores ({calibrations})"
    heads = ("method", "R@1, IoU .75", "mean IoU", "bound", "mAP (Group)", "mAP (Phrase)", "reached")
    return Table(title, heads, tuple(rows))


def errors_table(results: Sequence[Result]) -> Table:
    """The errors of first boxes of all phrases; dashes in results that do not tell them apart."""
    rows = []
    for name, _, scores in headline_scores(results):
        errors = scores.all.errors
        shares = [None if errors is None else getattr(errors, error).share for error in ERRORS]
        rows.append((name, percent(scores.all.recall.at_1.share), *(percent(share) for share in shares)))
    heads = ("method", "correct", *(error.replace("_", " ") for error in ERRORS))
    return Table("Errors of the first box, per cent of phrases", heads, tuple(rows))


def pointing_table(results: Sequence[Result]) -> Table:
    """Pointing accuracy by every preset, and that of the photo's centre on the same instances."""
    fullest_first = sorted(results, key=lambda result: -len(result.pointing))  # methods without attention have fewer
    presets = list(dict.fromkeys(name for result in fullest_first for name in result.pointing))
    rows = [
        (
            result.name,
            *(with_interval(result.pointing[name].accuracy) if name in result.pointing else NONE for name in presets),
        )
        for result in results
        if result.pointing
    ]
    centres = {name: scores.centre for result in results for name, scores in result.pointing.items()}
    numbers = {name: scores.instances for result in results for name, scores in result.pointing.items()}
    rows.append(("the photo's centre", *(percent(centres[name]) for name in presets)))
    rows.append(("number of instances", *(count(numbers[name]) for name in presets)))
    heads = tuple(name.removeprefix("pointing_") for name in presets)
    return Table("Pointing accuracy, per cent (95 % interval)", ("method", *heads), tuple(rows))


def splits_table() -> Table:
    """Compare the photos of our results with the rest of their split and with the test split."""
    found = saved_statistics().values()
    rows = [("phrases with boxes", *(count(split.phrases) for split in found))]
    rows += [(f"of type {kind}", *(percent(split.share(kind)) for split in found)) for kind in published().types]
    centre = [percent(split.phrases_at_centre / split.phrases) for split in found]
    rows.append(("phrases with the photo's centre in a box", *centre))
    for label, hits, number_of in (
        ("entities with the centre in the union box, pointing_entity_all", "entities_at_centre", "entities"),
        ("the same, pointing_entity", "large_entities_at_centre", "large_entities"),
    ):
        pairs = [(getattr(split, hits), getattr(split, number_of)) for split in found]
        rows.append((label, *(f"{100 * hit / total:.2f} of {count(total)}" for hit, total in pairs)))
    return Table("Composition of the photos, per cent", ("", *(split.name for split in found)), tuple(rows))


def _table_6(title: str, rows: Sequence[TableRow]) -> Table:
    cells = tuple(
        (
            row.name,
            gamma(row.gamma),
            *(pair(number(value), number(small)) for value, small in zip(row.all, row.small, strict=True)),
        )
        for row in rows
    )
    return Table(title, ("method", "γ", *COLUMNS), cells)


def _table_7(title: str, rows: Sequence[TableRow]) -> Table:
    cells = tuple(
        (row.name, *(number(value) for value in (*row.recall_5, row.mean)))
        for row in rows
        if any(value is not None for value in row.recall_5)
    )
    return Table(title, ("method", *published().types, "mean"), cells)


def _further(subset: Subset) -> list[str]:
    precision = subset.precision
    shares = (subset.recall_at_1_iou_75.share, subset.mean_iou.share, subset.recall.bound.share)
    return [percent(share) for share in (*shares, precision.group, precision.phrase)]
