import pytest
from hypothesis import given
from hypothesis import strategies as st

from grounding.phrases import noun_phrases, says_wearing, whole_phrase
from grounding.records import Word


def test_noun_phrases_with_their_words():
    first, second, third = noun_phrases("A man in a red hat throws his two balls.")
    assert (first.text, first.words) == ("A man", (Word("man", True),))
    assert (second.text, second.words) == ("a red hat", (Word("red", False), Word("hat", True)))
    assert [word.lemma for word in third.words] == ["two", "ball"]


def test_a_pronoun_alone_is_no_phrase():
    assert [phrase.text for phrase in noun_phrases("She holds it near the dog.")] == ["the dog"]


@pytest.mark.parametrize("caption", ["Running fast.", "!!! ...", "🙂🙂", "Yes"])
def test_captions_without_a_noun_do_no_harm(caption):
    assert all(phrase.text in caption for phrase in noun_phrases(caption))


@pytest.mark.parametrize(
    "caption", ["Ein Hund läuft über die Wiese.", "一只猫坐在桌子上", "Кошка сидит на столе", "قطة على الطاولة"]
)
def test_other_languages_are_read_without_harm(caption):
    for phrase in noun_phrases(caption):
        assert caption[slice(*phrase.span)] == phrase.text


@given(st.text(min_size=1).filter(str.strip))
def test_every_span_cuts_its_text_from_the_caption(caption):
    for phrase in noun_phrases(caption, index=2):
        assert caption[slice(*phrase.span)] == phrase.text
        assert phrase.caption == 2
        assert all(word.lemma == word.lemma.lower() for word in phrase.words)


def test_very_long_captions_are_read():
    assert len(noun_phrases("A dog sees a cat. " * 500)) == 1000


@pytest.mark.parametrize(
    ("caption", "message"), [("", "empty"), (" \n", "empty"), (3, "got int"), ("a " * 600_000, "characters")]
)
def test_what_is_no_caption_is_refused(caption, message):
    with pytest.raises(ValueError, match=message):
        noun_phrases(caption)


def test_a_given_phrase_is_taken_whole():
    phrase = whole_phrase("the small dogs on the left")
    assert phrase.span == (0, 26)
    assert "dog" in [word.lemma for word in phrase.words]
    with pytest.raises(ValueError, match="the phrase is empty"):
        whole_phrase("  ")


@pytest.mark.parametrize(
    "between", ["in", " wearing ", "is wearing", "are  dressed in", "who is in", "Wears", "clad in"]
)
def test_a_phrase_wears_what_follows_these_words(between):
    assert says_wearing(between)


@pytest.mark.parametrize("between", ["", "and", "with", "in front of", "is", "standing in", "in the", "swears", ", in"])
def test_a_phrase_does_not_wear_what_follows_others(between):
    assert not says_wearing(between)
