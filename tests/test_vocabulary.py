import pytest
import torch

from grounding.records import Word
from grounding.vocabulary import Vocabulary, read_vocabulary


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
def test_words_that_say_nothing_are_not_there(word):
    assert word not in read_vocabulary("imagenet")


def test_neighbours_that_form_a_known_compound_are_one_word():
    vocabulary = Vocabulary({"space shuttle": (1,), "shuttle": (0,), "dog": (2,)}, 3)
    assert vocabulary.match(nouns("big", "space", "shuttle", "dog", "dog")) == (("space shuttle", "dog"), ("big",))
    assert vocabulary.match(nouns("shuttle", "space")) == (("shuttle",), ("space",))
    assert vocabulary.match([]) == ((), ())


def test_an_orange_dress_is_no_fruit_where_only_nouns_are_known():
    words = [Word("orange", False), Word("dress", True)]
    units = {"orange": (0,), "dress": (1,)}
    assert Vocabulary(units, 2, has_only_nouns=True).match(words) == (("dress",), ("orange",))
    assert Vocabulary(units, 2).match(words) == (("orange", "dress"), ())


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("# units: 12\ncat\t0-2 7\nrocket ship\t11\n", encoding="utf-8")
    vocabulary = read_vocabulary(str(path))
    assert vocabulary.units == {"cat": (0, 1, 2, 7), "rocket ship": (11,)}
    assert vocabulary.size == 12
    assert not vocabulary.has_only_nouns


@pytest.mark.parametrize(
    ("text", "message"),
    [("cat 3\n", "line 1"), ("cat\tthree\n", "line 1"), ("# units: 2\ncat\t5\n", "there are 2 units")],
)
def test_a_broken_table_is_refused(tmp_path, text, message):
    path = tmp_path / "words.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_vocabulary(str(path))


def test_a_missing_table_is_refused():
    with pytest.raises(ValueError, match="'nowhere' cannot be read"):
        read_vocabulary("nowhere")
