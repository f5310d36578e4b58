import json

import pytest

from train.counting import count_tags_of_photos, count_tags_of_shards
from train.data import TaggedPhoto, TaggedShards

PHOTOS = [
    TaggedPhoto("a", ("red", "sky"), source="one", phrases=(("red", "sky"), ("sky",))),
    TaggedPhoto("b", ("sky",), source="one"),
    TaggedPhoto("c", ("Sea", "sky"), source="two"),
    TaggedPhoto("d", ("sky",), source="two"),
    TaggedPhoto("e", (), source="two"),
]


def test_the_absence_of_a_tag_that_a_source_never_gives_is_no_evidence():
    counts = count_tags_of_photos(PHOTOS, size=10, least=1, lemmatise=False)
    assert counts.vocabulary.words == ("sky", "red", "sea")
    assert counts.photos == (2, 3)
    assert counts.with_phrases == 1
    assert counts.known.tolist() == [[True, True, False], [True, False, True], [True, True, True]]
    assert counts.frequencies.tolist() == pytest.approx([4 / 5, 1 / 2, 1 / 3])
    assert [counts.vocabulary.source_index(name) for name in ("one", "two", "three", "")] == [0, 1, 2, 2]


def test_shards_are_counted_once_for_each_choice_of_words(tmp_path, monkeypatch):
    shards = TaggedShards(("one", "two"), None)
    read = []

    def tags(self, url):
        read.append(url)
        return iter(PHOTOS[:2] if url == "one" else PHOTOS[2:])

    monkeypatch.setattr(TaggedShards, "tags", tags)
    path = tmp_path / "training" / "words.json"
    choice = {"size": 10, "least": 1, "lemmatise": False}
    counts = count_tags_of_shards(shards, path, **choice)
    assert counts == count_tags_of_photos(PHOTOS, **choice)
    assert count_tags_of_shards(shards, path, **choice) == counts
    assert read == ["one", "two"]
    few = count_tags_of_shards(shards, path, **choice | {"size": 2})
    assert few.vocabulary.words == ("sky", "red")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"photos": 3}))  # damaged
    assert count_tags_of_shards(shards, path, **choice | {"size": 2}) == few
    assert read == ["one", "two"] * 3
