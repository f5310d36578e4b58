"""The sections of the page of results on the pointing game and on dominant objects, beside what was published."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eval.regions.result import ALPHAS, RegionPointing, RegionResult
from eval.regions.tables import check_distinct, commands, notes
from eval.tables.cells import NONE, Table, count, percent, with_interval
from eval.tables.markdown import titled_table

GAME = (
    "The pointing game of the paper (6.1): a photo is asked for each category of its objects. A hit is counted if the "
    "greatest attention, enlarged to the photo's size, lies less than {tolerance:g} pixels from a pixel of an object "
    "of this category: of its box in VOC, of its mask in COCO. The score is the mean over categories of their "
    "accuracies. Difficult pairs are those whose objects cover less than a quarter of a photo that has another "
    "category, too. As in torchray's benchmark, difficult objects of VOC and crowds of COCO can be hit as others can, "
    "and a category whose objects in a photo are all difficult is not asked for there. A category without a known "
    "word, and a map with NaN, count as missed."
)
NETWORKS = (
    "The paper's networks were trained with the labels of VOC07 or COCO themselves. Ours were not: they are asked for "
    "a phrase for each category (`grounding/vocabularies/categories.json`), on other photos. "
    "The rows below are for reference."
)
TORCHRAY = (
    "torchray's numbers and the paper's differ by at most 1.5 for VGG16, a plain chain of layers, and by up to 4.4 for "
    "ResNet50. What torchray does otherwise: it shares the signal of a residual sum in proportion to the sum before "
    "its activation, without a guard where that is zero; it takes a NaN for the greatest value of a map; and it "
    "enlarges maps by bilinear interpolation."
)
DOMINANT = (
    "One box for a category (paper, 6.2): photos are squeezed to squares for the network, and the answer is the "
    "tightest box around the pixels whose attention is greater than α times its mean. The error is the share of pairs "
    "whose box has an IoU below .5 with every box of the category. α was chosen among 0, .5 … 10 on other photos, "
    "where a number of them is given: that is supervision by their boxes. The paper measured on ImageNet's validation "
    "set; these are photos of single objects, which stand in for it."
)


def pointing_game(results: Sequence[RegionResult]) -> str:
    """Write the section on the pointing game, from results with a tolerance.

    Raises:
        ValueError: two results have the same name and photos.
    """
    check_distinct(results)
    tolerance = max(result.pointing.tolerance for result in results)
    parts = ["## Pointing game\n", f"{GAME.format(tolerance=tolerance)}\n", notes(results)]
    parts += [titled_table(_game_table(results)), f"{NETWORKS}\n"]
    parts.append(titled_table(_published("table_1", "For reference, Table 1 of Zhang et al. 2018, all/difficult")))
    parts += [
        titled_table(_published("torchray", "For reference, torchray's benchmark, all/difficult")),
        f"{TORCHRAY}\n",
    ]
    return "\n".join([*parts, commands(results)])


def dominant_objects(results: Sequence[RegionResult]) -> str:
    """Write the section on dominant objects.

    Raises:
        ValueError: two results have the same name and photos.
    """
    check_distinct(results)
    parts = ["## Dominant objects\n", f"{DOMINANT}\n", notes(results), titled_table(_dominant_table(results))]
    parts.append(titled_table(_alphas_table(results)))
    parts.append(
        titled_table(_published("table_5", "For reference, Table 5 of Zhang et al. 2018, ImageNet val, GoogLeNet"))
    )
    return "\n".join([*parts, commands(results)])


def _game_table(results: Sequence[RegionResult]) -> Table:
    """The mean accuracy of each method on each set of photos, for all and difficult pairs; the centres come last."""
    data = sorted({result.manifest.data.name for result in results}, key=str.casefold)
    found = {(result.name, result.manifest.data.name): result for result in results}
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        chosen = [found.get((name, one)) for one in data]
        rows.append((name, *(cell for result in chosen for cell in _means(result))))
    some = [next(result for result in results if result.manifest.data.name == one) for one in data]
    subsets = [subset for result in some for subset in (result.pointing, result.difficult)]
    rows.append(("the photo's centre", *(NONE if one is None else percent(one.centre_name_mean) for one in subsets)))
    rows.append(("number of pairs", *(NONE if one is None else count(_pairs(one)) for one in subsets)))
    heads = [head for one in data for head in (one, "difficult")]
    return Table("Mean accuracy over categories, per cent (95 % interval)", ("method", *heads), tuple(rows))


def _means(result: RegionResult | None) -> tuple[str, str]:
    if result is None:
        return NONE, NONE
    difficult = NONE if result.difficult is None else with_interval(result.difficult.name_mean)
    return with_interval(result.pointing.name_mean), difficult


def _pairs(pointing: RegionPointing) -> int:
    return sum(name.pairs for name in pointing.names.values())


def _dominant_table(results: Sequence[RegionResult]) -> Table:
    rows = []
    for result in results:
        if (dominant := result.dominant) is not None:
            chosen = NONE if dominant.chosen_on is None else count(dominant.chosen_on)
            data = result.manifest.data
            error = with_interval(dominant.error)
            rows.append((result.name, data.name, count(data.pairs), f"{dominant.alpha:g}", chosen, error))
    heads = ("method", "photos", "pairs", "α", "chosen on photos", "error")
    return Table("Localisation error, per cent (95 % interval)", heads, tuple(rows), left=frozenset({0, 1}))


def _alphas_table(results: Sequence[RegionResult]) -> Table:
    """The error of each method for every α on the measured photos, from which none was chosen."""
    rows = [
        (result.name, result.manifest.data.name, *(percent(error) for error in result.dominant.errors.values()))
        for result in results
        if result.dominant is not None
    ]
    heads = ("method", "photos", *(f"{alpha:g}" for alpha in ALPHAS))
    return Table("The same error for every α, per cent", heads, tuple(rows), left=frozenset({0, 1}))


def _published(name: str, title: str) -> Table:
    """A table of ``published_tables.json``, in per cent, as it was printed."""
    table = _published_tables()[name]
    rows = [(row, *(NONE if cell is None else cell for cell in cells)) for row, cells in table["rows"].items()]
    return Table(title, ("method", *table["columns"]), tuple(rows))


@cache
def _published_tables() -> dict[str, Any]:
    path = Path(__file__).parent.parent / "published_tables.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
