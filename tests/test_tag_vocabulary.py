import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.phrases import whole_phrase
from grounding.vocabulary import Vocabulary
from train.vocabulary import TagVocabulary, build_vocabulary, count_tags, lemmatise_tags, normalise


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("  Golden_Retriever ", "golden retriever"),
        ("#sun,", "sun"),
        ("T-shirt", "t-shirt"),
        ("(a  b)", "a b"),
        ("ＤＯＧ\u3000dog", "dog dog"),
        ("Dog’s", "dog’s"),
        ("...", ""),
        ("_", ""),
        ("\ud800cat", "cat"),
    ],
)
def test_spellings_of_a_tag_are_normalised(tag, expected):
    assert normalise(tag) == expected


def test_phrases_become_the_units_of_their_known_words_each_once():
    tags = build_vocabulary([["Dogs", "red"], ["dogs"]], size=9, least=1, lemmatise=True)
    phrases = [("red", "dogs"), ("dogs",), ("big", "dog"), ("sky",), (), ("red", "DOG ", "dog")]
    assert tags.words == ("dog", "red")
    assert tags.units_of_phrases(phrases) == [(1, 0), (0,)]


@settings(max_examples=200)
@given(st.text())
def test_normalising_twice_changes_nothing(tag):
    once = normalise(tag)
    assert normalise(once) == once


def test_tags_are_lemmatised_as_phrases_are():
    tags = ["ice creams", "men", "t-shirt", "building", "statue of liberty", "close-up", "the", "&"]
    assert list(lemmatise_tags(tags).values()) == [
        "ice cream",
        "man",
        "t shirt",
        "building",
        "statue liberty",
        "close up",
        "the",
        "&",
    ]


@pytest.mark.parametrize(
    ("phrase", "tag"),
    [
        ("a man's T-shirts", "T-Shirt"),
        ("two hot dogs", "hot_dogs"),
        ("the Statue of Liberty", "statue of liberty"),
        ("three women", "Women"),
        ("old buildings", "Building"),
    ],
)
def test_a_phrase_finds_the_word_of_a_tag(phrase, tag):
    word = lemmatise_tags([normalise(tag)])[normalise(tag)]
    known, _ = Vocabulary({word: (0,)}, 1).match(whole_phrase(phrase).words)
    assert known == (word,)


def test_a_photo_counts_once_for_each_of_its_tags():
    assert count_tags([["dog", "cat", "dog"], ["dog"], []]) == {"dog": 2, "cat": 1}


def test_the_most_frequent_words_come_first_and_forms_are_merged():
    photos = [["Dogs", "dog", "men"], ["dog"], ["Man", "cat"], ["zebra", "..."], ["cat"]]
    vocabulary = build_vocabulary(photos, size=3, least=1, lemmatise=True)
    assert vocabulary.words == ("cat", "dog", "man")
    assert vocabulary.counts == (2, 2, 2)
    assert {vocabulary.forms[tag] for tag in ("Dogs", "dog")} == {"dog"}
    assert vocabulary.units_of(["Men", "zebra", "dog", "Dogs", "...", "cat"]) == [2, 1, 0]
    assert vocabulary.units_of(["MEN!"]) == [2]  # never seen so
    spelt = build_vocabulary(photos, size=9, least=1, lemmatise=False)
    assert spelt.words == ("cat", "dog", "dogs", "man", "men", "zebra")
    assert build_vocabulary(photos, size=9, least=2, lemmatise=True).words == ("cat", "dog", "man")


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["Ab", "ab ", "c", "D", "d", "e_f"]))), st.integers(2, 5), st.integers(1, 3))
def test_counts_equal_those_by_plain_loops(photos, size, least):
    spellings = {"Ab": "ab", "ab ": "ab", "c": "c", "D": "d", "d": "d", "e_f": "e f"}
    photos_of = {
        word: [photo for photo in photos if word in {spellings[t] for t in photo}] for word in ["ab", "c", "d", "e f"]
    }
    ranked = sorted(
        (word for word in photos_of if len(photos_of[word]) >= least), key=lambda w: (-len(photos_of[w]), w)
    )
    if len(ranked) < 2:
        with pytest.raises(ValueError, match="vocabulary: "):
            build_vocabulary(iter(photos), size=size, least=least, lemmatise=False)
        return
    vocabulary = build_vocabulary(iter(photos), size=size, least=least, lemmatise=False)
    assert list(vocabulary.words) == ranked[:size]
    assert list(vocabulary.counts) == [len(photos_of[word]) for word in ranked[:size]]
    for tag in itertools.chain(*photos):
        assert vocabulary.forms.get(tag) == (spellings[tag] if spellings[tag] in vocabulary.words else None)


def test_a_vocabulary_needs_two_words():
    with pytest.raises(ValueError, match="no tag has 2 photos or more, the 2 photos teach no word"):
        build_vocabulary([["dog"], ["cat"]], size=10, least=2, lemmatise=False)
    with pytest.raises(ValueError, match="only 'dog' has 1 photos or more: nothing to tell it from"):
        build_vocabulary([["dog"], []], size=10, least=1, lemmatise=False)
    with pytest.raises(ValueError, match="vocabulary: size must be from 2"):
        build_vocabulary([["dog"], ["cat"]], size=1, least=1, lemmatise=False)


def test_no_tags_have_no_units():
    assert TagVocabulary(("dog", "cat"), (2, 1), {"dog": "dog", "cat": "cat"}).units_of([]) == []
