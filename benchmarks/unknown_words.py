"""Words that a model does not know: how well each level of understanding finds their phrases on Flickr30k Entities.

    python -m proposals data=flickr30k data.path=PHOTOS data.entities=ENTITIES output=mcg.h5
    python benchmarks/unknown_words.py PHOTOS ENTITIES mcg.h5 --attention cmwp --json unknown_words.json

Two questions, on phrases that own a box:

1. The words that the default model really does not know: the share of phrases without a known word at each level, and
   recall on the phrases that have none at the level ``exact``.
2. Words that are hidden on purpose: every fifth of the nouns that these phrases contain and the model knows, in
   alphabetical order, with all other words of the same output units. Of the phrases with a hidden word: recall and
   any-box pointing where the words are known, where they are hidden, and where they are hidden and understood.

R@k is by the preset zhang18, pointing is that of the greatest attention in any box (the photo's centre without
attention), γ is the attention's own. The levels with ``embeddings`` are shown for several least similarities.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.flickr30k import AnnotatedPhoto, find_photos, instances, load_photo
from eval.judging import judge
from eval.predicting import instance_words
from eval.protocols import BoxProtocol
from eval.records import Prediction
from eval.words import is_hit
from grounding import Grounder
from grounding.files import write_file
from grounding.inputs import propose_regions
from grounding.maps import PhraseWords, phrase_map
from grounding.peaks import peak
from grounding.phrases import whole_phrase
from grounding.scoring import rank_regions
from grounding.understanding import Understanding
from grounding.vocabulary import Vocabulary

RULES = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=False, per_type=True, small=0.25)
NTH = 5
SIMILARITIES = (0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a phrase in one setting."""

    is_known: bool
    rank: int | None  # of the first correct box
    hits: bool  # whether the point lies in a box


def hide(vocabulary: Vocabulary, photos: Sequence[AnnotatedPhoto]) -> tuple[Vocabulary, list[str]]:
    """The vocabulary without every fifth noun of the photos' phrases, and the hidden words."""
    said: set[str] = set()
    for photo in photos:
        for phrase, _ in photo.phrases_with_boxes():
            parts = vocabulary.divide(whole_phrase(phrase.text).words)
            said |= {text for part, text in parts if text is not None and part[-1].is_noun}
    units = {vocabulary.units[word] for word in sorted(said)[::NTH]}
    kept = {word: its_units for word, its_units in vocabulary.units.items() if its_units not in units}
    hidden = [word for word in vocabulary.units if word not in kept]
    counts = {word: count for word, count in vocabulary.counts.items() if word in kept}
    return Vocabulary(kept, vocabulary.size, vocabulary.nouns & kept.keys(), counts), hidden


def settings_of(full: Vocabulary, hidden: Vocabulary, levels: Sequence[str]) -> dict[str, Understanding]:
    """The ways to understand words that are compared, by name."""
    found = {}
    for name, vocabulary in (("full", full), ("hidden", hidden)):
        for level in levels:
            for least in SIMILARITIES if level == "embeddings" else (None,):
                keywords = {} if least is None else {"least_similarity": least}
                title = f"{name} {level}" if least is None else f"{name} {level} {least}"
                found[title] = Understanding(vocabulary, level, **keywords)
    return found


