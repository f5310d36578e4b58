from pathlib import Path

import pytest

from grounding.nouns import TABLE, Synset, format_nouns, noun_graph, parse_nouns
from grounding.vocabulary import Vocabulary
from train.noun_graph import DRINKS, INVISIBLE, ROOTS, TOO_GENERAL, derive_graph
from train.wordnet import Nouns, read_nouns

WORDNET = Path("/usr/share/wordnet")
# person -> traveller -> astronaut; person -> (parent, artist) -> muse
SYNSETS = [
    Synset((("person", 1), ("soul", 1)), ()),
    Synset((("traveller", 1),), (0,)),
    Synset((("astronaut", 1),), (1,)),
    Synset((("parent", 1),), (0,)),
    Synset((("artist", 1),), (0,)),
    Synset((("muse", 1),), (3, 4)),
    Synset((("soul", 2),), ()),
    Synset((("blues", 1),), (6,)),
]
GRAPH = parse_nouns(format_nouns(SYNSETS))


def known(*words, **counts):
    return Vocabulary(dict.fromkeys(words, (0,)), 1, counts=counts)


def test_a_table_is_read_as_it_was_written():
    assert GRAPH.synsets == SYNSETS
    assert GRAPH.senses["soul"] == (0, 6)


@pytest.mark.parametrize(
    ("noun", "words", "nearest"),
    [
        ("astronaut", ("person",), ("person",)),
        ("astronaut", ("person", "traveller"), ("traveller",)),  # the nearer one
        ("person", ("soul",), ("soul",)),  # a synonym
        ("person", ("person",), ()),  # a word is not read as itself
        ("muse", ("artist", "parent", "person"), ("parent", "artist")),  # equally near
        ("muse", ("person",), ("person",)),  # by both ways, once
        ("blues", ("soul",), ()),  # not what "soul" means most often
        ("person", ("astronaut",), ()),  # never as something more special
        ("quiddity", ("person",), ()),
    ],
)
def test_the_nearest_known_words_are_found(noun, words, nearest):
    assert GRAPH.nearest(noun, known(*words)) == nearest


def test_of_synonyms_the_one_with_most_photos_is_taken():
    assert GRAPH.nearest("astronaut", known("person", "soul", person=3, soul=5)) == ("soul",)


@pytest.mark.parametrize("noun", ["entity", "object", "thing", "artifact", "whole", "substance", "idea", "freedom"])
def test_what_is_too_general_is_not_understood(noun):
    assert noun_graph().nearest(noun, known("entity", "thing", "object", "person", "abstraction")) == ()


def test_an_astronaut_is_a_person():
    assert noun_graph().nearest("astronaut", known("person", "object")) == ("person",)


def test_the_table_is_small_and_in_order():
    assert TABLE.stat().st_size < 2_000_000
    assert all(above < place for place, synset in enumerate(noun_graph().synsets) for above in synset.hypernyms)


@pytest.mark.parametrize(
    ("noun", "words", "nearest"),
    [
        ("raccoon", ("fur", "animal"), "animal"),  # of two senses whose frequency is not known, not the material
        ("mum", ("flower", "mother"), "mother"),
        ("champagne", ("wine", "region"), "wine"),  # which WordNet files under drugs
        ("maroon", ("red", "person"), "person"),  # the first of several counts
        ("quiche", ("baked goods", "person"), "baked goods"),  # and no name
        ("london", ("city", "person"), "city"),  # a name that is nothing else
    ],
)
def test_the_sense_is_the_likely_one(noun, words, nearest):
    assert noun_graph().nearest(noun, known(*words)) == (nearest,)


def test_only_visible_things_in_frequent_senses_are_in_the_graph():
    named = dict.fromkeys((lemma for lemma, _ in ROOTS | TOO_GENERAL | INVISIBLE | DRINKS), ("other",) * 12)
    nouns = Nouns(
        senses=named
        | dict.fromkeys((lemma for lemma, _ in ROOTS), ("root",))
        | {"dog": ("1", "3", "2"), "pup": ("1",)},
        counted=dict.fromkeys(named, 12) | {"dog": 3, "pup": 1},
        lemmas={"root": (), "other": (), "1": ("pup", "dog"), "2": ("dog",), "3": ("dog", "idea")},
        hypernyms={"root": (), "other": (), "1": ("root",), "2": ("root",), "3": ("other",)},
        files={"root": "tops", "other": "tops", "1": "animal", "2": "artifact", "3": "cognition"},
    )
    assert {lemma for synset in derive_graph(nouns) for lemma in synset.lemmas} == {("pup", 1), ("dog", 1)}


@pytest.mark.skipif(not WORDNET.is_dir(), reason="install Debian's package wordnet-base")
def test_the_table_is_what_wordnet_says():
    assert format_nouns(derive_graph(read_nouns(WORDNET))) == format_nouns(noun_graph().synsets)
