"""Other spellings of known words: British and American, hyphens, spaces and accents, plurals and pet names."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property

from grounding.kinds import kind_of
from grounding.phrases import english
from grounding.records import Word
from grounding.vocabulary import Vocabulary

# Endings of plurals and of the singular, by WordNet's rules (its manual page morphy(7WN)).
PLURALS = (
    *(("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("zes", "z"), ("ses", "s"), ("men", "man")),
    ("s", ""),
)
PET_NAMES = ("ie", "y", "ey", "let", "ling")  # endings: doggie, doggy, horsey, piglet, duckling
SHORTEST_PLURAL = 4  # letters: "gas" and "bus" are no plurals


class Spellings:
    """The spellings of the words of a vocabulary.

    Args:
        vocabulary: the words that a model knows.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @cached_property
    def _by_form(self) -> dict[str, str]:
        """The known word of each plain form; of several, the one with the most training photos."""
        counts = self.vocabulary.counts
        ordered = sorted(self.vocabulary.units, key=lambda word: counts.get(word, 0))
        return {plain_form(word): word for word in ordered}

    def find(self, text: str, *, is_noun: bool) -> str | None:
        """The known word that a text, one word or several, is another spelling of; None where there is none.

        >>> spellings = Spellings(Vocabulary({"gray": (0,), "t-shirt": (1,), "dog": (2,)}, size=3))
        >>> [spellings.find(text, is_noun=True) for text in ("grey", "t shirt", "doggies", "cat")]
        ['gray', 't-shirt', 'dog', None]
        """
        forms = [text]
        if is_noun:
            forms += singulars(text)
            forms += [base for form in forms for base in _bases(form)]
        for form in forms:
            word = self._by_form.get(plain_form(form))
            if word is not None and (is_noun or word not in self.vocabulary.nouns):
                return word
        return None


def plain_form(text: str) -> str:
    """A word as spellings of it have in common: American, without accents, hyphens, apostrophes and spaces.

    >>> plain_form("tee-shirt"), plain_form("café"), plain_form("grey wolf")
    ('tshirt', 'cafe', 'graywolf')
    """
    parts = re.split(r"[\s\-‐‑_]+", text.lower())
    american = "".join("t" if part == "tee" else english().vocab[part].norm_ for part in parts if part)
    return re.sub(r"[^\w]", "", "".join(c for c in unicodedata.normalize("NFKD", american) if c.isalnum()))


def singulars(text: str) -> list[str]:
    """The words that a text may be the plural of, whether they exist or not.

    >>> singulars("puppies"), singulars("bus")
    (['puppy', 'puppie'], [])
    """
    if len(text) < SHORTEST_PLURAL or text.endswith("ss"):
        return []
    return [text.removesuffix(ending) + singular for ending, singular in PLURALS if text.endswith(ending)]


def _bases(text: str) -> Iterator[str]:
    """The animals and people that a text may be a pet name of; a cookie is no cook."""
    for base in pet_name_bases(text):
        if all(kind_of([Word(word, True)]) == "being" for word in (text, base)):
            yield base


def pet_name_bases(text: str) -> list[str]:
    """The words from which a text may be derived by an ending of pet names, whether they exist or not.

    >>> pet_name_bases("doggy"), pet_name_bases("piglet"), pet_name_bases("horsey")
    (['dogg', 'dog'], ['pig'], ['horse', 'hors'])
    """
    stems = [text.removesuffix(ending) for ending in PET_NAMES if text.endswith(ending)]
    shortened = [stem[:-1] for stem in stems if stem[-1:] == stem[-2:-1]]  # a doubled letter: "dogg"
    return [stem for stem in (*stems, *shortened) if stem]
