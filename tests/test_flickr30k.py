import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eval.flickr30k import (
    TYPES,
    annotated_photos,
    find_photos,
    instances,
    load_photo,
    read_annotations,
    read_sentences,
    read_unrelated,
)
from grounding.images import stretch
from grounding.photos import Photos

SENTENCES = """\
[/EN#1/people A man] throws [/EN#2/other the ball] to [/EN#0/notvisual it] .
[/EN#3/scene/vehicles A train] , no ( brackets ) " here " .
"""
ANNOTATIONS = """\
<annotation>
  <filename>7.jpg</filename><size><width>40</width><height>20</height><depth>3</depth></size>
  <object><name>1</name><name>4</name>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>20</ymax></bndbox></object>
  <object><name>1</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>3</xmax><ymax>9</ymax></bndbox></object>
  <object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object>
  <object><name>2</name><scene>0</scene><nobndbox>1</nobndbox></object>
</annotation>
"""


@pytest.fixture
def entities(tmp_path):
    """The annotations of two photos of 40×20 pixels, whose copies are squashed to 10×10."""
    root = tmp_path / "entities"
    (root / "Annotations").mkdir(parents=True)
    (root / "Sentences").mkdir()
    (tmp_path / "photos").mkdir()
    for name in ("7", "10"):
        (root / "Annotations" / f"{name}.xml").write_text(ANNOTATIONS)
        (root / "Sentences" / f"{name}.txt").write_text(SENTENCES)
        halves = Image.new("RGB", (10, 10), "black")
        halves.paste("white", (5, 0, 10, 10))
        halves.save(tmp_path / "photos" / f"{name}.jpg", quality=100)
    (root / "val.txt").write_text("10\n")
    return root


def test_captions_lose_their_markup_and_keep_their_tokens(entities):
    first, second = read_sentences(entities / "Sentences" / "7.txt")
    assert first.text == "A man throws the ball to it ."
    assert second.text == 'A train , no ( brackets ) " here " .'
    assert [(phrase.text, phrase.chain, phrase.types) for phrase in (*first.phrases, *second.phrases)] == [
        ("A man", "1", ("people",)),
        ("the ball", "2", ("other",)),
        ("it", "0", ("notvisual",)),
        ("A train", "3", ("scene", "vehicles")),
    ]


