"""Labels of phrases for mAP (Phrase), and whether a parser finds the annotated phrases.

The ICCV'15 evaluator (Plummer et al.) reads both from a list that was distributed with it: the words of a phrase that
are nouns, adjectives, prepositions or numbers above one, and whether the Stanford parser finds a noun phrase of exactly
these words in the caption. The list is not public. spaCy replaces it here, so both are approximations.

Of the 14,481 phrases with boxes of the test split, spaCy (en_core_web_sm 3.8.0) finds 89.0 % (12,881). They have 4,854
labels, 3,526 of which occur once; "man" occurs 1,100 times, "woman" 608 and "boy" 128 times, and 177 phrases have no
word that counts. With the parts of speech in the release of Plummer et al. 2018, these numbers are 4,919, 3,595, 1,093,
597, 139 and 168.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grounding.phrases import english

if TYPE_CHECKING:
    from spacy.tokens import Doc

KEPT = {"NOUN", "PROPN", "ADJ", "ADP"}  # parts of speech that count
UP_TO_ONE = {"0", "zero", "1", "one"}  # cardinal numbers that do not count
WORDLESS = "#none"  # the label of phrases without a word that counts, such as "it"; never a word of a caption


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a phrase, over which mAP (Phrase) averages."""

    text: str  # the words that count, in lower case, separated by spaces; or `WORDLESS`
    is_parsed: bool  # whether the phrase is exactly one of the parser's noun phrases


def read_labels(sentences: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[Label, ...]]:
    """Return the labels of the phrases of each sentence.

    Args:
        sentences: captions whose tokens are separated by spaces.
        spans: for each sentence, the spans of its phrases in characters, end exclusive.

    >>> [[label]] = read_labels(["Two men with one dog are walking ."], [[(0, 7)]])
    >>> label
    Label(text='two men', is_parsed=True)
    """
    from spacy.tokens import Doc

    pipeline = english()
    tokens = [list(re.finditer(r"\S+", sentence)) for sentence in sentences]
    docs = [Doc(pipeline.vocab, words=[token[0] for token in matches]) for matches in tokens]
    return [
        tuple(_label(doc, [token.span() for token in matches], span) for span in phrase_spans)
        for doc, matches, phrase_spans in zip(pipeline.pipe(docs), tokens, spans, strict=True)
    ]


def _label(doc: "Doc", tokens: list[tuple[int, int]], span: tuple[int, int]) -> Label:
    """Return the label of the phrase with this span, given the parsed sentence and the spans of its tokens."""
    words = [doc[index] for index, (start, end) in enumerate(tokens) if start < span[1] and end > span[0]]
    kept = [word.lower_ for word in words if word.pos_ in KEPT or (word.pos_ == "NUM" and word.lower_ not in UP_TO_ONE)]
    chunks = {(tokens[chunk.start][0], tokens[chunk.end - 1][1]) for chunk in doc.noun_chunks}
    return Label(" ".join(kept) or WORDLESS, span in chunks)
