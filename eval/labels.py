"""Labels of phrases for mAP (Phrase), and whether a parser finds the phrases that people marked.

The ICCV'15 evaluator (Plummer et al.) reads both from a list that came with it: which words of a phrase are nouns,
adjectives, prepositions or numbers above one, and whether the Stanford parser has a noun phrase of the same words
in the caption. The list is not to be had; spaCy stands in for it, and both are approximations.

Of the 14,481 phrases with boxes of the test split, spaCy (en_core_web_sm 3.8.0) finds 89.0 % (12,881). They have 4,854
labels, 3,526 of them of one phrase, "man" 1,100, "woman" 608 and "boy" 128 times; 177 phrases have no such word. By the
parts of speech in the release of Plummer et al. 2018 it is 4,919 labels, 3,595, 1,093, 597, 139 and 168.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grounding.phrases import english

if TYPE_CHECKING:
    from spacy.tokens import Doc

KEPT = {"NOUN", "PROPN", "ADJ", "ADP"}  # parts of speech
SMALL = {"0", "zero", "1", "one"}  # cardinal numbers that say nothing of how many there are
WORDLESS = "#none"  # the label of phrases without a word that remains, as "it" or "one"; no word of a caption


@dataclass(frozen=True, slots=True)
class Label:
    """What a phrase is called when scores are averaged over labels."""

    text: str  # its words that remain, lower case, with spaces between them; or `WORDLESS`
    is_parsed: bool  # whether its characters are those of one of the parser's noun phrases


def read_labels(sentences: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[Label, ...]]:
    """The labels of the phrases of some sentences, all parsed in one go, each as a whole.

    Args:
        sentences: captions whose tokens have spaces between them.
        spans: of the phrases of each sentence, in characters, end exclusive.
    """
    from spacy.tokens import Doc

    pipeline = english()
    tokens = [list(re.finditer(r"\S+", sentence)) for sentence in sentences]
    docs = [Doc(pipeline.vocab, words=[token[0] for token in of_sentence]) for of_sentence in tokens]
    return [
        tuple(_label(doc, [token.span() for token in of_sentence], span) for span in of_phrases)
        for doc, of_sentence, of_phrases in zip(pipeline.pipe(docs), tokens, spans, strict=True)
    ]


def _label(doc: "Doc", tokens: list[tuple[int, int]], span: tuple[int, int]) -> Label:
    """Of a phrase in a parsed sentence, whose tokens are at these characters."""
    words = [doc[index] for index, (start, end) in enumerate(tokens) if start < span[1] and end > span[0]]
    kept = [word.lower_ for word in words if word.pos_ in KEPT or (word.pos_ == "NUM" and word.lower_ not in SMALL)]
    chunks = {(tokens[chunk.start][0], tokens[chunk.end - 1][1]) for chunk in doc.noun_chunks}
    return Label(" ".join(kept) or WORDLESS, span in chunks)
