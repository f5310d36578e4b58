"""The words that a tag classifier learns: the most frequent tags, with spellings and forms of one word merged."""

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
    """The words of the output units, and the tags that mean them."""

    words: tuple[str, ...]  # output unit k means words[k]; most frequent first
    counts: tuple[int, ...]  # number of photos with each word
    forms: dict[str, str]  # from a tag, as written or as normalised, to its word
    sources: tuple[str, ...] = ("",)  # the sources of the photos' tags

    @cached_property
    def _unit(self) -> dict[str, int]:
        return {word: unit for unit, word in enumerate(self.words)}

    def source_index(self, source: str) -> int:
        """The number of a source; the number of sources for an unknown one."""
        return self.sources.index(source) if source in self.sources else len(self.sources)

    def units_of(self, tags: Iterable[str]) -> list[int]:
        """The units of a photo's tags in their order, without repetition; unknown tags are skipped."""
        words = (self.forms.get(tag) or self.forms.get(normalise(tag)) for tag in tags)
        return list(dict.fromkeys(self._unit[word] for word in words if word))

    def units_of_phrases(self, phrases: Iterable[Iterable[str]]) -> list[tuple[int, ...]]:
        """The units of each phrase's words, without repetition; phrases without a known word are skipped."""
        return list(dict.fromkeys(tuple(units) for phrase in phrases if (units := self.units_of(phrase))))


def build_vocabulary(tag_lists: Iterable[Sequence[str]], *, size: int, least: int, lemmatise: bool) -> TagVocabulary:
    """Choose the most frequent words of photos' tags.

    Args:
        tag_lists: the tags of each photo, as written; iterated over once.
        size: highest number of words; equally frequent ones are taken in alphabetical order.
        least: lowest number of photos with a word.
        lemmatise: whether forms of one word ("Men", "man") are merged, as when a phrase is grounded; otherwise only
            spellings are ("T_shirt ", "t shirt").

    Raises:
        ValueError: a setting is out of range, or fewer than two words remain.

    >>> photos = [["Dog", "grass"], ["dog "], ["cat", "grass"]]
    >>> build_vocabulary(photos, size=2, least=1, lemmatise=False).words
    ('dog', 'grass')
    """
    check_limits("vocabulary", size=(size, 2, 10_000_000), least=(least, 1, 1_000_000_000))
    number: dict[str, int] = {}  # of each different tag, so that millions of photos take a few bytes a tag
    numbers, lengths = array("I"), array("I")
    for tags in tag_lists:
        numbers.extend(number.setdefault(tag, len(number)) for tag in tags)
        lengths.append(len(tags))
    spelling = {tag: normalise(tag) for tag in number}
    different = {text: text for text in spelling.values() if text}
    word_of = lemmatise_tags(different) if lemmatise else different
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
    """The number of photos with each tag."""
    return Counter(tag for tags in tag_lists for tag in dict.fromkeys(tags))


def normalise(tag: str) -> str:
    """A tag in lower case, with single spaces for white space and underscores, and without punctuation around it.

    >>> normalise(' "Ice_Cream" ')
    'ice cream'
    """
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


def lemmatise_tags(tags: Iterable[str]) -> dict[str, str]:
    """Lemmatise each different tag: its words, joined by spaces, in the form in which phrases are matched.

    "ice creams" becomes "ice cream" and "men" becomes "man"; a tag that can be a noun is read as one. Function words
    are left out ("statue of liberty" becomes "statue liberty"), as phrases are matched without them, unless the tag
    ends in one.

    Args:
        tags: normalised ones.
    """
    from grounding.phrases import english

    different = list(dict.fromkeys(tags))
    # Without an article, spaCy takes "building" and "leaves" for verbs.
    docs = english().pipe((f"the {tag}" for tag in different), batch_size=1024, disable=["parser"])
    return {tag: _lemmas(doc[1:]) or tag for tag, doc in zip(different, docs, strict=True)}


def _lemmas(tag: "Span") -> str:
    from grounding.phrases import WORDLESS

    tokens = [token for token in tag if any(character.isalnum() for character in token.text)]
    if tokens and tokens[-1].pos_ not in WORDLESS:
        tokens = [token for token in tokens if token.pos_ not in WORDLESS]
    return " ".join(token.lemma_.lower() for token in tokens)
