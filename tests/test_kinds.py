import pytest

from grounding.kinds import KINDS, TABLE, kind_of
from grounding.phrases import whole_phrase


@pytest.mark.parametrize(
    ("phrase", "kind"),
    [
        ("a man", "being"),
        ("two brown dogs", "being"),
        ("a crowd", "being"),
        ("a red shirt", "part"),
        ("blue jeans", "part"),
        ("his left hand", "part"),
        ("green grass", "scene"),
        ("a city street", "scene"),
        ("a brick building", "scene"),
        ("a wooden table", "object"),
        ("a dog bowl", "object"),  # the last noun counts
        ("a frobnicator", "object"),
        ("red", None),
        ("the other", None),
    ],
)
def test_the_kind_of_a_phrase_is_that_of_its_last_noun(phrase, kind):
    assert kind_of(whole_phrase(phrase).words) == kind


def test_the_table_holds_each_noun_once_with_a_kind():
    lines = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    nouns = [noun for noun, _ in lines]
    assert len(set(nouns)) == len(nouns) > 10_000
    assert {kind for _, kind in lines} == set(KINDS) - {"object"}
