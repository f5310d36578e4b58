"""Derive the graph of kinds of visible things from WordNet: ``python -m train.noun_graph /usr/share/wordnet``.

This writes ``grounding/vocabularies/nouns.tsv.xz``, which the package ships and `grounding.nouns` reads: a line for
each synset, with its lemmas and the distances back to the lines of the synsets that are more general. It needs the
noun files of WordNet 3.0. In the table are the synsets below `ROOTS`, with two exceptions:

- those of `TOO_GENERAL`, through which a word says nothing of where its thing is,
- those below `INVISIBLE`.

A lemma keeps the senses that are among its two most frequent ones, since captions rarely mean another. Names, which
begin with a capital, come after them, as sense 3: a quiche is a tart before it is one of the Quiché.
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
}
INVISIBLE = {("process", 6), ("taxonomic group", 1), ("drug", 1), ("chemical", 1)}


def derive_graph(nouns: Nouns) -> list[Synset]:
    """The synsets of visible things, each after all that are more general, by the rules of this module."""
    above = {synset: {synset, *ancestors(synset, nouns)} for synset in nouns.lemmas}
    roots, general, invisible = (_synsets(nouns, names) for names in (ROOTS, TOO_GENERAL, INVISIBLE))
    kept = {
        synset
        for synset, its_above in above.items()
        if its_above & roots and not its_above & invisible and synset not in general and nouns.hypernyms[synset]
    }
    hypernyms = {synset: [each for each in nouns.hypernyms[synset] if each in kept] for synset in sorted(kept)}
    return _in_order(nouns, hypernyms)


def _in_order(nouns: Nouns, hypernyms: Mapping[str, list[str]]) -> list[Synset]:
    order = list(TopologicalSorter(hypernyms).static_order())
    places = {synset: place for place, synset in enumerate(order)}
    return [
        Synset(
            lemmas=tuple(
                (lemma.lower(), nouns.senses[lemma.lower()].index(synset) + 1 if lemma.islower() else SENSES + 1)
                for lemma in nouns.lemmas[synset]
                if synset in nouns.senses[lemma.lower()][:SENSES]
            ),
            hypernyms=tuple(places[each] for each in hypernyms[synset]),
        )
        for synset in order
    ]


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
