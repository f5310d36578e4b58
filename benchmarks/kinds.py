"""γ by the kind of thing against one γ for all: chosen on three quarters of the photos, scored on the rest.

    python -m proposals data=flickr30k data.path=PHOTOS data.entities=ENTITIES output=mcg.h5
    python benchmarks/kinds.py PHOTOS ENTITIES mcg.h5

Photo j is in fold j mod 4. γ is the one of `GRID` with the greatest mean of R@1, R@5 and R@10 by the preset zhang18: of
all phrases, or of those of each kind (`grounding.kinds`). The classifier is the default model. About a second for each
photo on one core.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.flickr30k import find_photos, instances
from eval.judging import Judged, judge
from eval.metrics import recalls
from eval.predicting import Predictor, parse_phrase
from eval.protocols import BoxProtocol
from grounding import Grounder
from grounding.kinds import KINDS, kind_of

GRID = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
FOLDS = 4
RULES = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=False, per_type=True, small=0.25)


@dataclass(frozen=True, eq=False)
class Phrase:
    """A phrase, and how good its boxes are by each γ."""

    fold: int
    kind: str | None
    judged: Mapping[float, Judged]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", type=Path)
    parser.add_argument("entities", metavar="ENTITIES", type=Path)
    parser.add_argument("proposals", metavar="FILE.h5", type=Path)
    parser.add_argument("--attention", default="best", metavar="OPTION", help="of attention=")
    arguments = parser.parse_args()
    try:
        phrases = measure(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print_table(phrases)


def measure(arguments: argparse.Namespace) -> list[Phrase]:
    """Judge all phrases by each γ."""
    settings = [f"attention={arguments.attention}", "scoring.area_exponent_by_kind={}"]
    settings += ["proposals=stored", f"proposals.path={arguments.proposals}"]
    grounder = Grounder.load("checkpoint", *settings)
    photos = find_photos(arguments.photos, arguments.entities)
    phrases = []
    with tempfile.TemporaryDirectory() as folder:
        predict = Predictor(grounder, GRID, maps=Path(folder, "maps"), predictions=Path(folder, "predictions"))
        for number, photo in enumerate(track(photos, "photos")):
            if things := instances(photo):
                found = predict(photo, things).by_gamma
                for index, thing in enumerate(things):
                    judged = {gamma: judge(thing, found[gamma][index], RULES) for gamma in GRID}
                    phrases.append(Phrase(number % FOLDS, kind_of(parse_phrase(thing.text)), judged))
    return phrases


def print_table(phrases: Sequence[Phrase]) -> None:
    """The γ that all phrases would choose, by kind, and recall on photos that chose none."""
    console = Console()
    table = Table(box=box.SIMPLE)
    for head in ("chosen on all photos", "phrases", "γ", "R@1", "R@5", "R@10"):
        table.add_column(head, justify="left" if head.startswith("chosen") else "right")
    for kind in (*KINDS, None):
        of_kind = [phrase for phrase in phrases if phrase.kind == kind]
        if of_kind:
            gamma = best_gamma(of_kind)
            row = shares([phrase.judged[gamma] for phrase in of_kind])
            table.add_row(kind or "no noun", str(len(of_kind)), f"{gamma:g}", *row)
    console.print(table)
    for name, are_apart in (("one γ for all kinds", False), ("γ by kind", True)):
        console.print(f"{name}, other photos: R@1, R@5, R@10 {' / '.join(shares(held_out(phrases, are_apart)))}")


def held_out(phrases: Sequence[Phrase], kinds_are_apart: bool) -> list[Judged]:
    """The judgements of all phrases, each by a γ that phrases of the other folds chose."""
    judged = []
    for fold in range(FOLDS):
        others = [phrase for phrase in phrases if phrase.fold != fold]
        gammas = {
            kind: best_gamma([phrase for phrase in others if phrase.kind == kind] if kinds_are_apart else others)
            for kind in {phrase.kind for phrase in phrases}
        }
        judged += [phrase.judged[gammas[phrase.kind]] for phrase in phrases if phrase.fold == fold]
    return judged


def best_gamma(phrases: Sequence[Phrase]) -> float:
    """The γ with the greatest mean of R@1, R@5 and R@10, the lowest of several."""

    def merit(gamma: float) -> float:
        found = recalls([phrase.judged[gamma] for phrase in phrases], per_type=RULES.per_type)
        return sum(each.share or 0.0 for each in (found.at_1, found.at_5, found.at_10))

    return max(GRID, key=merit) if phrases else GRID[0]


def shares(judged: Sequence[Judged]) -> list[str]:
    """Recall at 1, 5 and 10, per cent."""
    found = recalls(judged, per_type=RULES.per_type)
    return [f"{100 * (each.share or 0.0):.1f}" for each in (found.at_1, found.at_5, found.at_10)]


if __name__ == "__main__":
    main()
