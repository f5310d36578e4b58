"""The graph of kinds of visible things, and the known words that are nearest to a noun in it.

An astronaut is a traveller, and a traveller is a person: where a model knows no "astronaut", its word "person" says
where to look. The graph is that of WordNet, less what is too general to say where a thing is: a word of which nothing
is known but that it is an object stays unknown.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from grounding.vocabulary import FOLDER, Vocabulary

TABLE = FOLDER / "nouns.tsv.xz"  # derived from WordNet by python -m train.noun_graph
HEAD = """\
# Synsets of visible things: lemmas with the number of their sense, and distances back to the more general synsets.
# Derived from WordNet 3.0 by python -m train.noun_graph.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Terms: LICENSE.wordnet.
"""
MOST_STEPS = 8  # from a noun up to a known word
MOST_WORDS = 3  # that a noun is understood as


@dataclass(frozen=True, slots=True)
class Synset:
    """Nouns of one meaning."""

    lemmas: tuple[tuple[str, int], ...]  # with the number of the lemma's sense, from 1, the most frequent
    hypernyms: tuple[int, ...]  # places of the more general synsets, all smaller than its own


@dataclass(frozen=True, eq=False)
class NounGraph:
    """Synsets in an order in which the more general ones come first."""

    synsets: Sequence[Synset]
    senses: dict[str, tuple[int, ...]]  # places of a lemma's synsets, the most frequent sense first

    def nearest(self, noun: str, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The known words that are nearest to a noun: synonyms, or else those of the next more general synsets.

        The most frequent sense that leads to a known word decides. Several words are equally near.

        Args:
            noun: a lemma in lower case; compounds have spaces.
            vocabulary: the words that a model knows.

        Returns:
            At most three words; none where the graph lacks the noun, or leads to no known word.
        """
        for sense in self.senses.get(noun, ()):
            level = [sense]
            for _ in range(MOST_STEPS + 1):
                found = [word for place in level for word in self._known(place, noun, vocabulary)]
                if found:
                    return tuple(dict.fromkeys(found))[:MOST_WORDS]
                level = list(dict.fromkeys(above for place in level for above in self.synsets[place].hypernyms))
        return ()

    def _known(self, place: int, noun: str, vocabulary: Vocabulary) -> list[str]:
        """The known lemma of a synset that most training photos have; none where no lemma is known.

        A lemma counts where the synset is its most frequent visible sense: "set" is rarely said of singers.
        """
        known = [
            lemma
            for lemma, _ in self.synsets[place].lemmas
            if lemma in vocabulary and lemma != noun and self.senses[lemma][0] == place
        ]
        return sorted(known, key=lambda lemma: -vocabulary.counts.get(lemma, 0))[:1]


def format_nouns(synsets: Sequence[Synset]) -> str:
    r"""Write synsets as a table.

    >>> format_nouns([Synset((("dog", 1),), ()), Synset((("pug", 1), ("pug dog", 1)), (0,))]).splitlines()[-2:]
    ['dog 1\t', 'pug 1,pug dog 1\t1']
    """
    lines = [
        ",".join(f"{lemma} {number}" for lemma, number in synset.lemmas)
        + "\t"
        + " ".join(str(place - above) for above in synset.hypernyms)
        for place, synset in enumerate(synsets)
    ]
    return HEAD + "".join(f"{line}\n" for line in lines)


def parse_nouns(text: str) -> NounGraph:
    """Read the table that `format_nouns` wrote."""
    synsets: list[Synset] = []
    numbered: dict[str, list[tuple[int, int]]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        place = len(synsets)
        names, _, distances = line.partition("\t")
        lemmas = []
        for name in names.split(",") if names else ():
            lemma, _, number = name.rpartition(" ")
            lemmas.append((lemma, int(number)))
            numbered.setdefault(lemma, []).append((int(number), place))
        synsets.append(Synset(tuple(lemmas), tuple(place - int(distance) for distance in distances.split())))
    return NounGraph(synsets, {lemma: tuple(place for _, place in sorted(found)) for lemma, found in numbered.items()})


@cache
def noun_graph() -> NounGraph:
    """The graph that the package ships, read once."""
    return parse_nouns(lzma.decompress(TABLE.read_bytes()).decode())
