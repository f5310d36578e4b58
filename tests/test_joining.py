"""Manifests of several sources become one, with tags in the form in which phrases are matched."""

import json

import pytest
from PIL import Image

from train.data import read_tag_manifest
from train.joining import join_manifests


def write_manifest(folder, source, tags, **columns):
    folder.mkdir()
    Image.new("RGB", (4, 3)).save(folder / "photo.png")
    row = {"image": "photo.png", "source": source, "tags": tags, **columns}
    (folder / "tags.jsonl").write_text(json.dumps(row) + "\n")
    return str(folder / "tags.jsonl")


def test_sources_share_their_words_and_keep_their_names(tmp_path):
    captions = write_manifest(tmp_path / "a", "captions", ["shoe", "colored", "man"], width=40, height=30)
    clothing = write_manifest(tmp_path / "b", "clothing", ["shoes", "T-shirt", "shoe"])
    joined = join_manifests([captions, clothing], str(tmp_path / "new" / "all.jsonl"))
    first, second = read_tag_manifest(str(joined), first=None).photos
    assert (first.source, first.tags, first.size) == ("captions", ("shoe", "colored", "man"), (30, 40))
    assert (second.source, second.tags, second.size) == ("clothing", ("shoe", "t shirt"), None)
    assert first.name == str(tmp_path / "a" / "photo.png")


def test_phrases_are_carried_along_in_the_form_of_the_tags(tmp_path):
    phrases = [["colored", "shoe"], ["man"]]
    captions = write_manifest(tmp_path / "a", "captions", ["shoe", "colored", "man"], phrases=phrases)
    shop = write_manifest(tmp_path / "b", "shop", ["shoes"], phrases=[["Red", "shoes"], ["shoe", "shoes"]])
    without = write_manifest(tmp_path / "c", "clothing", ["shoes"])
    joined = join_manifests([captions, shop, without], str(tmp_path / "all.jsonl"))
    found = [photo.phrases for photo in read_tag_manifest(str(joined), first=None).photos]
    assert found == [(("colored", "shoe"), ("man",)), (("red", "shoe"), ("shoe",)), ()]
    assert "phrases" not in json.loads(joined.read_text().splitlines()[2])


def test_what_cannot_be_joined_is_refused(tmp_path):
    manifest = write_manifest(tmp_path / "a", "captions", ["shoe"])
    with pytest.raises(ValueError, match="a list of files"):
        join_manifests([], str(tmp_path / "all.jsonl"))
    with pytest.raises(ValueError, match="a list of files"):
        join_manifests(manifest, str(tmp_path / "all.jsonl"))
    with pytest.raises(ValueError, match=r"output is a file \.jsonl"):
        join_manifests([manifest], str(tmp_path / "all.csv"))
    with pytest.raises(ValueError, match=r"missing\.jsonl"):
        join_manifests([manifest, str(tmp_path / "missing.jsonl")], str(tmp_path / "all.jsonl"))
    assert not (tmp_path / "all.jsonl").exists()
