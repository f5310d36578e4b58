"""Measure how useful a classifier's words are for grounding, in three ways, on photos of Flickr30k Entities.

    python benchmarks/words.py PHOTOS ENTITIES [--models NAME_OR_FOLDER ...] [--attention cmwp mwp] [--json FILE]

PHOTOS holds ID.jpg, of any size; ENTITIES holds Annotations and Sentences. A model is an option of ``model=`` or the
folder of a trained classifier. Boxes are used for measuring alone.

Average precision of words: how well a word's probability tells the photos of which one of the five captions says it, at
the size at which the model attends, pooled over the whole photo. Words are lemmas in whole captions; compounds are
lemmas side by side; what the first model knows as a noun alone is said where it is a noun. The list is the same for all
models: the words that the first model knows and that captions of five photos or more say. A word that a model does not
know has the same score in all photos, and so the precision of the frequency prior. A word of several units has the sum
of their softmax; or the greatest of their sigmoids, where the vocabulary counts photos: then its words were tags, many
to a photo.

Coverage: the share of phrases with a known word, of those that people marked and that own a box, each parsed alone, and
of all that our own parser finds in the captions.

Any-box pointing: the share of the phrases with boxes for which the pixel of the greatest attention lies in one of them,
without tolerance: over the phrases with a known word; over all, where the image centre stands in for a phrase without;
and over those of which all models know a word. An empty map points at the first pixel.

About a second a photo for each model and attention, on one core.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from eval.flickr30k import AnnotatedPhoto, find_photos, load_photo
from eval.predicting import attend_phrases
from eval.words import coverage, is_hit, said_words, word_probabilities
from grounding import Grounder
from grounding.files import write_file
from grounding.maps import WordAttention
from grounding.peaks import peak
from grounding.phrases import noun_phrases, whole_phrase
from grounding.records import Word
from train.precision import mean_average_precision

LEAST = 5  # photos whose captions say a word
TOGETHER = 8  # photos in the network at once
SHOWN = 10  # words at either end

Methods = dict[str, dict[str, WordAttention]]  # by model, then by option of attention=


@dataclass(frozen=True, slots=True)
class Pointed:
    """A phrase with boxes, and whether each model and attention points into one of them."""

    photo: str
    text: str
    types: tuple[str, ...]
    by_centre: bool
    hits: dict[str, dict[str, bool | None]]  # by model, then by attention; None where no word is known


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of captions and of their phrases."""

    captions: list[list[tuple[Word, ...]]]  # words of each caption of each photo
    with_boxes: list[tuple[Word, ...]]  # words of each phrase with boxes
    parsed: list[tuple[Word, ...]]  # words of each phrase that our parser finds


def parse(photos: Sequence[AnnotatedPhoto]) -> Texts:
    """The words of all captions and phrases."""
    texts = Texts([], [], [])
    for photo in track(photos, "captions"):
        captions = [sentence.text for sentence in photo.sentences]
        texts.captions.append([whole_phrase(caption).words for caption in captions])
        texts.with_boxes.extend(whole_phrase(phrase.text).words for phrase, _ in photo.phrases_with_boxes())
        texts.parsed.extend(phrase.words for caption in captions for phrase in noun_phrases(caption))
    return texts


def respond(attention: WordAttention, photos: Sequence[AnnotatedPhoto], title: str) -> Tensor:
    """The network's responses to whole photos, (N, units); photos of equal size go through it together."""
    responses: dict[int, Tensor] = {}
    for members, images in batches(attention, photos, title):
        with torch.inference_mode():
            found = attention.classifier.network(images.to(attention.device)).float().cpu()
        responses.update(zip(members, found, strict=True))
    return torch.stack([responses[index] for index in range(len(photos))])


def batches(
    attention: WordAttention, photos: Sequence[AnnotatedPhoto], title: str
) -> Iterator[tuple[list[int], Tensor]]:
    """Photos of equal size as the network takes them, a few at a time, each with its index."""
    waiting: dict[torch.Size, dict[int, Tensor]] = {}
    for index, photo in enumerate(track(photos, title)):
        image = attention.prepare(load_photo(photo))
        group = waiting.setdefault(image.shape, {})
        group[index] = image
        if len(group) == TOGETHER:
            yield list(group), torch.stack(list(group.values()))
            group.clear()
    for group in filter(None, waiting.values()):
        yield list(group), torch.stack(list(group.values()))


