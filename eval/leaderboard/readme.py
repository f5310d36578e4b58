"""The five rows of results in ``README.md``, between two marker comments."""

from collections.abc import Sequence

from eval.leaderboard.page import escape_note
from eval.manifest import title
from eval.result import Result
from eval.tables.cells import NONE, Table, gamma, pair, percent
from eval.tables.markdown import markdown_table
from eval.tables.notes import notes
from eval.tables.rows import HEADLINE, PhotoSet, gamma_of, photo_sets

BEGIN, END = "<!-- results -->", "<!-- /results -->"
ATTENTIONS = {"best": "best (the default)", "cmwp": "c-MWP", "cam": "CAM", "mwp": "MWP", "centre": "the photo's centre"}
POINTING = "pointing_entity_all"


def readme_block(results: Sequence[Result]) -> str:
    """Write five rows, all with MCG, with their caveats; from the first set of photos that has any of them.

    Raises:
        ValueError: no result belongs to one of the rows.
    """
    for found in photo_sets(results):
        if rows := _rows(found):
            break
    else:
        names = ", ".join(title(attention, "mcg") for attention in ATTENTIONS)
        raise ValueError(f"no result for the rows of README.md ({names}); run python -m eval experiment=table6 first")
    heads = ("method", "γ", "R@1", "R@5", "R@10", "mAP (Group), raw", "pointing, entities")
    table = markdown_table(Table("", heads, tuple(rows)))
    caveats = "".join(f"* {escape_note(note)}\n" for note in notes(found))
    measured = f"Measured on {found.label} of Flickr30k Entities, preset {HEADLINE}, per cent, all/small phrases:"
    return f"{measured}\n\n{table}\n{caveats}"


def replace_block(text: str, block: str) -> str:
    """Replace what stands between the marker comments of a text.

    Raises:
        ValueError: the text does not have both markers, once each and in order.

    >>> replace_block("a <!-- results -->old<!-- /results --> b", "new")
    'a <!-- results -->\\nnew<!-- /results --> b'
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected {BEGIN} and, after it, {END}, once each")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{block}{END}{after}"


def _rows(found: PhotoSet) -> list[tuple[str, ...]]:
    results = {result.name: result for result in found.results if HEADLINE in result.boxes}
    rows = []
    for attention, label in ATTENTIONS.items():
        result = results.get(title(attention, "mcg"))
        if result is None:
            continue
        scores = result.boxes[HEADLINE]
        pairs = [
            (scores.all.recall.at_1.share, scores.small.recall.at_1.share),
            (scores.all.recall.at_5.share, scores.small.recall.at_5.share),
            (scores.all.recall.at_10.share, scores.small.recall.at_10.share),
            (scores.all.raw_precision.group, scores.small.raw_precision.group),
        ]
        cells = [pair(percent(share), percent(small)) for share, small in pairs]
        pointing = result.pointing.get(POINTING)
        accuracy = NONE if pointing is None else percent(pointing.accuracy.share)
        rows.append((label, gamma(gamma_of(result)), *cells, accuracy))
    return rows
