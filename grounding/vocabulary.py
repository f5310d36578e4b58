"""Which output units of a classifier a word means."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from grounding.records import Word

FOLDER = Path(__file__).resolve().parent / "vocabularies"  # of those that come with the package


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and the output units that each means."""

    units: dict[str, tuple[int, ...]]
    size: int  # how many output units there are
    has_only_nouns: bool = False  # then an orange dress is no fruit

    def __post_init__(self) -> None:
        for word, units in self.units.items():
            if not units or not all(0 <= unit < self.size for unit in units):
                raise ValueError(f"vocabulary: {word!r} means units {units}, but there are {self.size} units")

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
                if text in self.units and (part[-1].is_noun or not self.has_only_nouns):
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


def read_vocabulary(name: str) -> Vocabulary:
    """A vocabulary by the name of one in the package, such as ``imagenet``, or by the path of a table.

    A line of the table is a word, a tab, and its units: numbers and ranges, separated by spaces ("151-268 537"). One
    that starts with # is a comment; ``# units: 1000`` tells the number of units, ``# nouns`` that all words are nouns.

    Raises:
        ValueError: there is no such table, or a line is not of this form.
    """
    path = FOLDER / f"{name}.tsv"
    if not path.exists():
        path = Path(name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"vocabulary {name!r} cannot be read: {error}") from None
    units: dict[str, tuple[int, ...]] = {}
    size = None
    has_only_nouns = False
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith("# units:"):
                size = int(line.removeprefix("# units:"))
            elif line.startswith("#"):
                has_only_nouns |= line.strip() == "# nouns"
            elif line:
                word, numbers = line.split("\t")
                units[word] = tuple(unit for run in numbers.split() for unit in _run(run))
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected a word, a tab and units, got {line[:60]!r}") from None
    if size is None:
        size = 1 + max((unit for known in units.values() for unit in known), default=-1)
    return Vocabulary(units, size, has_only_nouns)


def _run(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
