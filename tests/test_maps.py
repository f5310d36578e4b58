from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grounding.attention import Centre, ExcitationBackprop
from grounding.devices import find_device
from grounding.maps import PhraseWords, WordAttention, match_words, phrase_map, phrase_reached
from grounding.models import Classifier
from grounding.phrases import noun_phrases
from grounding.understanding import Understanding
from grounding.vocabulary import Vocabulary

WORDS = {"man": (0,), "red": (1,), "shirt": (2,), "dog": (3,)}
CAPTION = "A man in a red shirt with a dog"


def word_maps(seed):
    generator = torch.Generator().manual_seed(seed)
    return {word: torch.rand(3, 4, generator=generator) for word in WORDS}


@pytest.fixture(scope="module")
def attention():
    """A small classifier of four words that sees the whole photo."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 4),
    )  # fmt: skip
    classifier = Classifier(network, Vocabulary(WORDS, 4), "1", None, (0, 0, 0), (1, 1, 1), short_side=32)
    return WordAttention(classifier, ExcitationBackprop, device="cpu")


def test_the_words_of_a_phrase_and_of_its_clothing_are_found():
    phrases = noun_phrases(CAPTION)
    vocabulary = Vocabulary(WORDS, 4)
    man, shirt, dog = match_words(phrases, [CAPTION], Understanding(vocabulary), with_clothing=True)
    assert man == PhraseWords(("man",), (), ("red", "shirt"), "being")
    assert shirt.clothing == dog.clothing == ()
    assert man.attended == ("man", "red", "shirt")
    assert match_words(phrases, [CAPTION], Understanding(vocabulary), with_clothing=False)[0].clothing == ()


@given(st.integers(0, 999))
def test_the_map_of_a_phrase_is_the_mean_of_its_words(seed):
    maps = word_maps(seed)
    expected = sum(maps[word] for word in ("red", "shirt")) / 2
    torch.testing.assert_close(phrase_map(maps, PhraseWords(("red", "shirt"))), expected)
    assert phrase_map(maps, PhraseWords((), ("quiddity",))) is None


@given(st.integers(0, 999), st.sampled_from([0.25, 0.6, 2.0]))
def test_clothing_is_added_at_its_weight(seed, weight):
    maps = word_maps(seed)
    man, clothing = maps["man"], (maps["red"] + maps["shirt"]) / 2
    found = phrase_map(maps, PhraseWords(("man",), clothing=("red", "shirt")), clothing_weight=weight)
    expected = man / man.sum() + weight * clothing / clothing.sum()
    torch.testing.assert_close(found, expected / (1 + weight))
    alone = phrase_map(maps, PhraseWords(("man",)), clothing_weight=weight)
    torch.testing.assert_close(alone, man / man.sum())


def test_word_maps_are_clipped_before_their_mean_is_taken(attention):
    """The paper averages clipped maps (6.3.1); the mean of unclipped ones, and the maximum, are other maps."""
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(1))
    (found,) = attention([attention.prepare(image)], [["red", "shirt"]])
    (unclipped,) = attention.method.unclipped(attention.prepare(image)[None], [torch.tensor([1, 2])])
    clipped = unclipped.clamp(min=0)
    both = phrase_map(found.maps, PhraseWords(("red", "shirt")))
    torch.testing.assert_close(both, clipped.mean(0))
    assert not torch.allclose(both, clipped.amax(0), rtol=1e-3, atol=0)
    assert not torch.allclose(both, unclipped.mean(0).clamp(min=0), rtol=1e-3, atol=0)


def test_photos_of_several_sizes_are_attended_as_if_alone(attention):
    generator = torch.Generator().manual_seed(2)
    images = [attention.prepare(torch.rand(3, *size, generator=generator)) for size in ((32, 48), (40, 32), (32, 48))]
    words = [["man", "dog", "man"], [], ["shirt"]]
    together = attention(images, words)
    assert [list(found.maps) for found in together] == [["man", "dog"], [], ["shirt"]]
    for image, photo_words, found in zip(images, words, together, strict=True):
        (alone,) = attention([image], [photo_words])
        for word, one in alone.maps.items():
            torch.testing.assert_close(found.maps[word], one)


def test_words_know_what_share_of_the_probability_reached_their_maps(attention):
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(3))
    (found,) = attention([attention.prepare(image)], [["man", "red"]])
    assert found.reached.keys() == {"man", "red"}
    mwp = WordAttention(attention.classifier, partial(ExcitationBackprop, contrastive=False), device="cpu")
    (winning,) = mwp([attention.prepare(image)], [["man", "red"]])
    for word, reached in found.reached.items():
        assert 0 < reached <= 1
        assert reached == pytest.approx(float(winning.maps[word].sum()), rel=1e-5)
    (without,) = WordAttention(attention.classifier, Centre, device="cpu")([attention.prepare(image)], [["man"]])
    assert without.reached == {}


def test_reached_is_the_mean_over_the_words_that_have_it():
    assert phrase_reached({"red": 0.1, "shirt": 0.3}, PhraseWords(("red", "shirt"))) == pytest.approx(0.2)
    assert phrase_reached({}, PhraseWords(("red",))) is None
    assert phrase_reached({"red": 0.1}, PhraseWords(())) is None


def test_a_device_that_is_not_there_is_refused():
    assert find_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        find_device("abacus")
