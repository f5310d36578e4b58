"""Derive the graph of kinds of visible things from WordNet: ``python -m train.noun_graph /usr/share/wordnet``.

This writes ``grounding/vocabularies/nouns.tsv.xz``, which the package ships and `grounding.nouns` reads: a line for
each synset, with its lemmas and the distances back to the lines of the synsets that are more general. It needs the
noun files of WordNet 3.0. In the table are the synsets below `ROOTS`, with three exceptions:

- those of `TOO_GENERAL`, through which a word says nothing of where its thing is,
- those below `INVISIBLE`, unless they are drinks,
- single persons: "Mr Smith" is neither Adam nor Bessie Smith, and a Tesla is a car.

A lemma keeps its two most frequent senses, since captions rarely mean another. Senses whose frequency is not known come
last, and among them plants and materials, since these are often named after something else: a raccoon is an animal
before it is a fur. Names, which begin with a capital, count only where nothing else has the lemma: a quiche is a tart,
and not one of the Quiché.
"""

import lzma
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from grounding.nouns import TABLE, Synset, format_nouns
from train.wordnet import Nouns, ancestors, read_nouns

SENSES = 2
# Synsets by a lemma and the number of its sense.
ROOTS = {("physical entity", 1), ("group", 1), ("color", 1)}
TOO_GENERAL = {
    *(("physical entity", 1), ("object", 1), ("whole", 2), ("living thing", 1), ("organism", 1), ("causal agent", 1)),
    *(("artifact", 1), ("instrumentality", 3), ("matter", 3), ("substance", 1), ("substance", 7), ("material", 1)),
    *(("part", 1), ("part", 3), ("thing", 12), ("thing", 8), ("unit", 5), ("group", 1), ("collection", 1)),
    *(("natural object", 1), ("solid", 1), ("commodity", 1), ("creation", 2), ("article", 2), ("location", 1)),
    *(("region", 1), ("region", 3), ("point", 2), ("area", 1), ("line", 11), ("agent", 3), ("body", 1)),
    *(("young", 1), ("color", 1), ("chromatic color", 1), ("achromatic color", 1)),
    ("mixture", 1),
}
INVISIBLE = {("process", 6), ("taxonomic group", 1), ("drug", 1), ("chemical", 1)}
NAMED_AFTER = {"plant", "substance"}  # of WordNet's files
DRINKS = {("beverage", 1)}  # of which WordNet files many under drugs


def derive_graph(nouns: Nouns) -> list[Synset]:
    """The synsets of visible things, each after all that are more general, by the rules of this module."""
    above = {synset: {synset, *ancestors(synset, nouns)} for synset in nouns.lemmas}
    groups = (ROOTS, TOO_GENERAL, INVISIBLE, DRINKS)
    roots, general, invisible, drinks = (_synsets(nouns, names) for names in groups)
    kept = {
        synset
        for synset, its_above in above.items()
        if its_above & roots
        and (its_above & drinks or not its_above & invisible)
        and synset not in general
        and nouns.hypernyms[synset]
        and not (synset in nouns.individuals and nouns.files[synset] == "person")
    }
    hypernyms = {synset: [each for each in nouns.hypernyms[synset] if each in kept] for synset in sorted(kept)}
    return _in_order(nouns, hypernyms)


def _in_order(nouns: Nouns, hypernyms: Mapping[str, list[str]]) -> list[Synset]:
    order = list(TopologicalSorter(hypernyms).static_order())
    places = {synset: place for place, synset in enumerate(order)}
    numbers = {lemma: _sense_numbers(lemma, nouns) for lemma in nouns.senses}
    return [
        Synset(
            lemmas=tuple(
                (lemma.lower(), numbers[lemma.lower()][synset])
                for lemma in nouns.lemmas[synset]
                if synset in numbers[lemma.lower()]
            ),
            hypernyms=tuple(places[each] for each in hypernyms[synset]),
        )
        for synset in order
    ]


def _sense_numbers(lemma: str, nouns: Nouns) -> dict[str, int]:
    """The synsets of a lemma's most frequent senses, with their numbers from 1."""
    senses = nouns.senses[lemma]
    common = [synset for synset in senses if lemma in nouns.lemmas[synset]] or list(senses)

    def rarity(synset: str) -> tuple[int, bool]:
        return min(senses.index(synset), nouns.counted[lemma]), nouns.files[synset] in NAMED_AFTER

    return {synset: number for number, synset in enumerate(sorted(common, key=rarity)[:SENSES], 1)}


def _synsets(nouns: Nouns, names: set[tuple[str, int]]) -> set[str]:
    return {nouns.senses[lemma][number - 1] for lemma, number in names}


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m train.noun_graph FOLDER_OF_WORDNET_3.0, such as /usr/share/wordnet")
    synsets = derive_graph(read_nouns(Path(sys.argv[1])))
    TABLE.write_bytes(lzma.compress(format_nouns(synsets).encode(), preset=9))
    print(f"{len(synsets)} synsets in {TABLE}, {TABLE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
