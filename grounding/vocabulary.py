"""Vocabularies: the words that a classifier knows, and the output units that each word means."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from grounding.records import Word

FOLDER = Path(__file__).resolve().parent / "vocabularies"  # vocabularies that come with the package
MOST_UNITS = 1_000_000  # a larger number in a table is a mistake


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and the output units that each of them means.

    Args:
        units: the output units of each word, without repetition.
        size: the number of output units of the classifier.
        nouns: words that are known only where they are nouns, so that an orange dress is no fruit.
        counts: the number of training photos with each word, where it is known.

    Raises:
        ValueError: a word means no unit, a unit twice or one that does not exist, or it has a negative count.
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
                raise ValueError(f"vocabulary: {word!r} has the count {count}, which is negative")

    def __contains__(self, word: str) -> bool:
        return word in self.units

    @cached_property
    def _longest(self) -> int:
        """Number of words in the longest compound."""
        return max((word.count(" ") + 1 for word in self.units), default=1)

    def divide(self, words: Sequence[Word]) -> Iterator[tuple[Sequence[Word], str | None]]:
        """Divide the words of a phrase into known words, each with its text, and unknown ones, each with None.

        Neighbours that form a known compound are one part, the longest that there is.
        """
        start = 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                part = words[start : start + length]
                text = " ".join(word.lemma for word in part)
                if text in self.units and (part[-1].is_noun or text not in self.nouns):
                    yield part, text
                    break
            else:
                part = words[start : start + 1]
                yield part, None
            start += len(part)

    def match(self, words: Sequence[Word]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The known and the unknown words of a phrase, each once, in the order of the phrase.

        >>> vocabulary = Vocabulary({"fire truck": (0,), "red": (1,)}, size=2)
        >>> vocabulary.match([Word("big", False), Word("red", False), Word("fire", True), Word("truck", True)])
        (('red', 'fire truck'), ('big',))
        """
        parts = list(self.divide(words))
        known = dict.fromkeys(text for _, text in parts if text is not None)
        return tuple(known), tuple(dict.fromkeys(part[0].lemma for part, text in parts if text is None))

    def prior(self, word: str) -> Tensor:
        """The prior distribution P(A0) of a known word, uniform over its units; (size,) float32, with sum 1.

        >>> Vocabulary({"dog": (0, 3)}, size=4).prior("dog")
        tensor([0.5000, 0.0000, 0.0000, 0.5000])
        """
        prior = torch.zeros(self.size)
        prior[list(self.units[word])] = 1 / len(self.units[word])
        return prior


def read_vocabulary(name: str | Path) -> Vocabulary:
    """Read a vocabulary: by name one that comes with the package, such as ``imagenet``, or by path a table.

    A line of the table consists of a word, a tab, and its units as numbers and ranges separated by spaces
    (``151-268 537``). After another tab, the number of training photos with the word may follow. Lines that start with
    # are comments, with three exceptions:

    - ``# units: 1000`` states the number of units,
    - ``# nouns`` makes the words below it known only where they are nouns,
    - ``# words`` makes the words below it known as any part of speech, as they are at the top.

    Raises:
        ValueError: there is no such table, or a line is malformed.
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
    in_nouns = False
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith("# units:"):
                size = _number(line.removeprefix("# units:"))
            elif line.startswith("#"):
                in_nouns = {"# nouns": True, "# words": False}.get(line.strip(), in_nouns)
            elif line:
                word, ranges, *count = line.split("\t")
                if word in units or len(count) > 1:
                    raise ValueError
                units[word] = tuple(unit for text in ranges.split() for unit in _range(text))
                if count:
                    counts[word] = int(count[0])
                if in_nouns:
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


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(_number(first), _number(last or first) + 1)


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_UNITS:
        raise ValueError
    return number


def format_vocabulary(vocabulary: Vocabulary) -> str:
    r"""Write a vocabulary as a table for `read_vocabulary`, nouns last.

    Raises:
        ValueError: a word is empty, begins with #, or contains a tab or a line break.

    >>> format_vocabulary(Vocabulary({"dog": (0, 1, 2), "red": (3,)}, size=4, nouns=frozenset({"dog"})))
    '# units: 4\nred\t3\n# nouns\ndog\t0-2\n'
    """
    for word in vocabulary.units:
        if word.splitlines() != [word] or "\t" in word or word.startswith("#"):
            raise ValueError(
                f"vocabulary: {word!r} cannot be written to a table: words are not empty, start with no #, "
                "and contain no tab or line break"
            )
    lines = [f"# units: {vocabulary.size}"]
    lines += [_line(vocabulary, word) for word in vocabulary.units if word not in vocabulary.nouns]
    if vocabulary.nouns:
        lines.append("# nouns")
        lines += [_line(vocabulary, word) for word in vocabulary.units if word in vocabulary.nouns]
    return "".join(f"{line}\n" for line in lines)


def _line(vocabulary: Vocabulary, word: str) -> str:
    columns = [word, as_ranges(vocabulary.units[word])]
    if word in vocabulary.counts:
        columns.append(str(vocabulary.counts[word]))
    return "\t".join(columns)


def as_ranges(units: Iterable[int]) -> str:
    """Write numbers as text, in ascending order, with consecutive ones as ranges.

    >>> as_ranges([9, 3, 4, 5])
    '3-5 9'
    """
    ranges: list[list[int]] = []
    for unit in sorted(units):
        if ranges and ranges[-1][1] == unit - 1:
            ranges[-1][1] = unit
        else:
            ranges.append([unit, unit])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
