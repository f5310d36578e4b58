import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grounding.records import Word
from grounding.vocabulary import Vocabulary, as_ranges, format_vocabulary, read_vocabulary


def nouns(*lemmas):
    return [Word(lemma, True) for lemma in lemmas]


def test_a_dog_is_any_of_the_118_breeds():
    vocabulary = read_vocabulary("imagenet")
    assert vocabulary.size == 1000
    assert vocabulary.units["dog"] == tuple(range(151, 269))
    prior = vocabulary.prior("dog")
    assert prior.sum().item() == pytest.approx(1)
    assert torch.equal(prior.nonzero().flatten(), torch.arange(151, 269))


@pytest.mark.parametrize(
    ("word", "unit"),
    [("tabby", 281), ("cat", 285), ("cup", 968), ("spoon", 910), ("car", 817), ("rocket", 657), ("space shuttle", 812),
     ("bird", 22), ("bicycle", 444), ("bike", 671), ("guitar", 402), ("puppy", 207)],
)  # fmt: skip
def test_everyday_words_mean_their_classes(word, unit):
    assert unit in read_vocabulary("imagenet").units[word]


@pytest.mark.parametrize("word", ["man", "woman", "entity", "artifact", "object", "thing"])
def test_words_of_no_particular_thing_are_unknown(word):
    assert word not in read_vocabulary("imagenet")


def test_neighbours_that_form_a_known_compound_are_one_word():
    vocabulary = Vocabulary({"space shuttle": (1,), "shuttle": (0,), "dog": (2,)}, 3)
    assert vocabulary.match(nouns("big", "space", "shuttle", "dog", "dog")) == (("space shuttle", "dog"), ("big",))
    assert vocabulary.match(nouns("shuttle", "space")) == (("shuttle",), ("space",))
    assert vocabulary.match([]) == ((), ())


def test_an_orange_dress_is_no_fruit_where_orange_is_known_as_a_noun():
    words = [Word("orange", False), Word("dress", True)]
    units = {"orange": (0,), "dress": (1,)}
    for nouns in ({"orange"}, {"orange", "dress"}):
        assert Vocabulary(units, 2, frozenset(nouns)).match(words) == (("dress",), ("orange",))
    for nouns in ((), {"dress"}):
        assert Vocabulary(units, 2, frozenset(nouns)).match(words) == (("orange", "dress"), ())
    assert Vocabulary(units, 2, frozenset(units)).match([Word("orange", True)]) == (("orange",), ())


def test_a_table_is_read_by_its_path(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("# units: 12\ncat\t0-2 7\nrocket ship\t11\n", encoding="utf-8")
    vocabulary = read_vocabulary(str(path))
    assert vocabulary.units == {"cat": (0, 1, 2, 7), "rocket ship": (11,)}
    assert vocabulary.size == 12
    assert vocabulary.nouns == frozenset()
    assert vocabulary.counts == {}


def test_a_table_marks_nouns_and_has_counts_of_photos(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("red\t0\t40\n# nouns\ncat\t1\t7\norange\t2\n# words\n# of motion\nrun\t3\t0\n", encoding="utf-8")
    vocabulary = read_vocabulary(path)
    assert vocabulary.size == 4
    assert vocabulary.nouns == {"cat", "orange"}
    assert vocabulary.counts == {"red": 40, "cat": 7, "run": 0}


def test_all_words_of_imagenet_are_nouns():
    vocabulary = read_vocabulary("imagenet")
    assert vocabulary.nouns == vocabulary.units.keys()


words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(lambda w: w[0] != "#")


@st.composite
def vocabularies(draw):
    size = draw(st.integers(1, 40))
    runs = st.sets(st.integers(0, size - 1), min_size=1).map(lambda units: tuple(sorted(units)))
    units = draw(st.dictionaries(words, runs, max_size=6))
    some = st.sets(st.sampled_from(sorted(units))) if units else st.just(set())
    counts = {word: draw(st.integers(0, 10**6)) for word in draw(some)}
    return Vocabulary(units, size, frozenset(draw(some)), counts)


@given(vocabularies())
def test_a_vocabulary_that_was_written_is_read_back(tmp_path_factory, vocabulary):
    path = tmp_path_factory.mktemp("table") / "words.tsv"
    path.write_text(format_vocabulary(vocabulary), encoding="utf-8")
    assert vars(read_vocabulary(path)) == {
        "units": vocabulary.units, "size": vocabulary.size, "nouns": vocabulary.nouns, "counts": vocabulary.counts,
    }  # fmt: skip


def test_consecutive_units_are_written_as_a_run():
    units = {"dog": tuple(range(151, 269)), "helmet": (3, 560, 518), "red": (0, 1)}
    table = format_vocabulary(Vocabulary(units, 1000, frozenset({"dog"}), {"dog": 9}))
    assert table == "# units: 1000\nhelmet\t3 518 560\nred\t0-1\n# nouns\ndog\t151-268\t9\n"
    assert as_ranges([]) == ""


@pytest.mark.parametrize("word", ["", "#love", "a\tb", "a\nb", "a\u2028b", "cat\r"])
def test_a_word_that_cannot_be_written_to_a_table_is_refused(word):
    with pytest.raises(ValueError, match="cannot be written to a table"):
        format_vocabulary(Vocabulary({word: (0,)}, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"cat": (0, 0)}, 1), "a unit twice"),
        (({"cat": ()}, 1), "means units"),
        (({"cat": (0,)}, 1, frozenset({"dog"})), "'dog' is a noun or has a count, but means no unit"),
        (({"cat": (0,)}, 1, frozenset(), {"dog": 3}), "'dog' is a noun or has a count, but means no unit"),
        (({"cat": (0,)}, 1, frozenset(), {"cat": -1}), "'cat' has the count -1"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 3\n", "line 1"),
        ("cat\tthree\n", "line 1"),
        ("# units: 2\ncat\t5\n", r"words\.tsv: .* there are 2 units"),
        ("cat\t5-3\n", r"words\.tsv: .* means units \(\)"),
        ("cat\t0\tmany\n", "line 1"),
        ("cat\t0\t3\t3\n", "line 1"),
        ("cat\t0\n\ncat\t1\n", "line 3: expected a new word"),
        ("cat\t0-99999999999\n", "line 1"),
        ("# units: -1\n", "line 1"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, text, message):
    path = tmp_path / "words.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_vocabulary(str(path))


def test_a_missing_table_is_refused():
    with pytest.raises(ValueError, match="'nowhere' cannot be read"):
        read_vocabulary("nowhere")
