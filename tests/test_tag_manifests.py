import json

import pytest

from train.data import TaggedPhoto, read_tag_manifest
from train.manifests import write_caption_manifest, write_corel_manifest

ICE = ["A man eats ice cream .", "Two men with a dog .", "The dog runs , a man is eating ice creams ."]


@pytest.fixture
def photos(tmp_path):
    """A folder of two photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"")
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def adapt(captions, photos, **settings):
    output = photos.parent / "new" / "tags.jsonl"
    return rows_of(write_caption_manifest(str(captions), str(photos), str(output), **settings))


def test_words_of_most_captions_come_first(photos, tmp_path):
    captions = tmp_path / "captions.jsonl"
    captions.write_text(json.dumps({"image": "1.jpg", "captions": ICE}))
    (row,) = adapt(captions, photos, compounds=1)
    assert row == {
        "image": str(photos / "1.jpg"),
        "source": "captions",
        "tags": ["man", "eat", "ice cream", "ice", "cream", "dog", "two", "run"],
        "phrases": [["man"], ["ice cream"], ["two", "man"], ["dog"]],
    }
    assert "ice cream" not in adapt(captions, photos, compounds=2)[0]["tags"]
    (without,) = adapt(captions, photos, compounds=None)
    assert "ice cream" not in without["tags"]
    assert without["phrases"] == [["man"], ["ice", "cream"], ["two", "man"], ["dog"]]
    assert "phrases" not in adapt(captions, photos, phrases=False)[0]


@pytest.mark.parametrize(
    ("caption", "compounds"),
    [
        ("A man in a red T-shirt .", ["t shirt"]),
        ("A baseball player eats an ice cream cone .", ["baseball player", "ice cream cone", "ice cream"]),
        ("A three-year-old boy on a merry-go-round .", ["merry go round"]),
        ("A brown dog , cats , birds .", []),
        ("Jumping !", []),
    ],
)
def test_compounds_are_whole_nouns(photos, tmp_path, caption, compounds):
    (tmp_path / "captions.csv").write_text(f'image,caption\n1.jpg,"{caption}"\n')
    (row,) = adapt(tmp_path / "captions.csv", photos, compounds=1)
    assert [tag for tag in row["tags"] if " " in tag] == compounds
    assert "t" not in row["tags"]
    assert "be" not in row["tags"]
    assert {word for phrase in row["phrases"] for word in phrase} <= set(row["tags"])


def captions_in_csv(folder):
    path = folder / "captions.csv"
    path.write_text("image,caption\n2.jpg,A cat .\n1.jpg,A dog .\n2.jpg,A cat on a mat .\n3.jpg,A cow .\n")
    return path


def captions_of_coco(folder):
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)],
        "annotations": [
            {"image_id": 2, "caption": "A cat ."},
            {"image_id": 1, "caption": "A dog ."},
            {"image_id": 2, "caption": "A cat on a mat ."},
        ],
    }
    (folder / "captions.json").write_text(json.dumps(content))
    return folder / "captions.json"


def captions_of_entities(folder):
    sentences = folder / "Sentences"
    sentences.mkdir()
    (sentences / "1.txt").write_text("[/EN#12/animals A dog] .\n")
    (sentences / "2.txt").write_text("[/EN#1/animals A cat] .\n\n[/EN#1/animals A cat] on [/EN#0/notvisual a mat] .\n")
    (sentences / "3.txt").write_text("[/EN#3/animals A cow] .\n")
    return sentences


@pytest.mark.parametrize("source", [captions_in_csv, captions_of_coco, captions_of_entities])
def test_captions_are_read_in_the_formats_of_data_sets(photos, tmp_path, source, caplog):
    caplog.set_level("INFO")
    rows = adapt(source(tmp_path), photos)
    assert rows == [
        {"image": str(photos / "1.jpg"), "source": "captions", "tags": ["dog"], "phrases": [["dog"]]},
        {"image": str(photos / "2.jpg"), "source": "captions", "tags": ["cat", "mat"], "phrases": [["cat"], ["mat"]]},
    ]
    assert "1 of 3 photos are not there, left out" in caplog.text
    assert "2 photos, 3 different tags" in caplog.text


def test_a_split_and_sizes_are_read_from_files(photos, tmp_path):
    (tmp_path / "val.txt").write_text("2\n3\n")
    (tmp_path / "sizes.tsv").write_text("id\twidth\theight\n1\t40\t30\n2\t50\t20\n")
    output = tmp_path / "tags.jsonl"
    settings = {"names": str(tmp_path / "val.txt"), "sizes": str(tmp_path / "sizes.tsv")}
    write_caption_manifest(str(captions_in_csv(tmp_path)), str(photos), str(output), **settings)
    assert rows_of(output) == [
        {
            "image": "photos/2.jpg",
            "source": "captions",
            "tags": ["cat", "mat"],
            "phrases": [["cat"], ["mat"]],
            "width": 50,
            "height": 20,
        }
    ]
    assert read_tag_manifest(str(output), first=1).photos == [
        TaggedPhoto("photos/2.jpg", ("cat",), (20, 50), "captions", (("cat",), ("mat",)))
    ]
    (tmp_path / "sizes.tsv").write_text("id,width,height\n1,40,30\n")
    with pytest.raises(ValueError, match=r"sizes\.tsv: has no size of 2\.jpg"):
        write_caption_manifest(str(captions_in_csv(tmp_path)), str(photos), str(output), **settings)
    (tmp_path / "sizes.tsv").write_text("id\twidth\n1\t40\n")
    with pytest.raises(ValueError, match=r"sizes\.tsv: expected a header id, width, height"):
        write_caption_manifest(str(captions_in_csv(tmp_path)), str(photos), str(output), **settings)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.jsonl", '{"image": "1.jpg", "text": "A dog"}', "line 1: expected image and caption .* found image, text"),
        ("c.jsonl", '{"image": "1.jpg", "captions": [3]}', "line 1: a caption is text"),
        ("c.jsonl", '{"image": "1.jpg", "caption": "\\ud800"}', "line 1: a caption is text"),
        ("c.json", "{}", "these are not captions as COCO writes them"),
        ("c.json", '{"images": [], "annotations": []}', "no caption in it"),
        ("c.csv", "image,caption\nx.jpg,A dog\n", r"none of the 1 photos with words is there, such as x\.jpg"),
        ("c.xml", "<a/>", "a table of photos is a file"),
    ],
)
def test_captions_that_make_no_sense_are_refused(photos, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        adapt(tmp_path / name, photos)
    with pytest.raises(ValueError, match=r"output is a file \.jsonl"):
        write_caption_manifest(str(tmp_path / name), str(photos), str(tmp_path / "tags.csv"))


@pytest.fixture
def corel(tmp_path):
    """Three photos, one of them not there, and four words."""
    for name in ("images_train", "images_test", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "images_train" / "1000.jpeg").write_bytes(b"")
    (tmp_path / "images_test" / "7.jpeg").write_bytes(b"")
    (tmp_path / "labels" / "words").write_bytes(b"city\r\nmountain\r\nsky\r\nsun\r\n")
    (tmp_path / "labels" / "training_label").write_text("1000 2 4 1  \n1001 3\n")
    (tmp_path / "labels" / "test_label").write_text("7 4 3 \n")
    return tmp_path


def test_keywords_of_corel_keep_their_order(corel):
    rows = rows_of(write_corel_manifest(str(corel), str(corel / "tags.jsonl")))
    train = {"image": "images_train/1000.jpeg", "source": "corel", "tags": ["mountain", "sun", "city"]}
    test = {"image": "images_test/7.jpeg", "source": "corel", "tags": ["sun", "sky"]}
    assert rows == [test, train]
    assert rows_of(write_corel_manifest(str(corel), str(corel / "tags.jsonl"), split="train")) == [train]
    assert rows_of(write_corel_manifest(str(corel), str(corel / "tags.jsonl"), split="test")) == [test]


@pytest.mark.parametrize("line", ["7 5", "7 0", "7 sky"])
def test_labels_of_corel_that_make_no_sense_are_refused(corel, line):
    (corel / "labels" / "test_label").write_text(line)
    with pytest.raises(ValueError, match=r"test_label: expected numbers from 1 to 4, got '7"):
        write_corel_manifest(str(corel), str(corel / "tags.jsonl"))
    with pytest.raises(ValueError, match="split must be one of all, train, test, got 'val'"):
        write_corel_manifest(str(corel), str(corel / "tags.jsonl"), split="val")
    with pytest.raises(ValueError, match="words: cannot be read: No such file"):
        write_corel_manifest(str(corel / "nowhere"), str(corel / "tags.jsonl"))
    assert not (corel / "tags.jsonl").exists()