TOKENS = st.lists(st.sampled_from(["a", "man", "'s", ",", "é", "T-shirt", "(", "/", "#7"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(TOKENS, st.booleans()), min_size=1, max_size=6))
def test_every_span_cuts_its_phrase_from_the_sentence(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "sentences.txt"
    texts = [" ".join(tokens) for tokens, _ in parts]
    marked = [
        f"[/EN#{i}/other {text}]" if is_phrase else text
        for i, (text, (_, is_phrase)) in enumerate(zip(texts, parts, strict=True))
    ]
    path.write_text(" ".join(marked), encoding="utf-8")
    (sentence,) = read_sentences(path)
    assert sentence.text == " ".join(texts)
    assert len(sentence.phrases) == sum(is_phrase for _, is_phrase in parts)
    for phrase in sentence.phrases:
        assert sentence.text[slice(*phrase.span)] == phrase.text == texts[int(phrase.chain)]


def test_boxes_are_zero_based_with_exclusive_ends(entities):
    found = read_annotations(entities / "Annotations" / "7.xml")
    assert found.size == (20, 40)
    assert {chain: boxes.tolist() for chain, boxes in found.boxes.items()} == {
        "1": [[0, 0, 40, 20], [2, 4, 3, 9]],
        "4": [[0, 0, 40, 20]],
    }
    assert found.scenes == {"3"}
    assert found.boxless == {"2", "3"}


def test_photos_come_in_the_order_of_their_numbers_with_the_phrases_that_have_boxes(entities, tmp_path):
    photos = find_photos(tmp_path / "photos", entities)
    assert [photo.name for photo in photos] == ["7", "10"]
    assert [photo.name for photo in find_photos(tmp_path / "photos", entities, split="val")] == ["10"]
    assert [photo.name for photo in find_photos(tmp_path / "photos", entities, split=entities / "val.txt")] == ["10"]
    ((phrase, boxes),) = photos[0].phrases_with_boxes()
    assert phrase.text == "A man"
    assert boxes.shape == (2, 4)


def test_instances_are_the_phrases_that_have_boxes(entities, tmp_path):
    (entities / "Sentences" / "7.txt").write_text(
        "[/EN#0/notvisual It] rains .\n[/EN#2/other The ball] hits [/EN#4/scene/vehicles two red trains] .\n"
        + SENTENCES
    )
    photo = find_photos(tmp_path / "photos", entities)[0]
    trains, man = instances(photo)
    assert (trains.photo, trains.size, trains.sentence, trains.phrase) == ("7", (20, 40), 1, 1)
    assert (trains.text, trains.chain, trains.types) == ("two red trains", "4", ("scene", "vehicles"))
    assert photo.sentences[1].text[slice(*trains.span)] == "two red trains"
    assert trains.boxes.tolist() == [[0, 0, 40, 20]]
    assert (trains.label, trains.is_parsed) == ("two red trains", True)
    assert (man.sentence, man.phrase, man.text, man.label, len(man.boxes)) == (2, 0, "A man", "man", 2)
    assert [(one.text, len(one.boxes)) for one in (trains, man)] == [
        (phrase.text, len(boxes)) for phrase, boxes in photo.phrases_with_boxes()
    ]


def test_annotated_photos_have_the_annotated_sizes(entities, tmp_path):
    found = annotated_photos(str(tmp_path / "photos"), str(entities), split="val")
    assert isinstance(found, Photos)
    assert (found.folder, found.names, found.sizes) == (tmp_path / "photos", ["10.jpg"], {"10.jpg": (20, 40)})
    assert [photo.name for photo in found.photos] == ["10"]


def test_unrelated_captions_are_marked_and_kept(entities, tmp_path):
    assert find_photos(tmp_path / "photos", entities)[0].unrelated == frozenset()  # without the list, none is known
    (entities / "UNRELATED_CAPTIONS").write_text("# format: <imageID> <sentence number>\n7 2\n10 1\n\n7 1")
    assert read_unrelated(entities / "UNRELATED_CAPTIONS") == {("7", 1), ("10", 0), ("7", 0)}
    first, second = find_photos(tmp_path / "photos", entities)
    assert (first.unrelated, second.unrelated) == ({0, 1}, {0})
    assert len(first.sentences) == 2


@pytest.mark.parametrize("line", ["7", "7 0", "7 x", "7 -1", "7 1 2"])
def test_a_malformed_list_of_unrelated_captions_is_refused(tmp_path, line):
    (tmp_path / "list").write_text(f"# a\n{line}\n")
    with pytest.raises(ValueError, match=r"list, line 2: expected a photo and the number of a sentence"):
        read_unrelated(tmp_path / "list")


def test_unknown_types_are_refused(entities):
    path = entities / "Sentences" / "7.txt"
    path.write_text("".join(f"[/EN#1/{kind} A man] .\n" for kind in (*TYPES, "notvisual")))
    assert [sentence.phrases[0].types for sentence in read_sentences(path)] == [
        (kind,) for kind in (*TYPES, "notvisual")
    ]
    path.write_text("A man .\n[/EN#1/people/poeple A man] .\n")
    with pytest.raises(ValueError, match=r"7\.txt, line 2: unknown type 'poeple'; types are people, .* and notvisual"):
        read_sentences(path)


@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_stretching_gives_the_size_in_8_bits_and_leaves_a_photo_of_that_size_alone(before, after):
    image = torch.rand(3, *before, generator=torch.Generator().manual_seed(0))
    stretched = stretch(image, after)
    assert stretched.shape == (3, *after)
    assert stretch(stretched, after) is stretched
    if before != after:
        assert torch.equal((stretched * 255).round() / 255, stretched)
    grey = torch.full((3, *before), 0.2)
    assert torch.equal(stretch(grey, after), torch.full((3, *after), 0.2))


def test_a_squashed_copy_is_stretched_until_the_boxes_fit(entities, tmp_path):
    photo = find_photos(tmp_path / "photos", entities)[0]
    image = load_photo(photo)
    assert image.shape == (3, 20, 40)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[:, :, :18].max() < 0.1
    assert image[:, :, 22:].min() > 0.9


@pytest.mark.parametrize("width", [40, 400])
def test_a_photo_of_its_own_size_is_left_alone_and_a_larger_one_averaged(entities, tmp_path, width):
    stripes = torch.arange(width) % 2 * 255
    pixels = stripes.byte().expand(width // 2, width).numpy()
    Image.fromarray(pixels).save(tmp_path / "photos" / "7.jpg", quality=100)
    image = load_photo(find_photos(tmp_path / "photos", entities)[0])
    assert image.shape == (3, 20, 40)
    if width == 40:
        assert torch.equal(image[0].round() * 255, stripes.expand(20, 40))
    else:
        assert (image - 0.5).abs().max() < 0.05  # the stripes average out


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Sentences/7.txt", None, r"7\.txt: No such file.*one for each of its photos"),
        ("Sentences/7.txt", b"\xff", r"7\.txt: not text in UTF-8"),
        ("Sentences/7.txt", b"\n", r"7\.txt: no caption"),
        ("Sentences/7.txt", b"A man .\n[/EN#1 A man] .", r"7\.txt, line 2: expected phrases marked"),
        ("Sentences/7.txt", b"[/EN#1/people A man", r"7\.txt, line 1: expected phrases marked"),
        ("Annotations/7.xml", None, r"7\.xml: No such file"),
        ("Annotations/7.xml", b"<annotation>", r"7\.xml: these are not annotations of Flickr30k Entities: no element"),
        ("Annotations/7.xml", b"<annotation/>", r"7\.xml: .*no size/height in <annotation>"),
        ("Annotations/7.xml", ANNOTATIONS.replace(">20</h", ">tall</h").encode(), r"7\.xml: .*'tall'"),
        ("Annotations/7.xml", ANNOTATIONS.replace(">20</h", ">0</h").encode(), r"7\.xml: .*no photo has 40×0 pixels"),
        ("Annotations/7.xml", ANNOTATIONS.replace(">40</xmax", ">41</xmax").encode(), r"7\.xml: .*not within 40×20"),
        ("Annotations/7.xml", ANNOTATIONS.replace(">3</xmax", ">nan</xmax").encode(), r"7\.xml: .*box 3 5 nan 9"),
        ("Annotations/7.xml", ANNOTATIONS.replace("<ymax>9</ymax>", "").encode(), r"7\.xml: .*no bndbox/ymax"),
        ("Annotations/7.xml", b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', r"7\.xml: .*document type is not allowed"),
        ("val.txt", b"10 11 12", r"photos: lacks 2 of the 3 photos of val, such as 11\.jpg"),
        ("val.txt", None, r"val: No such file"),
        ("val.txt", b"", r"photos: no photo in it"),
    ],
)
def test_a_missing_or_broken_file_is_named_in_one_line(entities, tmp_path, file, content, message):
    path = entities / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        find_photos(tmp_path / "photos", entities, split="val" if file == "val.txt" else None)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_named(entities, tmp_path):
    with pytest.raises(ValueError, match=r"photos: no folder Annotations in it; name the folder in which"):
        find_photos(tmp_path / "photos", tmp_path / "photos")
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        find_photos(tmp_path / "nowhere", entities)


def test_an_unreadable_photo_is_named(entities, tmp_path):
    (tmp_path / "photos" / "7.jpg").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"7\.jpg: not an image"):
        load_photo(find_photos(tmp_path / "photos", entities)[0])