def measure(
    grounder: Grounder, photo: AnnotatedPhoto, settings: Mapping[str, Understanding]
) -> list[dict[str, Outcome]]:
    """The outcome of each phrase of a photo in each setting; phrases of equal words are ranked once."""
    image, found = load_photo(photo), instances(photo)
    words: dict[str, list[PhraseWords]] = {}
    for name, understanding in settings.items():
        grounder.understanding = understanding
        words[name] = instance_words(photo, found, grounder)
    distinct = list(dict.fromkeys(each for in_setting in words.values() for each in in_setting))
    attention, scoring = grounder.attention, grounder.scoring
    (maps,) = attention([attention.prepare(image)], [[word for each in distinct for word in each.attended]])
    proposals = propose_regions(image, grounder.propose)
    predictions = {}
    for each in distinct:
        heat = phrase_map(maps.maps, each, clothing_weight=scoring.clothing_weight)
        exponents = [scoring.area_exponents.for_phrase(each.kind, proposals)]
        (ranking,) = rank_regions(heat, proposals, photo.size, area_exponents=exponents, overlap=scoring.overlap)
        centre = (photo.size[0] / 2, photo.size[1] / 2)
        point = centre if heat is None or not heat.any() else peak(heat, photo.size)
        predictions[each] = (Prediction(ranking.regions), point)
    outcomes = []
    for index, instance in enumerate(found):
        outcomes.append({})
        for name, in_setting in words.items():
            prediction, point = predictions[in_setting[index]]
            outcomes[-1][name] = Outcome(
                bool(in_setting[index].known),
                judge(instance, prediction, RULES).rank,
                is_hit(point, instance.boxes),
            )
    return outcomes


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Shares of phrases: without a known word, with a correct box among the first k, and with a point in a box."""
    count = len(outcomes)
    return {
        "phrases": count,
        "without a known word": sum(not one.is_known for one in outcomes) / count,
        **{f"R@{k}": sum(one.rank is not None and one.rank <= k for one in outcomes) / count for k in (1, 5, 10)},
        "pointing": sum(one.hits for one in outcomes) / count,
    }


def summarise_all(found: Sequence[Mapping[str, Outcome]], marked: Sequence[bool]) -> dict[str, dict[str, Any]]:
    """The three tables: all phrases, those without a known word, and those with a hidden word."""
    tables: dict[str, dict[str, Any]] = {"all phrases": {}, "no word known": {}, "a word hidden": {}}
    for name in found[0] if found else ():
        if name.startswith("full"):
            tables["all phrases"][name] = summarise([each[name] for each in found])
            unknown = [each[name] for each in found if not each["full exact"].is_known]
            if unknown:
                tables["no word known"][name] = summarise(unknown)
        if name.startswith("hidden") or name == "full exact":
            with_hidden = [each[name] for each, is_marked in zip(found, marked, strict=True) if is_marked]
            if with_hidden:
                tables["a word hidden"][name] = summarise(with_hidden)
    return tables


def print_tables(console: Console, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the summaries, in per cent."""
    for title, rows in tables.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for column in ("words", *next(iter(rows.values()), {})):
            table.add_column(column, justify="left" if column == "words" else "right")
        for name, row in rows.items():
            table.add_row(
                name, *(f"{value:,}" if type(value) is int else f"{100 * value:.1f}" for value in row.values())
            )
        console.print(table)


def main() -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", type=Path)
    parser.add_argument("entities", metavar="ENTITIES", type=Path)
    parser.add_argument("proposals", metavar="FILE.h5", type=Path)
    parser.add_argument("--attention", default="best", metavar="OPTION", help="of attention=")
    parser.add_argument("--levels", nargs="+", default=["exact", "spelling", "wordnet"], metavar="LEVEL")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each Nth photo alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables and the hidden words")
    arguments = parser.parse_args()
    try:
        photos = find_photos(arguments.photos, arguments.entities)[:: arguments.every]
        grounder = Grounder.load(
            None, f"attention={arguments.attention}", "proposals=stored", f"proposals.path={arguments.proposals}"
        )
        full = grounder.attention.vocabulary
        reduced, hidden = hide(full, photos)
        settings = settings_of(full, reduced, arguments.levels)
        found, marked = [], []
        for photo in track(photos, "photos"):
            found += measure(grounder, photo, settings)
            marked += [bool(set(full.match(whole_phrase(one.text).words)[0]) & set(hidden)) for one in instances(photo)]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    tables = summarise_all(found, marked)
    console = Console(width=120)
    console.print(f"{len(photos)} photos, {arguments.attention}; {len(hidden)} words hidden")
    print_tables(console, tables)
    if arguments.json:
        write_file(arguments.json, json.dumps({"hidden": hidden, "tables": tables}, indent=1).encode())


if __name__ == "__main__":
    main()
