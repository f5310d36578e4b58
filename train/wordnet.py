"""WordNet 3.0's nouns, from its files ``index.noun`` and ``data.noun`` (Debian's package ``wordnet-base``)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The files in which lexicographers filed nouns, in the order of their numbers, which start at 3 (WordNet's lexnames).
FILES = (
    *("tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process"),
    *("quantity", "relation", "shape", "state", "substance", "time"),
)


@dataclass(frozen=True)
class Nouns:
    """WordNet's nouns; a synset's name is its offset, eight digits."""

    senses: dict[str, tuple[str, ...]]  # lemma, in lower case -> synsets, the most frequent sense first
    counted: dict[str, int]  # lemma -> number of its first senses whose frequency is known; others are in any order
    lemmas: dict[str, tuple[str, ...]]  # synset -> lemmas; names begin with a capital
    hypernyms: dict[str, tuple[str, ...]]  # synset -> the more general synsets
    files: dict[str, str]  # synset -> one of FILES
    individuals: frozenset[str] = frozenset()  # synsets of one person, one place or one thing


def read_nouns(folder: Path) -> Nouns:
    """Read WordNet 3.0's noun files.

    Raises:
        OSError: a file is missing.
    """
    senses = {}
    counted = {}
    for fields in _lines(folder / "index.noun"):
        lemma, synsets = fields[0], int(fields[2])
        senses[_plain(lemma).lower()] = tuple(fields[-synsets:])
        counted[_plain(lemma).lower()] = int(fields[-synsets - 1])
    lemmas = {}
    hypernyms = {}
    files = {}
    individuals = set()
    for fields in _lines(folder / "data.noun"):
        count = int(fields[3], 16)
        files[fields[0]] = FILES[int(fields[1]) - 3]
        lemmas[fields[0]] = tuple(_plain(word) for word in fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count : 5 + 2 * count + 4 * int(fields[4 + 2 * count])]
        kinds = zip(pointers[::4], pointers[1::4], strict=True)
        hypernyms[fields[0]] = tuple(synset for kind, synset in kinds if kind in ("@", "@i"))
        if "@i" in pointers[::4]:
            individuals.add(fields[0])
    return Nouns(senses, counted, lemmas, hypernyms, files, frozenset(individuals))


def ancestors(synset: str, nouns: Nouns) -> Iterator[str]:
    """All synsets that are more general than one, the nearest first; one may come twice."""
    for hypernym in nouns.hypernyms[synset]:
        yield hypernym
        yield from ancestors(hypernym, nouns)


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):  # the licence
            yield line.split(" | ")[0].split()


def _plain(lemma: str) -> str:
    return lemma.replace("_", " ")