def point(methods: Methods, photos: Sequence[AnnotatedPhoto]) -> list[Pointed]:
    """Whether each model and attention points into a box, for each phrase with boxes."""
    found = []
    for photo in track(photos, "pointing"):
        pairs = photo.phrases_with_boxes()
        if not pairs:
            continue
        image, texts = load_photo(photo), [phrase.text for phrase, _ in pairs]
        hits: list[dict[str, dict[str, bool | None]]] = [{model: {} for model in methods} for _ in pairs]
        for model, by_name in methods.items():
            for name, attention in by_name.items():
                maps = attend_phrases(attention, image, texts)
                for (_, boxes), phrase_map, phrase_hits in zip(pairs, maps, hits, strict=True):
                    phrase_hits[model][name] = (
                        None if phrase_map is None else is_hit(peak(phrase_map, photo.size), boxes)
                    )
        centre = (photo.size[0] // 2, photo.size[1] // 2)
        found += [
            Pointed(photo.name, phrase.text, phrase.types, is_hit(centre, boxes), phrase_hits)
            for (phrase, boxes), phrase_hits in zip(pairs, hits, strict=True)
        ]
    return found


def words_summary(
    methods: Methods, photos: Sequence[AnnotatedPhoto], captions: list[list[tuple[Word, ...]]]
) -> dict[str, Any]:
    """Average precision of the first model's words, for all models; no words where captions say none often enough."""
    first = next(iter(next(iter(methods.values())).values()))
    said = [said_words(photo_captions, first.vocabulary) for photo_captions in captions]
    positives = {word: sum(word in photo_words for photo_words in said) for word in sorted(frozenset().union(*said))}
    words = [word for word, count in positives.items() if count >= LEAST]
    summary: dict[str, Any] = {"least": LEAST, "positives": {word: positives[word] for word in words}, "models": {}}
    if not words:
        return summary
    truth = torch.tensor([[word in photo_words for word in words] for photo_words in said])
    summary["prior"] = mean_average_precision(torch.zeros(truth.shape), truth, least=LEAST).mean
    for model, by_name in methods.items():
        attention = next(iter(by_name.values()))
        vocabulary = attention.vocabulary
        responses = respond(attention, photos, f"words of {model}")
        are_exclusive = not vocabulary.counts  # classes; tags come with the number of photos that had them
        scores = word_probabilities(responses, vocabulary, words, are_exclusive=are_exclusive)
        precision = mean_average_precision(scores, truth, least=LEAST)
        summary["models"][model] = {
            "mean": precision.mean,
            "known": sum(word in vocabulary for word in words),
            "probability": "softmax" if are_exclusive else "sigmoid",
            "words": {
                word: value for word, value in zip(words, precision.by_word.tolist(), strict=True) if word in vocabulary
            },
        }
    return summary


def coverage_summary(methods: Methods, texts: Texts) -> dict[str, Any]:
    """The share of phrases with a known word, for all models; None where there is no phrase."""
    summary: dict[str, Any] = {"with_boxes": len(texts.with_boxes), "parsed": len(texts.parsed), "models": {}}
    for model, by_name in methods.items():
        vocabulary = next(iter(by_name.values())).vocabulary
        summary["models"][model] = {
            kind: coverage(phrases, vocabulary) if phrases else None
            for kind, phrases in (("with_boxes", texts.with_boxes), ("parsed", texts.parsed))
        }
    return summary


def pointing_summary(pointed: Sequence[Pointed]) -> dict[str, Any]:
    """Any-box pointing of the image centre, and of each model and attention, over the three sets of phrases."""
    common = [one for one in pointed if all(hit is not None for hits in one.hits.values() for hit in hits.values())]
    summary: dict[str, Any] = {
        "phrases": len(pointed),
        "common": len(common),
        "centre": {"all": share(one.by_centre for one in pointed), "common": share(one.by_centre for one in common)},
        "models": {},
    }
    for model, by_attention in pointed[0].hits.items() if pointed else ():
        known = [one for one in pointed if all(hit is not None for hit in one.hits[model].values())]
        summary["models"][model] = {
            "phrases": len(known),
            "centre": share(one.by_centre for one in known),
            "attention": {
                attention: {
                    "known": share(one.hits[model][attention] for one in known),
                    "all": share(
                        one.by_centre if one.hits[model][attention] is None else one.hits[model][attention]
                        for one in pointed
                    ),
                    "common": share(one.hits[model][attention] for one in common),
                }
                for attention in by_attention
            },
        }
    return summary


def share(hits: Iterator[bool | None]) -> float | None:
    """The share of hits; None without phrases."""
    found = list(hits)
    return sum(map(bool, found)) / len(found) if found else None


def percent(value: float | None) -> str:
    """A share as it is printed."""
    return "–" if value is None else f"{100 * value:.1f}"


def table_of(*heads: str, text: Sequence[int] = (0,)) -> Table:
    """An empty table, with some columns of text among those of numbers."""
    table = Table(box=box.SIMPLE)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index in text else "right")
    return table


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """All three measures as tables, in per cent."""
    photos = f"{len(summary['photos'])} photos"
    print_words(console, summary["words"], photos)
    print_coverage(console, summary["coverage"], photos)
    print_pointing(console, summary["pointing"], photos)


