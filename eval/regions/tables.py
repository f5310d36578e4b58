"""Results on named regions as tables: one on the console, and a section of those that repeat no table of the paper."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.names import PROPOSALS
from eval.regions.result import RegionBoxes, RegionResult
from eval.result import ERRORS, Measured
from eval.tables.cells import NONE, Table, count, percent, with_interval
from eval.tables.console import print_table
from eval.tables.section import Part, Section

if TYPE_CHECKING:
    from rich.console import Console

INTRODUCTION = (
    "Photos whose regions have names, at their real resolution; each photo is asked for each name of its regions, as "
    "a phrase. Pointing is the share of these pairs whose greatest attention lies in the region of the name, without "
    "tolerance. Difficult objects are left out. A name without a known word counts as missed. R@1 is the share of "
    "pairs whose first box has an IoU of .5 or more with a box of the name. In per cent, with 95 % intervals over "
    "photos."
)
ABOUT = {
    "ADE20K": "photos of ADE20K's validation set, of at most 512 pixels, with masks of 150 classes",
    "clothing": "street photos of 550 × 825 pixels with masks of clothing and hair; skin is left out",
    "VOC2012 animal subset": "photos of VOC2012 that were chosen for animals and people, with boxes; they are not "
    "VOC07's",
    "COCO train2017 subset": "the 98 of 100 photos of train2017 that have objects, with their masks; the ranker of "
    "MCG, which takes no part here, learned from the same photos",
    "subjects": "photos of single things on tables, floors and lawns, of at most 640 pixels (Google's DreamBooth set, "
    "CC BY 4.0, photographers on Unsplash), each with one box that the project drew by eye, eval/subjects.json",
}
BOX_HEADS = ("R@1", "R@5", "R@10", "R@1, IoU .75", "mean IoU", *(error.replace("_", " ") for error in ERRORS))


def print_region_result(console: "Console", result: RegionResult) -> None:
    """Print one result: pointing over pairs and over names, the scores of boxes, and the names that are not known."""
    data, pointing = result.manifest.data, result.pointing
    title = f"{result.name}: {data.name}, {count(data.photos)} photos, {count(data.pairs)} pairs, in per cent"
    rows = [
        ("pointing, over pairs", with_interval(pointing.accuracy), percent(pointing.centre)),
        ("pointing, mean of names", with_interval(pointing.name_mean), percent(pointing.centre_name_mean)),
    ]
    if result.boxes is not None:
        cells = [with_interval(measured) for measured in _box_measures(result.boxes)]
        rows += [(head, cell, NONE) for head, cell in zip(BOX_HEADS, cells, strict=True)]
    if (difficult := result.difficult) is not None:
        rows += [
            ("difficult pairs, pointing", with_interval(difficult.accuracy), percent(difficult.centre)),
            ("mean of names", with_interval(difficult.name_mean), percent(difficult.centre_name_mean)),
        ]
    if (dominant := result.dominant) is not None:
        rows.append((f"localisation error, α {dominant.alpha:g}", with_interval(dominant.error), NONE))
    heads = ("", "share (95 % interval)", "the photo's centre")
    print_table(console, Table(title, heads, tuple(rows)))
    if pointing.unknown:
        console.print(f"names not known: {', '.join(pointing.unknown)}", markup=False, highlight=False)


def other_photos(results: Sequence[RegionResult]) -> Section:
    """The section of results that repeat no table of the paper: pointing on all photos, boxes, notes, and commands.

    Raises:
        ValueError: two results have the same name, photos and proposals.
    """
    check_distinct(results)
    groups: dict[tuple[str, str], list[RegionResult]] = {}
    for result in results:
        if result.manifest.proposals is not None:
            groups.setdefault((result.manifest.data.name, result.manifest.proposals), []).append(result)
    boxes = [_boxes_table(data, proposals, group) for (data, proposals), group in sorted(groups.items())]
    measured: tuple[Part, ...] = (INTRODUCTION, notes(results), _pointing_table(results), *boxes)
    return Section("Other photos", (*measured, "Commands:", commands(results)))


def check_distinct(results: Sequence[RegionResult]) -> None:
    """Raise ValueError where two results of a section have the same name, photos and proposals."""
    places = Counter((one.name, one.manifest.data.name, one.manifest.proposals) for one in results)
    for (name, data, _), number in places.items():
        if number > 1:
            raise ValueError(f"{number} results of {name} on {data}: remove all but one, or name them with name=")


def commands(results: Sequence[RegionResult]) -> tuple[str, ...]:
    """The commands that the results come from, with commit and date."""
    return tuple(f"`{result.manifest.command}`, {_origin(result)}" for result in results)


def _pointing_table(results: Sequence[RegionResult]) -> Table:
    """Pointing of every method on every set of photos, and the mean over names; the photos' centres come last."""
    data = sorted({result.manifest.data.name for result in results}, key=str.casefold)
    found = {(result.name, result.manifest.data.name): result.pointing for result in results}
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        cells: list[str] = []
        for one in data:
            pointing = found.get((name, one))
            cells += (
                [NONE, NONE]
                if pointing is None
                else [with_interval(pointing.accuracy), percent(pointing.name_mean.share)]
            )
        rows.append((name, *cells))
    centres = {one: next(pointing for (_, other), pointing in found.items() if other == one) for one in data}
    shares = [share for one in data for share in (centres[one].centre, centres[one].centre_name_mean)]
    rows.append(("the photo's centre", *(percent(share) for share in shares)))
    heads = [head for one in data for head in (one, "mean of names")]
    return Table("Pointing, per cent of pairs (95 % interval)", ("method", *heads), tuple(rows))


