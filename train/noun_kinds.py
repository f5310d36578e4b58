"""Derive the kinds of nouns from WordNet: ``python -m train.noun_kinds /usr/share/wordnet``.

This writes ``grounding/vocabularies/kinds.tsv``, which the package ships: a noun, a tab, its kind (`grounding.kinds`).
Nouns of a single word are in it that are no names and no objects; all others count as objects. It needs the noun
files of WordNet 3.0. The kind of a noun follows from one of its senses, the first of the two most frequent ones that
is something visible, or else the most frequent one ("table" is furniture before it is a set of data):

- part: WordNet files it as a part of a body, or it is under one of `PARTS`;
- being: it is under one of `BEINGS`;
- scene: WordNet files it as a place, a natural object, a phenomenon or a substance, or it is under one of `SCENES`.

A noun whose plural is worn is a part, too, since captions are read as lemmas: the lemma of "shorts" is "short".
"""

import re
import sys
from pathlib import Path

from grounding.kinds import TABLE
from train.wordnet import Nouns, ancestors, read_nouns

HEAD = """\
# The kinds of nouns, derived from WordNet 3.0 by python -m train.noun_kinds; nouns that are not here are objects.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Terms: LICENSE.wordnet.
"""
SENSES = 2
VISIBLE = {
    *("tops", "animal", "person", "body", "artifact", "food", "plant"),
    *("object", "substance", "location", "phenomenon"),
}
SCENERY = {"location", "object", "phenomenon", "substance"}
# Synsets by a lemma and the number of its sense.
PARTS = {
    *(("body part", 1), ("clothing", 1), ("headdress", 1), ("footwear", 1), ("footwear", 2)),
    *(("jewelry", 1), ("spectacles", 1)),
}
BEINGS = {("person", 1), ("animal", 1), ("group", 1)}
SCENES = {("structure", 1), ("way", 6), ("area", 5), ("facility", 1), ("grass", 1), ("floor", 1)}


def derive_kinds(nouns: Nouns) -> dict[str, str]:
    """The kind of each noun that is no object, by the rules of this module, in alphabetical order."""
    roots = [
        ("part", {"body"}, _synsets(nouns, PARTS)),
        ("being", set(), _synsets(nouns, BEINGS)),
        ("scene", SCENERY, _synsets(nouns, SCENES)),
    ]

    def kind(synset: str) -> str:
        above = {synset, *ancestors(synset, nouns)}
        return next((name for name, files, under in roots if nouns.files[synset] in files or above & under), "object")

    kinds = {noun: kind(_sense(noun, nouns)) for noun in nouns.senses}
    lower = {lemma for lemmas in nouns.lemmas.values() for lemma in lemmas if lemma.isalpha() and lemma.islower()}
    plurals = {noun: (f"{noun}s", f"{noun}es") for noun in lower}
    worn = {noun for noun, forms in plurals.items() if any(kinds.get(form) == "part" for form in forms)}
    found = {noun: "part" if noun in worn else kinds[noun] for noun in lower}
    found |= {noun[:-1]: "part" for noun in lower if re.search("[^s]s$", noun) and kinds[noun] == "part"}
    return {noun: kind for noun, kind in sorted(found.items()) if kind != "object"}


def _synsets(nouns: Nouns, names: set[tuple[str, int]]) -> set[str]:
    return {nouns.senses[lemma][number - 1] for lemma, number in names}


def _sense(noun: str, nouns: Nouns) -> str:
    """The sense of a noun that captions are likely to mean."""
    senses = nouns.senses[noun]
    return next((sense for sense in senses[:SENSES] if nouns.files[sense] in VISIBLE), senses[0])


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m train.noun_kinds FOLDER_OF_WORDNET_3.0, such as /usr/share/wordnet")
    kinds = derive_kinds(read_nouns(Path(sys.argv[1])))
    TABLE.write_text(HEAD + "".join(f"{noun}\t{kind}\n" for noun, kind in kinds.items()), encoding="utf-8")
    print(f"{len(kinds)} nouns in {TABLE}")


if __name__ == "__main__":
    main()
