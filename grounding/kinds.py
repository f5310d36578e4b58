"""The kind of thing that a phrase means: how far a thing extends beyond what tells it from others depends on it.

A face tells a man, but the box of the man is his whole body; a shirt is where its evidence is, and no more; water is
all around. `scoring.area_exponent_by_kind` lets γ of S_R / A_R^γ follow.
"""

from collections.abc import Sequence
from functools import cache

from grounding.records import Word
from grounding.vocabulary import FOLDER

TABLE = FOLDER / "kinds.tsv"  # derived from WordNet by python -m train.noun_kinds
KINDS = (
    "being",  # a person, an animal or a group of them
    "part",  # a part of a body, or what is worn on one
    "scene",  # land, water, sky, a building, a street and the like
    "object",  # anything else, and nouns that are in no table
)


def kind_of(words: Sequence[Word]) -> str | None:
    """The kind of thing that a phrase means, one of `KINDS`, by its last noun; None where it has no noun.

    >>> kind_of([Word("red", False), Word("shirt", True)]), kind_of([Word("dog", True)]), kind_of([Word("red", False)])
    ('part', 'being', None)
    """
    noun = next((word.lemma for word in reversed(words) if word.is_noun), None)
    return None if noun is None else _table().get(noun, "object")


@cache
def _table() -> dict[str, str]:
    """The kinds of nouns that are no objects."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))