def _boxes_table(data: str, proposals: str, results: Sequence[RegionResult]) -> Table:
    """The scores of ranked boxes of all methods on a set of photos, with the same proposals."""
    rows = []
    for result in results:
        if result.boxes is None:
            continue
        recall_1, *others = _box_measures(result.boxes)
        rows.append((result.name, with_interval(recall_1), *(percent(measured.share) for measured in others)))
    title = f"Boxes on {data}, {PROPOSALS.get(proposals, proposals)}, per cent; of the first box: overlaps and errors"
    return Table(title, ("method", *BOX_HEADS), tuple(rows))


def _box_measures(boxes: RegionBoxes) -> tuple[Measured, ...]:
    """The measures of `BOX_HEADS`."""
    recall = (boxes.recall.at_1, boxes.recall.at_5, boxes.recall.at_10)
    errors = (getattr(boxes.errors, error) for error in ERRORS)
    return (*recall, boxes.recall_at_1_iou_75, boxes.mean_iou, *errors)


def notes(results: Sequence[RegionResult]) -> tuple[str, ...]:
    """A line on each set of photos, and one on the names that each method does not know."""
    lines: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda one: one.manifest.data.name.casefold()):
        data, names = result.manifest.data, result.pointing.names
        about = next((f" ({text})" for name, text in ABOUT.items() if data.name.startswith(name)), "")
        pairs = f"{count(data.photos)} photos, {count(data.pairs)} pairs of a photo and one of {len(names)} names"
        lines.setdefault(f"{data.name}: {pairs}{about}.", [])
        if unknown := result.pointing.unknown:
            missed = sum(names[name].pairs for name in unknown)
            line = f"{data.name}: not known, and missed, {count(missed)} pairs: {', '.join(unknown)}"
            lines.setdefault(line, []).append(result.name)
    return tuple(
        f"{line} ({'; '.join(dict.fromkeys(methods))})." if methods else line for line, methods in lines.items()
    )


def _origin(result: RegionResult) -> str:
    manifest = result.manifest
    return ", ".join(part for part in (f"commit {manifest.commit}" if manifest.commit else "", manifest.date) if part)