def print_words(console: Console, words: dict[str, Any], photos: str) -> None:
    """Average precision of all models, and the words of the last one that are best and worst."""
    positives = words["positives"]
    console.print(f"Average precision of {len(positives)} words, each said of {LEAST} or more of {photos}")
    if not positives:
        return
    table = table_of("model", "mean AP", "words known", "probability")
    table.add_row("frequency prior", percent(words["prior"]), "", "")
    for model, found in words["models"].items():
        table.add_row(model, percent(found["mean"]), f"{found['known']} of {len(positives)}", found["probability"])
    console.print(table)
    model, found = list(words["models"].items())[-1]
    console.print(f"Best and worst of the {found['known']} words that {model} knows, of {photos}")
    ranked = sorted(found["words"].items(), key=lambda item: -item[1])
    table = table_of("best", "AP", "photos", "worst", "AP", "photos", text=(0, 3))
    for best, worst in zip(ranked[:SHOWN], ranked[::-1][:SHOWN], strict=True):
        table.add_row(*(cell for word, ap in (best, worst) for cell in (word, percent(ap), str(positives[word]))))
    console.print(table)


def print_coverage(console: Console, covered: dict[str, Any], photos: str) -> None:
    """The share of phrases with a known word."""
    console.print(f"Phrases with a known word, {photos}")
    table = table_of("model", f"of {covered['with_boxes']} with boxes", f"of {covered['parsed']} that our parser finds")
    for model, found in covered["models"].items():
        table.add_row(model, percent(found["with_boxes"]), percent(found["parsed"]))
    console.print(table)


def print_pointing(console: Console, pointing: dict[str, Any], photos: str) -> None:
    """Any-box pointing over the three sets of phrases; beside the known ones, what the image centre does there."""
    console.print(f"Any-box pointing, {pointing['phrases']} phrases with boxes, {photos}")
    heads = ("model", "attention", "phrases known", "known", "image centre there", "all, centre if unknown")
    table = table_of(*heads, f"{pointing['common']} known to all", text=(0, 1))
    table.add_row("image centre", "", "", "", "", *(percent(pointing["centre"][each]) for each in ("all", "common")))
    for model, found_by_model in pointing["models"].items():
        for attention, found in found_by_model["attention"].items():
            shares = (found["known"], found_by_model["centre"], found["all"], found["common"])
            table.add_row(model, attention, str(found_by_model["phrases"]), *map(percent, shares))
    console.print(table)


def main() -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", type=Path)
    parser.add_argument("entities", metavar="ENTITIES", type=Path)
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite2_imagenet"], metavar="NAME_OR_FOLDER")
    parser.add_argument("--attention", nargs="+", default=["cmwp", "mwp"], metavar="OPTION", help="of attention=")
    parser.add_argument("--split", metavar="NAME_OR_FILE", help="train, val, test or a list; every photo by default")
    parser.add_argument("--count", type=int, metavar="N", help="stop after so many photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, each phrase's among them")
    arguments = parser.parse_args()
    if arguments.count is not None and arguments.count < 1:
        parser.error(f"--count must be 1 or more, got {arguments.count}")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        parser.error(f"--json: no folder {arguments.json.parent}")

    try:
        photos = find_photos(arguments.photos, arguments.entities, split=arguments.split)[: arguments.count]
        methods = {
            model: {name: Grounder.load(model, f"attention={name}").attention for name in arguments.attention}
            for model in arguments.models
        }
        texts = parse(photos)
        summary: dict[str, Any] = {
            "photos": [photo.name for photo in photos],
            "words": words_summary(methods, photos, texts.captions),
            "coverage": coverage_summary(methods, texts),
        }
        pointed = point(methods, photos)
        summary |= {"pointing": pointing_summary(pointed), "phrases": [asdict(one) for one in pointed]}
        print_summary(Console(width=150), summary)
        if arguments.json:
            write_file(arguments.json, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
