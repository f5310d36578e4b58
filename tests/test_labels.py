import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.labels import WORDLESS, Label, read_labels


def label(sentence, phrase):
    start = sentence.index(phrase)
    ((found,),) = read_labels([sentence], [[(start, start + len(phrase))]])
    return found


@pytest.mark.parametrize(
    ("sentence", "phrase", "expected"),
    [
        ("A young man in a red shirt is smiling .", "A young man", Label("young man", True)),
        ("A young man in a red shirt is smiling .", "man", Label("man", False)),
        ("A young man in a red shirt is smiling .", "a red shirt", Label("red shirt", True)),
        ("Two men with 3 dogs and one cat are walking .", "Two men", Label("two men", True)),
        ("Two men with 3 dogs and one cat are walking .", "3 dogs", Label("3 dogs", True)),
        ("Two men with 3 dogs and one cat are walking .", "one cat", Label("cat", True)),
        ("A group of people in London laughs .", "A group of people", Label("group of people", False)),
        ("She looks at it with her sister .", "it", Label(WORDLESS, True)),
        ("She looks at it with her sister .", "her sister", Label("sister", True)),
    ],
)
def test_nouns_adjectives_prepositions_and_numbers_above_one_count(sentence, phrase, expected):
    assert label(sentence, phrase) == expected


def test_tokens_are_those_of_the_sentence_rather_than_of_the_parser():
    assert label("A man wears a t-shirt/jacket outside .", "a t-shirt/jacket").text == "t-shirt/jacket"
    assert label("A  man   smiles .", "A  man").is_parsed  # however many spaces


def test_labels_follow_the_order_of_sentences_and_phrases():
    found = read_labels(["A dog runs .", "Stop !", "A cat sees a bird ."], [[(0, 5)], [], [(11, 17), (0, 5)]])
    assert [[label.text for label in labels] for labels in found] == [["dog"], [], ["bird", "cat"]]
    assert read_labels([], []) == []


WORDS = st.lists(st.sampled_from(["a", "man", "two", "1", "red", "of", "'s", ",", "É", "(", "it", "#"]), min_size=1)


@settings(max_examples=30)
@given(WORDS, st.data())
def test_a_label_consists_of_words_of_its_phrase_in_order_or_is_the_placeholder(words, data):
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    start = len(" ".join([*words[:first], ""]))
    span = (start, start + len(" ".join(words[first : last + 1])))
    ((found,),) = read_labels([" ".join(words)], [[span]])
    rest = iter(word.lower() for word in words[first : last + 1])
    assert found.text == WORDLESS or all(word in rest for word in found.text.split(" "))
    assert "1" not in found.text.split()
