"""Derive the words of an ImageNet classifier from WordNet: ``python -m train.imagenet_words /usr/share/wordnet``.

This writes ``grounding/vocabularies/imagenet.tsv``, which the package ships: a word, a tab, the classes that it means.
It needs the noun files of WordNet 3.0 (``index.noun`` and ``data.noun``; Debian's package ``wordnet-base``). A word
means

1. the classes whose synset has it as a lemma ("tabby": class 281), and
2. all classes under a synset that has it as a lemma ("dog": the 118 breeds), where that synset is one of the word's two
   most frequent noun senses, and the one of the two with more classes under it ("helmet": not only the spiked one),

with two exceptions: synsets over more than 400 classes ("artifact") are too general to localise anything, and common
words of captions that WordNet does not link are given a synonym (`SYNONYMS`).
"""

import sys
from pathlib import Path

from grounding.vocabulary import as_ranges
from train.wordnet import Nouns, ancestors, read_nouns

OUTPUT = Path(__file__).resolve().parent.parent / "grounding" / "vocabularies" / "imagenet.tsv"
HEAD = """\
# The words of the 1,000 ImageNet classes, derived from WordNet 3.0 by python -m train.imagenet_words.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Terms: LICENSE.wordnet.
# units: 1000
# nouns
"""
MOST_CLASSES = 400
SENSES = 2
SYNONYMS = {
    "puppy": "dog",
    "doggy": "dog",
    "kitten": "cat",
    "kitty": "cat",
    "pony": "horse",
    "pup": "dog",
    "motorbike": "motorcycle",
    "tshirt": "t-shirt",
    "tee shirt": "t-shirt",
    "sailboat": "yawl",
    "cell phone": "cellular telephone",
    "smartphone": "cellular telephone",
    "fridge": "refrigerator",
    "teacup": "cup",
    "sneakers": "running shoe",
    "sneaker": "running shoe",
    "glasses": "spectacles",
    "spaceship": "space shuttle",
}


def derive_words(nouns: Nouns, classes: list[str]) -> dict[str, list[int]]:
    """The classes that each word means, by the rules of this module.

    Args:
        nouns: WordNet's nouns.
        classes: the synset of each output unit.
    """
    under: dict[str, set[int]] = {}
    for unit, synset in enumerate(classes):
        for ancestor in {synset, *ancestors(synset, nouns)}:
            under.setdefault(ancestor, set()).add(unit)
    named: dict[str, set[int]] = {}
    for unit, synset in enumerate(classes):
        for lemma in map(str.lower, nouns.lemmas[synset]):
            named.setdefault(lemma, set()).add(unit)
    words = {word: set(units) for word, units in named.items()}
    for synset in under:
        for lemma in map(str.lower, nouns.lemmas[synset]):
            covered = [under.get(sense, set()) for sense in nouns.senses[lemma][:SENSES]]
            widest = max(covered, key=len)
            if 0 < len(widest) <= MOST_CLASSES:
                words.setdefault(lemma, set()).update(widest)
    words |= {word: words[synonym] for word, synonym in SYNONYMS.items() if synonym in words and word not in words}
    return {word: sorted(units) for word, units in sorted(words.items())}


def main() -> None:
    """The command line."""
    from timm.data.imagenet_info import ImageNetInfo

    if len(sys.argv) != 2:
        sys.exit("usage: python -m train.imagenet_words FOLDER_OF_WORDNET_3.0, such as /usr/share/wordnet")
    classes = [synset.removeprefix("n") for synset in ImageNetInfo("imagenet-1k").label_names()]  # type: ignore[no-untyped-call]
    words = derive_words(read_nouns(Path(sys.argv[1])), classes)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(
        HEAD + "".join(f"{word}\t{as_ranges(units)}\n" for word, units in words.items()), encoding="utf-8"
    )
    print(f"{len(words)} words in {OUTPUT}")


if __name__ == "__main__":
    main()
