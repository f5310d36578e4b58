"""Error analysis: recall and pointing with an oracle in place of words, of maps and of the choice of region.

    python -m proposals data=flickr30k data.path=PHOTOS data.entities=ENTITIES output=mcg.h5
    python benchmarks/oracles.py PHOTOS ENTITIES mcg.h5 --attention cmwp --gammas 0.25

Phrases are judged by the preset zhang18; the classifier is the default model.

- without an oracle: the method as it is, for each γ.
- the best word: of all known words in the photo's captions, the one whose map ranks the phrase's box best. This is the
  most that choosing and weighting words could gain.
- the perfect map: 1 inside the phrase's boxes and 0 outside, at the resolution of the attention, for each γ of
  `PERFECT`. This is the most that better attention could gain.
- bound: whether any region is correct, after near duplicates are removed. This is the most that better scoring could
  gain.

`--output eval/error_analysis.json` saves the figures for docs/results.md, which `python -m eval.leaderboard` writes.
About a second for each photo on one core with c-MWP.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from eval.flickr30k import AnnotatedPhoto, find_photos, instances, load_photo
from eval.judging import Judged, judge
from eval.metrics import recalls
from eval.predicting import known_words
from eval.protocols import BoxProtocol
from eval.records import Instance, Prediction
from eval.result import RECALLS
from eval.words import is_hit
from grounding import Grounder
from grounding.files import write_file
from grounding.maps import PhraseWords, WordAttention, phrase_map
from grounding.peaks import peak
from grounding.phrases import whole_phrase
from grounding.records import Regions
from grounding.scoring import rank_regions
from grounding.vocabulary import Vocabulary
from proposals import Stored

PERFECT = (0.25, 0.5, 0.75, 1.0)  # γ for the perfect map
PLAIN = "without an oracle"
RANKS = ("1", "5", "10", "bound")
RULES = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=False, per_type=True, small=0.25)


@dataclass(frozen=True, eq=False)
class Findings:
    """Judgements and hits of all phrases, by the oracle that was used."""

    judged: dict[str, list[Judged]] = field(default_factory=lambda: defaultdict(list))
    hits: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    @property
    def phrases(self) -> int:
        return len(next(iter(self.judged.values())))


def rank(attention: Tensor | None, proposals: Regions, size: tuple[int, int], gammas: Sequence[float]) -> list[Regions]:
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
    parser.add_argument("--count", type=int, metavar="N", help="number of photos to stop after")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="file for the figures")
    arguments = parser.parse_args()
    try:
        photos = find_photos(arguments.photos, arguments.entities)[: arguments.count]
        attention = Grounder.load("checkpoint", f"attention={arguments.attention}").attention
        stored = Stored(arguments.proposals)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    console = Console()
    found = Findings()
    for photo in track(photos, "photos"):
        things, image = instances(photo), load_photo(photo)
        if not things:
            continue
        maps = caption_maps(photo, things, image, attention)
        if maps:
            add_photo(found, photo, things, maps, stored(image), attention.vocabulary, arguments.gammas)
        else:
            console.print(f"{photo.name}: no known word, left out")
    print_table(console, found, len(photos))
    if arguments.output:
        save(arguments.output, found, arguments.attention, len(photos))


def caption_maps(
    photo: AnnotatedPhoto, things: Sequence[Instance], image: Tensor, attention: WordAttention
) -> dict[str, Tensor]:
    """The maps of all known words of a photo's captions, and of its phrases parsed alone."""
    vocabulary = attention.vocabulary
    said = [vocabulary.match(whole_phrase(sentence.text).words)[0] for sentence in photo.sentences]
    said += [known_words(thing.text, vocabulary) for thing in things]
    return attention([attention.prepare(image)], [[word for words in said for word in words]])[0].maps


def add_photo(
    found: Findings,
    photo: AnnotatedPhoto,
    things: Sequence[Instance],
    maps: Mapping[str, Tensor],
    proposals: Regions,
    vocabulary: Vocabulary,
    gammas: Sequence[float],
) -> None:
    """Judge the phrases of a photo without an oracle and with each of them."""
    shape = next(iter(maps.values())).shape
    word_regions = [rank(one, proposals, photo.size, gammas)[0] for one in maps.values()]
    word_peaks = [peak(one, photo.size) for one in maps.values()]
    for thing in things:
        attention = phrase_map(maps, PhraseWords(known_words(thing.text, vocabulary)))
        plain = rank(attention, proposals, photo.size, gammas)
        for gamma, regions in zip(gammas, plain, strict=True):
            found.judged[f"{PLAIN}, γ {gamma:g}"].append(judge(thing, Prediction(regions), RULES))
        best = min(
            (judge(thing, Prediction(regions), RULES) for regions in word_regions),
            key=lambda one: one.rank or float("inf"),
        )
        found.judged[f"the best word, γ {gammas[0]:g}"].append(best)
        perfect = rank(perfect_map(thing, shape), proposals, photo.size, PERFECT)
        for gamma, regions in zip(PERFECT, perfect, strict=True):
            found.judged[f"the perfect map, γ {gamma:g}"].append(judge(thing, Prediction(regions), RULES))
        found.hits[PLAIN].append(attention is not None and is_hit(peak(attention, photo.size), thing.boxes))
        found.hits["the best word"].append(any(is_hit(point, thing.boxes) for point in word_peaks))


def print_table(console: Console, found: Findings, photos: int) -> None:
    """Recall, its bound and pointing, in per cent."""
    console.print(f"{found.phrases} phrases of {photos} photos, per cent")
    table = Table(box=box.SIMPLE)
    for head in ("", "R@1", "R@5", "R@10", "bound"):
        table.add_column(head, justify="right" if head else "left")
    for name, judged in found.judged.items():
        table.add_row(name, *(f"{100 * (share or 0):.1f}" for share in shares(judged)))
    console.print(table)
    for name, hits in found.hits.items():
        console.print(f"greatest attention in a box, {name}: {100 * sum(hits) / len(hits):.1f}")


def save(path: Path, found: Findings, attention: str, photos: int) -> None:
    """Write the shares of the table to a file, with the command; of paths, only the last name."""
    rows = {name: dict(zip(RANKS, shares(judged), strict=True)) for name, judged in found.judged.items()}
    figures = {
        "command": " ".join(["python benchmarks/oracles.py", *(Path(word).name for word in sys.argv[1:])]),
        "attention": attention,
        "photos": photos,
        "phrases": found.phrases,
        "rows": [{"name": name, "recall": recall} for name, recall in rows.items()],
        "pointing": {name: sum(hits) / len(hits) for name, hits in found.hits.items()},
    }
    write_file(path, (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())


def shares(judged: Sequence[Judged]) -> list[float | None]:
    """Recall at 1, 5 and 10, and its bound."""
    recall = recalls(judged, per_type=True)
    return [getattr(recall, name).share for name in RECALLS]


if __name__ == "__main__":
    main()
