"""The phrases by which the categories of VOC and COCO are asked for.

A category is asked for by the phrase that ``vocabularies/categories.json`` has for it, in which a caption would name
it: "computer mouse", not "mouse". A category that is not listed there is asked for by its own name.
"""

import json
from functools import cache

from grounding.vocabulary import FOLDER


@cache
def category_phrases(data: str) -> dict[str, str]:
    """The phrase for each category of ``voc`` or ``coco``, in the order of their own lists."""
    content = json.loads((FOLDER / "categories.json").read_text(encoding="utf-8"))
    phrases: dict[str, str] = content[data]
    return phrases


def category_phrase(category: str, phrases: dict[str, str], where: str) -> str:
    """The phrase by which a category is asked for, among those of `category_phrases` or by its own name.

    Raises:
        ValueError: the category has no name; the message starts with ``where`` it was read.
    """
    if not category.strip():
        raise ValueError(f"{where}: a category without a name")
    return phrases.get(category, category)
