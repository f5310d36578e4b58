from pathlib import Path

import pytest

from grounding.nouns import TABLE, Synset, format_nouns, noun_graph, parse_nouns
from grounding.vocabulary import Vocabulary
from train.noun_graph import derive_graph
from train.wordnet import read_nouns

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


@pytest.mark.skipif(not WORDNET.is_dir(), reason="install Debian's package wordnet-base")
def test_the_table_is_what_wordnet_says():
    assert format_nouns(derive_graph(read_nouns(WORDNET))) == format_nouns(noun_graph().synsets)
