"""The description of the photos that a result is measured on."""

import pytest
from small_flickr30k import write_photos

from eval.flickr30k import annotated_photos
from eval.measured import describe_photos, find_instances, flickr8k_val, split_of
from eval.result import Composition


@pytest.fixture
def folder(tmp_path, examples):
    write_photos(tmp_path, examples)
    return tmp_path


@pytest.fixture
def photos(folder):
    return annotated_photos(folder / "photos", folder / "entities")


def test_photos_are_counted_and_their_composition_measured(folder, photos):
    things = find_instances(photos)
    found = describe_photos(photos, things, name="flickr30k", entities_folder=folder / "entities")
    assert (found.name, found.split, found.photos, found.captions, found.phrases) == ("flickr30k", None, 2, 3, 6)
    centre = {"A man", "The man", "an orange suit", "A tabby cat"}
    assert centre < {thing.text for thing in things}
    assert found.composition == Composition(animals=1 / 6, centre_in_box=4 / 6)
    assert found.flickr8k is None


def test_the_split_of_photos_is_named(folder, photos):
    entities = folder / "entities"
    assert split_of(photos, entities) is None
    for listed, split in (("1\n2\n", "val"), ("1\n2\n7\n", "part of val"), ("1\n7\n", None)):
        (entities / "val.txt").write_text(listed)
        assert split_of(photos, entities) == split


def test_photos_of_val_that_are_in_flickr8k_are_counted(folder, photos, monkeypatch):
    things = find_instances(photos)
    (folder / "entities" / "val.txt").write_text("1\n2\n")
    for known, share in ((set(), 0), ({"1"}, 0.5), ({"1", "2"}, 1)):
        monkeypatch.setattr("eval.measured.flickr8k_val", lambda known=known: known)
        found = describe_photos(photos, things, name="flickr30k", entities_folder=folder / "entities")
        assert found.flickr8k == share


def test_flickr8k_has_a_quarter_of_val():
    assert len(flickr8k_val()) == 247
    assert "1077546505" in flickr8k_val()


def test_photos_without_a_boxed_phrase_cannot_be_measured(folder):
    for path in (folder / "entities" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>", "<name>9"))
    with pytest.raises(ValueError, match="no phrase of these 2 photos has a box"):
        find_instances(annotated_photos(folder / "photos", folder / "entities"))
