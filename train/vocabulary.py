"""The words that a tag classifier learns: the most frequent tags, different spellings and forms of one word merged."""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from grounding.limits import check_limits
from grounding.messages import printable

if TYPE_CHECKING:
    from spacy.tokens import Span


@dataclass(frozen=True)
class TagVocabulary:
    """Words, and how tags are written that mean them."""

    words: tuple[str, ...]  # output unit k means words[k]; most frequent first
    counts: tuple[int, ...]  # photos that each word is a tag of
    forms: dict[str, str]  # a tag, as written and as normalised: its word
    sources: tuple[str, ...] = ("",)  # who tagged the photos

    @cached_property
    def _unit(self) -> dict[str, int]:
        return {word: unit for unit, word in enumerate(self.words)}

    def source_of(self, source: str) -> int:
        """The number of a source; one more than the last for others."""
        return self.sources.index(source) if source in self.sources else len(self.sources)

    def units_of(self, tags: Iterable[str]) -> list[int]:
        """The units of a photo's tags, in their order, each once; unknown tags have none."""
        words = (self.forms.get(tag) or self.forms.get(normalise(tag)) for tag in tags)
        return list(dict.fromkeys(self._unit[word] for word in words if word))


def build_vocabulary(tag_lists: Iterable[Sequence[str]], *, size: int, least: int, lemmatise: bool) -> TagVocabulary:
    """The most frequent words of photos' tags.

    Args:
        tag_lists: the tags of each photo, as written; gone over once.
        size: words at most; of equally frequent ones the first by alphabet.
        least: photos at least that a word is a tag of.
        lemmatise: whether forms of one word ("Men", "man") are merged as when a phrase is grounded; otherwise only
            spellings are ("T_shirt ", "t shirt").

    Raises:
        ValueError: a setting is out of range, or fewer than two words are left.
    """
    check_limits("vocabulary", size=(size, 2, 10_000_000), least=(least, 1, 1_000_000_000))
    number: dict[str, int] = {}  # of each different tag; millions of photos take a few bytes a tag
    numbers, lengths = array("I"), array("I")
    for tags in tag_lists:
        numbers.extend(number.setdefault(tag, len(number)) for tag in tags)
        lengths.append(len(tags))
    spelling = {tag: normalise(tag) for tag in number}
    different = {text: text for text in spelling.values() if text}
    word_of = lemmas_of(different) if lemmatise else different
    words = [word_of.get(text, "") for text in spelling.values()]

    def merged() -> Iterator[list[str]]:
        start = 0
        for length in lengths:
            yield [words[k] for k in numbers[start : start + length]]
            start += length

    counts = count_tags(merged())
    del counts[""]
    frequent = sorted((-count, word) for word, count in counts.items() if count >= least)[:size]
    if not frequent:
        raise ValueError(f"vocabulary: no tag has {least} photos or more, the {len(lengths)} photos teach no word")
    if len(frequent) == 1:
        raise ValueError(f"vocabulary: only {frequent[0][1]!r} has {least} photos or more: nothing to tell it from")
    kept = {word for _, word in frequent}
    forms = {word: word for word in kept}
    forms |= {text: word for text, word in word_of.items() if word in kept}
    forms |= {tag: word_of[text] for tag, text in spelling.items() if word_of.get(text) in kept}
    return TagVocabulary(tuple(word for _, word in frequent), tuple(-count for count, _ in frequent), forms)


def count_tags(tag_lists: Iterable[Sequence[str]]) -> Counter[str]:
    """In how many photos each tag occurs."""
    return Counter(tag for tags in tag_lists for tag in dict.fromkeys(tags))


def normalise(tag: str) -> str:
    """A tag in lower case, with single spaces for blanks and underscores, and without punctuation around it."""
    text = unicodedata.normalize("NFKC", printable(tag)).lower()
    text = " ".join(re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", text)).split())
    start, end = 0, len(text)
    while start < end and _is_around(text[start]):
        start += 1
    while start < end and _is_around(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_around(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def lemmas_of(tags: Iterable[str]) -> dict[str, str]:
    """For each different tag the words that a phrase has where it says the same, joined by spaces.

    "ice creams" is "ice cream" and "men" is "man"; where a tag can be a noun it is read as one. Small words are left
    out ("statue of liberty" is "statue liberty"), as phrases are matched without them, unless the tag ends in one.

    Args:
        tags: normalised.
    """
    from grounding.phrases import english

    different = list(dict.fromkeys(tags))
    # Alone, "building" would be a verb and "leaves" what somebody does.
    docs = english().pipe((f"the {tag}" for tag in different), batch_size=1024, disable=["parser"])
    return {tag: _lemmas(doc[1:]) or tag for tag, doc in zip(different, docs, strict=True)}


def _lemmas(tag: "Span") -> str:
    from grounding.phrases import WORDLESS

    tokens = [token for token in tag if any(character.isalnum() for character in token.text)]
    if tokens and tokens[-1].pos_ not in WORDLESS:
        tokens = [token for token in tokens if token.pos_ not in WORDLESS]
    return " ".join(token.lemma_.lower() for token in tokens)
