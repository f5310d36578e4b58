"""The classes of a classifier: found by word, by name or by the number of a unit, and named where they have no name."""

from collections.abc import Sequence
from difflib import get_close_matches

from torch import Tensor

from grounding.vocabulary import Vocabulary

NEAR = 3  # classes that an error suggests, or lists, at most


def choose_classes(
    classes: Sequence[str | int], vocabulary: Vocabulary, probabilities: Tensor, *, top: int
) -> dict[str, tuple[int, ...]]:
    """Choose the classes to explain, with the units of each.

    Args:
        classes: words of the vocabulary, in any case, or numbers of units; empty for the units of highest probability.
            To a single class its rival is added, the unit of highest probability that is not its own.
        vocabulary: the words that the classifier knows.
        probabilities: of all units in the photo, (units,).
        top: the number of units to choose where no class is named.

    Raises:
        ValueError: the classifier has no such class.
    """
    ranking: list[int] = probabilities.argsort(descending=True, stable=True).tolist()
    if not classes:
        return {name_unit(unit, vocabulary): (unit,) for unit in ranking[:top]}
    chosen = dict(find_class(text, vocabulary) for text in classes)
    if len(chosen) == 1:
        (own,) = chosen.values()
        rival = next((unit for unit in ranking if unit not in own), None)
        if rival is not None:
            chosen[name_unit(rival, vocabulary)] = (rival,)
    return chosen


def find_class(text: str | int, vocabulary: Vocabulary) -> tuple[str, tuple[int, ...]]:
    """Find a class by a word of the vocabulary or else by the number of a unit; return its name and its units.

    Raises:
        ValueError: there is no such class; the message suggests similar ones.

    >>> find_class("Happy", Vocabulary({"happy": (3,)}, size=7))
    ('happy', (3,))
    >>> find_class("3", Vocabulary({"happy": (3,)}, size=7))
    ('happy', (3,))
    """
    typed = str(text).strip()
    word = typed if typed in vocabulary else _by_lower_case(vocabulary).get(typed.casefold())
    if word is not None:
        return word, vocabulary.units[word]
    if typed.isdecimal():
        if int(typed) >= vocabulary.size:
            raise ValueError(f"the model has no unit {typed}: its units are 0 to {vocabulary.size - 1}")
        return name_unit(int(typed), vocabulary), (int(typed),)
    raise ValueError(f"the model has no class {typed!r}: {_suggestion(typed, vocabulary)}")


def name_unit(unit: int, vocabulary: Vocabulary) -> str:
    """Name a unit by the shortest word that means it alone, with the number added where words mean others, too.

    >>> vocabulary = Vocabulary({"tabby cat": (0,), "tabby": (0,), "cat": (0, 1)}, size=3)
    >>> [name_unit(unit, vocabulary) for unit in range(3)]
    ['tabby', 'cat (unit 1)', 'unit 2']
    """
    words = [word for word, units in vocabulary.units.items() if unit in units]
    if not words:
        return f"unit {unit}"
    word = min(words, key=lambda known: (len(vocabulary.units[known]), len(known), known))
    return word if len(vocabulary.units[word]) == 1 else f"{word} (unit {unit})"


def _by_lower_case(vocabulary: Vocabulary) -> dict[str, str]:
    """The words of a vocabulary, by the same words in lower case."""
    return {word.casefold(): word for word in vocabulary.units}


def _suggestion(typed: str, vocabulary: Vocabulary) -> str:
    """What to name instead of a class that there is not."""
    names = list(vocabulary.units)
    if not names:
        return f"its units have no names; give a number from 0 to {vocabulary.size - 1}, or model.class_names"
    words = _by_lower_case(vocabulary)
    if near := get_close_matches(typed.casefold(), words, n=NEAR):
        return f"did you mean {' or '.join(words[word] for word in near)}?"
    more = f" and {len(names) - NEAR} more" if len(names) > NEAR else ""
    return f"it has {', '.join(names[:NEAR])}{more}"
