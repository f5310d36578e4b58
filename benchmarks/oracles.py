"""Which part loses: recall and pointing with an oracle in the place of words, of maps and of proposals.

    python -m proposals data=flickr30k data.path=PHOTOS data.entities=ENTITIES output=mcg.h5
    python benchmarks/oracles.py PHOTOS ENTITIES mcg.h5 --attention cmwp --gammas 0.25

The rules are those of the preset zhang18, and the default model's.

- as it is: what the model says, for each γ.
- the best word: of all known words that the photo's captions say, the one whose map ranks the phrase's box best; what
  choosing and weighting words could gain at most.
- the perfect map: 1 inside the phrase's boxes and 0 outside, at the resolution of the attention; what better attention
  could gain at most, with the γ of `PERFECT` that does best.
- the bound: whether any region is correct that is left when near duplicates are gone; what better scoring could gain.

About a second a photo on one core for c-MWP.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from eval.flickr30k import find_photos, instances, load_photo
from eval.metrics import Judged, judge, recalls
from eval.predicting import known_words
from eval.protocols import BoxProtocol
from eval.records import Instance, Prediction
from eval.words import is_hit, peak
from grounding import Grounder
from grounding.maps import PhraseWords, phrase_map
from grounding.phrases import whole_phrase
from grounding.records import Regions
from grounding.scoring import rank_regions
from proposals import Stored

PERFECT = (0.25, 0.5, 0.75, 1.0)  # γ of the perfect map
RULES = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=False, per_type=True, small=0.25)


def rank(attention: Tensor | None, proposals: Regions, size: tuple[int, int], gammas: list[float]) -> list[Regions]:
    """The regions that each γ keeps, best first."""
    rankings = rank_regions(attention, proposals, size, area_exponents=gammas, overlap=0.7)
    return [ranking.regions for ranking in rankings]


def perfect_map(instance: Instance, shape: torch.Size) -> Tensor:
    """1 inside the boxes of an instance and 0 outside, averaged to the cells of an attention map."""
    inside = torch.zeros(instance.size)
    for x1, y1, x2, y2 in instance.boxes.round().int().tolist():
        inside[y1:y2, x1:x2] = 1
    return interpolate(inside[None, None], shape, mode="area")[0, 0]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", type=Path)
    parser.add_argument("entities", metavar="ENTITIES", type=Path)
    parser.add_argument("proposals", metavar="FILE.h5", type=Path)
    parser.add_argument("--attention", default="cmwp", metavar="OPTION", help="of attention=")
    parser.add_argument("--gammas", nargs="+", type=float, default=[0.25], metavar="γ")
    parser.add_argument("--count", type=int, metavar="N", help="stop after so many photos")
    arguments = parser.parse_args()
    try:
        photos = find_photos(arguments.photos, arguments.entities)[: arguments.count]
        grounder = Grounder.load("checkpoint", f"attention={arguments.attention}")
        grounder.propose = Stored(arguments.proposals)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    console = Console()
    judged: dict[str, list[Judged]] = defaultdict(list)
    hits: dict[str, list[bool]] = defaultdict(list)
    vocabulary = grounder.attention.vocabulary
    for photo in track(photos, "photos"):
        things, image = instances(photo), load_photo(photo)
        if not things:
            continue
        said = [vocabulary.match(whole_phrase(sentence.text).words)[0] for sentence in photo.sentences]
        said += [known_words(thing.text, vocabulary) for thing in things]
        prepared = grounder.attention.prepare(image)
        maps = grounder.attention([prepared], [[word for words in said for word in words]])[0].maps
        proposals = grounder.propose(image)
        if not maps:
            console.print(f"{photo.name}: no known word, left out")
            continue
        shape = next(iter(maps.values())).shape
        of_words = {word: rank(one, proposals, photo.size, arguments.gammas)[0] for word, one in maps.items()}
        peaks = {word: peak(one, photo.size) for word, one in maps.items()}
        for thing in things:
            words = known_words(thing.text, vocabulary)
            attention = phrase_map(maps, PhraseWords(words))
            found = rank(attention, proposals, photo.size, arguments.gammas)
            for gamma, regions in zip(arguments.gammas, found, strict=True):
                judged[f"as it is, γ {gamma:g}"].append(judge(thing, Prediction(regions), RULES))
            best = min(
                (judge(thing, Prediction(regions), RULES) for regions in of_words.values()),
                key=lambda one: one.rank or float("inf"),
            )
            judged[f"the best word, γ {arguments.gammas[0]:g}"].append(best)
            found = rank(perfect_map(thing, shape), proposals, photo.size, list(PERFECT))
            for gamma, regions in zip(PERFECT, found, strict=True):
                judged[f"the perfect map, γ {gamma:g}"].append(judge(thing, Prediction(regions), RULES))
            hits["as it is"].append(attention is not None and is_hit(peak(attention, photo.size), thing.boxes))
            hits["the best word"].append(any(is_hit(point, thing.boxes) for point in peaks.values()))
    print_table(console, judged, hits, len(photos))


def print_table(console: Console, judged: dict[str, list[Judged]], hits: dict[str, list[bool]], photos: int) -> None:
    """Recall, its bound and pointing, in per cent."""
    count = len(next(iter(judged.values())))
    console.print(f"{count} phrases of {photos} photos, per cent")
    table = Table(box=box.SIMPLE)
    for head in ("", "R@1", "R@5", "R@10", "bound"):
        table.add_column(head, justify="right" if head else "left")
    for name, of_name in judged.items():
        table.add_row(name, *(f"{100 * (share or 0):.1f}" for share in recalls(of_name, per_type=True).values()))
    console.print(table)
    for name, of_name in hits.items():
        console.print(f"greatest attention in a box, {name}: {100 * sum(of_name) / len(of_name):.1f}")


if __name__ == "__main__":
    main()
