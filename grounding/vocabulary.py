"""Which output units of a classifier a word means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from grounding.records import Word

FOLDER = Path(__file__).resolve().parent / "vocabularies"  # of those that come with the package
MOST_UNITS = 1_000_000  # of a table; a larger number is a slip


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and the output units that each means.

    Args:
        units: of each word, each unit once.
        size: how many output units there are.
        nouns: words that count only where they are nouns, so that an orange dress is no fruit.
        counts: how many training photos had a word, where that is known.
    """

    units: dict[str, tuple[int, ...]]
    size: int
    nouns: frozenset[str] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word, units in self.units.items():
            if not units or not all(0 <= unit < self.size for unit in units):
                raise ValueError(f"vocabulary: {word!r} means units {units}, but there are {self.size} units")
            if len(set(units)) < len(units):
                raise ValueError(f"vocabulary: {word!r} means a unit twice: {units}")
        for word in (*self.nouns, *self.counts):
            if word not in self.units:
                raise ValueError(f"vocabulary: {word!r} is a noun or has a count, but means no unit")
        for word, count in self.counts.items():
            if count < 0:
                raise ValueError(f"vocabulary: {word!r} was in {count} photos")

    def __contains__(self, word: str) -> bool:
        return word in self.units

    @cached_property
    def _longest(self) -> int:
        """How many words the longest compound has."""
        return max((word.count(" ") + 1 for word in self.units), default=1)

    def match(self, words: Sequence[Word]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The known words of a phrase, and the others; neighbours that form a known compound are one word.

        Each known word stands once, in the order of the phrase.
        """
        known: list[str] = []
        skipped: list[str] = []
        start = 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                part = words[start : start + length]
                text = " ".join(word.lemma for word in part)
                if text in self.units and (part[-1].is_noun or text not in self.nouns):
                    known.append(text)
                    start += length
                    break
            else:
                skipped.append(words[start].lemma)
                start += 1
        return tuple(dict.fromkeys(known)), tuple(dict.fromkeys(skipped))

    def prior(self, word: str) -> Tensor:
        """P(A0) of a known word: uniform over its units, (units,)."""
        prior = torch.zeros(self.size)
        prior[list(self.units[word])] = 1 / len(self.units[word])
        return prior


def read_vocabulary(name: str | Path) -> Vocabulary:
    """A vocabulary by the name of one in the package, such as ``imagenet``, or by the path of a table.

    A line of the table is a word, a tab, and its units: numbers and ranges, separated by spaces ("151-268 537"); after
    another tab, how many training photos had the word. A line that starts with # is a comment, save that

    - ``# units: 1000`` tells the number of units,
    - ``# nouns``: from there on, words count only where they are nouns,
    - ``# words``: from there on, words count as any part of speech, as they do at the top.

    Raises:
        ValueError: there is no such table, or a line is not of this form.
    """
    path = FOLDER / f"{name}.tsv"
    if isinstance(name, Path) or not path.exists():
        path = Path(name)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"vocabulary {str(name)!r} cannot be read: {error}") from None
    units: dict[str, tuple[int, ...]] = {}
    counts: dict[str, int] = {}
    nouns: set[str] = set()
    size = None
    are_nouns = False
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith("# units:"):
                size = _number(line.removeprefix("# units:"))
            elif line.startswith("#"):
                are_nouns = {"# nouns": True, "# words": False}.get(line.strip(), are_nouns)
            elif line:
                word, runs, *count = line.split("\t")
                meant = tuple(unit for run in runs.split() for unit in _run(run))
                if count:
                    (counts[word],) = map(int, count)
                if word in units:
                    raise ValueError
                units[word] = meant
                if are_nouns:
                    nouns.add(word)
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: expected a new word, a tab and units, got {line[:60]!r}"
            ) from None
    if size is None:
        size = 1 + max((unit for known in units.values() for unit in known), default=-1)
    try:
        return Vocabulary(units, size, frozenset(nouns), counts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _run(text: str) -> range:
    first, _, last = text.partition("-")
    return range(_number(first), _number(last or first) + 1)


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_UNITS:
        raise ValueError
    return number


def format_vocabulary(vocabulary: Vocabulary) -> str:
    """A vocabulary as the table that `read_vocabulary` reads; nouns come last.

    Raises:
        ValueError: a word is empty, begins with # or holds a tab or a line break.
    """
    for word in vocabulary.units:
        if word.splitlines() != [word] or "\t" in word or word.startswith("#"):
            raise ValueError(f"vocabulary: {word!r} cannot stand in a table: empty, or with #, tab or line break")
    of_any_kind = [_line(vocabulary, word) for word in vocabulary.units if word not in vocabulary.nouns]
    nouns = [_line(vocabulary, word) for word in vocabulary.units if word in vocabulary.nouns]
    lines = [f"# units: {vocabulary.size}", *of_any_kind, *(["# nouns", *nouns] if nouns else [])]
    return "".join(f"{line}\n" for line in lines)


def _line(vocabulary: Vocabulary, word: str) -> str:
    columns = [word, as_ranges(vocabulary.units[word])]
    if word in vocabulary.counts:
        columns.append(str(vocabulary.counts[word]))
    return "\t".join(columns)


def as_ranges(units: Iterable[int]) -> str:
    """Numbers as text, runs shortened: [3, 4, 5, 9] is "3-5 9"."""
    runs: list[list[int]] = []
    for unit in sorted(units):
        if runs and runs[-1][1] == unit - 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
