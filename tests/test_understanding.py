from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grounding.embeddings import PACKAGE
from grounding.phrases import whole_phrase
from grounding.records import Word
from grounding.understanding import LEVELS, Understanding
from grounding.vocabulary import Vocabulary, read_vocabulary

DEFAULT = Path(__file__).parent.parent / "grounding" / "weights" / "efficientnet_lite2_places" / "vocabulary.tsv"
SMALL = Vocabulary({"dog": (0,), "gray": (1,), "person": (2,), "ice cream": (3,)}, 4)
LEMMAS = ("dog", "gray", "grey", "person", "ice", "cream", "ice-cream", "astronaut", "quiddity", "🐶", "42", "doggie")
words = st.lists(st.builds(Word, st.sampled_from(LEMMAS), st.booleans()), max_size=6)

# What the default model understands: a phrase, its known words, and its words that stay unknown.
READ_AS = {
    # British and American
    "a grey cat": ("gray cat", ""), "a colour": ("color", ""), "a tyre": ("tire", ""), "tyres": ("tire", ""),
    # accents, hyphens and spaces
    "a café": ("cafe", ""), "a fire-truck": ("fire truck", ""), "a firetruck": ("firetruck", ""),
    "an ice-cream": ("ice cream", ""), "an icecream": ("icecream", ""), "a tee-shirt": ("tee shirt", ""),
    "a t-shirt": ("t shirt", ""), "a tshirt": ("tshirt", ""),
    # pet names
    "a doggie": ("dog", ""), "two doggies": ("two doggy", ""), "a piglet": ("pig", ""),
    # kinds of things
    "an astronaut": ("person", ""), "the Eiffel Tower": ("tower", "eiffel"), "a Tesla": ("", "tesla"),
    "a plumber": ("worker", ""), "a black fedora": ("black hat", ""),
    "a zeppelin": ("airship", ""),
    "a gazebo": ("building", ""), "a unicyclist": ("rider", ""), "a policewoman": ("policeman", ""),
    "a bagpipe": ("wind instrument", ""), "an anorak": ("parka", ""), "a scalpel": ("knife", ""),
    "a tugboat": ("tug", ""), "a dinghy": ("rowboat", ""), "a hatchback": ("car", ""), "a catwalk": ("platform", ""),
    "the crimson": ("red", ""), "a grandma": ("person", ""), "a lad": ("fellow", ""), "a violinist": ("musician", ""),
    "a baker": ("person", ""), "a welder": ("worker", ""), "a lagoon": ("lake", ""), "a sibling": ("person", ""),
    "a hairdo": ("hairstyle", ""), "a donut": ("baked goods", ""), "a quiche": ("baked goods", ""),
    # known words alone, and nothing to understand
    "a golden retriever": ("golden retriever", ""), "the thing": ("thing", ""),
    "a freedom": ("", "freedom"), "some quiddity": ("", "quiddity"), "asdfgh": ("", "asdfgh"), "42": ("", "42"),
    "3rd": ("", "3rd"), "🐶": ("", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def default():
    return Understanding(read_vocabulary(DEFAULT), "wordnet")


@pytest.mark.parametrize(("phrase", "expected"), READ_AS.items())
def test_the_default_model_reads_words_as(default, phrase, expected):
    matched = default.match(whole_phrase(phrase).words)
    known = " ".join(matched.known)
    assert (known, " ".join(matched.skipped)) == expected


@given(words, st.sampled_from(LEVELS[:3]))
def test_what_is_read_is_known_and_said(phrase, level):
    known, skipped = SMALL.match(phrase)
    matched = Understanding(SMALL, level).match(phrase)
    assert all(word in SMALL for word in matched.known)
    assert set(known) <= set(matched.known) | {"ice cream"}
    assert not {word for word in matched.understood if word in SMALL and " " in word}
    assert set(matched.known) <= set(known) | {word for meant in matched.understood.values() for word in meant}
    if level == "exact" or not skipped:
        assert (matched.known, matched.skipped, dict(matched.understood)) == (known, skipped, {})


@given(words)
def test_a_further_level_leaves_no_more_words_unknown(phrase):
    unknown = [len(Understanding(SMALL, level).match(phrase).skipped) for level in LEVELS[:3]]
    assert unknown == sorted(unknown, reverse=True)


@given(st.lists(st.sampled_from(["dog", "gray", "person"]), max_size=4))
def test_known_words_alone_are_not_touched(lemmas):
    phrase = [Word(lemma, True) for lemma in lemmas]
    known, skipped = SMALL.match(phrase)
    assert (known, skipped) == (tuple(dict.fromkeys(lemmas)), ())
    assert Understanding(SMALL, "wordnet").match(phrase).understood == {}


@pytest.mark.parametrize("lemma", ["🐶" * 3, "123", "x" * 5000, "-", "a\tb", "\u202e", "é" * 61])
def test_what_is_no_word_stays_unknown(lemma):
    matched = Understanding(SMALL, "wordnet").match([Word(lemma, True), Word("dog", True)])
    assert (matched.known, matched.skipped) == (("dog",), (lemma,))


def test_an_adjective_is_no_kind_of_thing():
    understanding = Understanding(Vocabulary({"person": (0,)}, 1), "wordnet")
    assert understanding.match([Word("astronaut", False)]).known == ()
    assert understanding.match([Word("astronaut", True)]).understood == {"astronaut": ("person",)}


def test_a_word_known_only_as_a_noun_is_no_other_spelling_of_an_adjective():
    vocabulary = Vocabulary({"gray": (0,)}, 1, frozenset({"gray"}))
    assert Understanding(vocabulary, "spelling").match([Word("grey", False)]).known == ()
    assert Understanding(vocabulary, "spelling").match([Word("grey", True)]).known == ("gray",)


def test_a_compound_gives_way_to_a_known_word_in_it():
    steering_wheel = [Word("steering", True), Word("wheel", True)]
    understanding = Understanding(Vocabulary({"wheel": (0,), "device": (1,)}, 2), "wordnet")
    assert understanding.match(steering_wheel).known == ("wheel",)
    understanding = Understanding(Vocabulary({"device": (1,)}, 2), "wordnet")
    assert understanding.match(steering_wheel).understood == {"steering wheel": ("device",)}


def test_levels_are_checked():
    with pytest.raises(
        ValueError, match=r"^scoring\.understand must be exact, spelling, wordnet or embeddings, got 'all'$"
    ):
        Understanding(SMALL, "all")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("grounding.embeddings.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need the extra \[embeddings\]: pip install"):
        Understanding(SMALL, "embeddings")


@pytest.mark.slow
def test_similar_words_are_read_as_known_ones():
    for package in ("transformers", PACKAGE):
        if find_spec(package) is None:
            pytest.skip('install "phrase-grounding[embeddings]"')
    understanding = Understanding(Vocabulary({"woman": (0,), "dog": (1,)}, 2), "embeddings", least_similarity=0.5)
    assert understanding.match([Word("spacewoman", True)]).understood == {"spacewoman": ("woman",)}
    assert understanding.match([Word("asdfgh", True)]).known == ()
