"""What a model understands by words that it does not know: other spellings, kinds of things, and similar words.

Each level includes those before it; what a word is understood as is always said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grounding.embeddings import LEAST_SIMILARITY, WordEmbeddings
from grounding.nouns import noun_graph
from grounding.records import Word
from grounding.spelling import Spellings, singulars
from grounding.vocabulary import Vocabulary

LEVELS = (
    "exact",  # the words of the vocabulary alone
    "spelling",  # other spellings of them, too
    "wordnet",  # nouns, too, as what they are a kind of
    "embeddings",  # nouns, too, as known words of similar meaning; needs the extra [embeddings]
)
LONGEST_COMPOUND = 3  # words, such as "tee shirt"
LONGEST_TEXT = 60  # characters; what is longer is no word


@dataclass(frozen=True)
class Matched:
    """The words of a phrase as a model understands them."""

    known: tuple[str, ...]  # words of the vocabulary, each once, in the order of the phrase
    skipped: tuple[str, ...]  # words that are not understood
    understood: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # unknown word -> words of the vocabulary


class Understanding:
    """Matches the words of phrases with those of a vocabulary.

    Args:
        vocabulary: the words that a model knows.
        level: how far to go for a word that it does not know, one of `LEVELS`.
        least_similarity: of the level ``embeddings``, see `WordEmbeddings`.

    Raises:
        ValueError: there is no such level, or the extra [embeddings] is not installed.
    """

    def __init__(
        self, vocabulary: Vocabulary, level: str = "exact", *, least_similarity: float = LEAST_SIMILARITY
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"scoring.understand must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, got {level!r}")
        self.vocabulary = vocabulary
        self.level = level
        self._spellings = Spellings(vocabulary)
        self._embeddings = None
        if level == "embeddings":
            self._embeddings = WordEmbeddings(vocabulary, least_similarity=least_similarity)
        self._found: dict[tuple[str, bool, bool], tuple[str, ...]] = {}

    def match(self, words: Sequence[Word]) -> Matched:
        """Match the words of a phrase. Where all of them are known, the result is that of `Vocabulary.match`."""
        known, skipped = self.vocabulary.match(words)
        if self.level == "exact" or not skipped:
            return Matched(known, skipped)
        found: list[str] = []
        unknown: list[str] = []
        understood: dict[str, tuple[str, ...]] = {}
        rest = words
        while rest:
            part, text = next(self.vocabulary.divide(rest))
            if text is not None:
                found.append(text)
            else:
                part, meant = self._understand(rest)
                text = " ".join(word.lemma for word in part)
                found += meant
                if meant:
                    understood[text] = meant
                else:
                    unknown.append(text)
            rest = rest[len(part) :]
        return Matched(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(unknown)), understood)

    def _understand(self, words: Sequence[Word]) -> tuple[Sequence[Word], tuple[str, ...]]:
        """Understand the first of some words, which is unknown, or the longest compound that starts with it.

        A compound that is read by its meaning has no known word: of a "steering wheel", the wheel says more than that
        it is a device.

        Returns:
            The word or the words of the compound, and the known words that they are understood as, maybe none.
        """
        for by_meaning in (False, True):
            for length in range(min(LONGEST_COMPOUND, len(words)), 0, -1):
                part = words[:length]
                if by_meaning and self.vocabulary.match(part)[0]:
                    continue
                meant = self._lookup(" ".join(word.lemma for word in part), part[-1].is_noun, by_meaning)
                if meant:
                    return part, meant
        return words[:1], ()

    def _lookup(self, text: str, is_noun: bool, by_meaning: bool) -> tuple[str, ...]:
        """The known words that a text is understood as, by its spelling or else by its meaning; looked up once."""
        key = (text, is_noun, by_meaning)
        if key not in self._found:
            self._found[key] = self._look_up(text, is_noun, by_meaning)
        return self._found[key]

    def _look_up(self, text: str, is_noun: bool, by_meaning: bool) -> tuple[str, ...]:
        if len(text) > LONGEST_TEXT or not _is_word(text):
            return ()
        if not by_meaning:
            word = self._spellings.find(text, is_noun=is_noun)
            return () if word is None else (word,)
        if not is_noun or self.level == "spelling":
            return ()
        for form in (text, *singulars(text)):
            if nearest := noun_graph().nearest(form, self.vocabulary):
                return nearest
        return () if self._embeddings is None or " " in text else self._embeddings.nearest(text)


def _is_word(text: str) -> bool:
    """Whether a text consists of words, each of letters, hyphens and apostrophes, and with a letter at least."""
    return all(
        any(map(str.isalpha, word)) and all(character.isalpha() or character in "-'’" for character in word)
        for word in text.split(" ")
    )
