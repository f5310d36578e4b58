import pytest
from hypothesis import given
from hypothesis import strategies as st

from grounding.phrases import clothing_phrases, noun_phrases, says_wearing, whole_phrase
from grounding.records import Word


def test_noun_phrases_have_their_words():
    first, second, third = noun_phrases("A man in a red hat throws his two balls.")
    assert (first.text, first.words) == ("A man", (Word("man", True),))
    assert (second.text, second.words) == ("a red hat", (Word("red", False), Word("hat", True)))
    assert [word.lemma for word in third.words] == ["two", "ball"]


def test_a_pronoun_alone_is_no_phrase():
    assert [phrase.text for phrase in noun_phrases("She holds it near the dog.")] == ["the dog"]


@pytest.mark.parametrize("caption", ["Running fast.", "!!! ...", "🙂🙂", "Yes"])
def test_captions_without_a_noun_are_read(caption):
    assert all(phrase.text in caption for phrase in noun_phrases(caption))


@pytest.mark.parametrize(
    "caption", ["Ein Hund läuft über die Wiese.", "一只猫坐在桌子上", "Кошка сидит на столе", "قطة على الطاولة"]
)
def test_captions_in_other_languages_are_read(caption):
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
def test_other_input_than_captions_is_refused(caption, message):
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
def test_these_words_between_phrases_say_that_one_wears_the_other(between):
    assert says_wearing(between)


@pytest.mark.parametrize("between", ["", "and", "with", "in front of", "is", "standing in", "in the", "swears", ", in"])
def test_other_words_between_phrases_do_not(between):
    assert not says_wearing(between)


def test_clothing_is_looked_for_within_each_caption():
    captions = ["A man in a red shirt", "A woman wearing a hat", "Yes."]
    phrases = [phrase for index, caption in enumerate(captions) for phrase in noun_phrases(caption, index=index)]
    clothing = clothing_phrases(phrases, captions)
    assert [each and each.text for each in clothing] == ["a red shirt", None, "a hat", None]
