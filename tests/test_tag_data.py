import gzip
import io
import json
import tarfile
from dataclasses import replace

import fsspec
import pytest

from grounding.photos import photos_listed
from train.data import TaggedPhoto, TaggedPhotos, find_shards, hold_out, read_tag_folder, read_tag_manifest

HEADER = tarfile.BLOCKSIZE


@pytest.fixture
def photos(tmp_path):
    """A folder of a.jpg, b.png and more/c.jpg."""
    (tmp_path / "more").mkdir()
    for name in ("a.jpg", "b.png", "more/c.jpg"):
        (tmp_path / name).write_bytes(b"pixels of " + name.encode())
    return tmp_path


ROWS = [("a.jpg", ["dog", "grass"], (30, 40)), ("more/c.jpg", [], None), ("gone.jpg", ["cat"], None)]
AS_JSON = """
{"image": "a.jpg", "tags": ["dog", " grass ", "", "dog"], "width": 40, "height": 30, "more": 1}
{"image": "more/c.jpg", "tags": []}
{"image": "gone.jpg", "tags": "cat"}
"""
AS_TABLE = '\ufeffimage,tags,width,height\na.jpg,"dog, grass;;dog",40,30\nmore/c.jpg,,,\ngone.jpg,cat,,\n'


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "image": [name for name, _, _ in ROWS],
        "tags": [tags for _, tags, _ in ROWS],
        "width": [40, None, None],
        "height": [30, None, None],
    }
    parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_manifest_lists_tagged_photos_and_says_which_are_missing(photos, kind):
    manifest = photos / f"tags.{kind}"
    if kind == "parquet":
        write_parquet(manifest)
    else:
        manifest.write_text(AS_JSON if kind == "jsonl" else AS_TABLE, encoding="utf-8")
    listed = read_tag_manifest(str(manifest), first=None)
    assert listed.photos == [TaggedPhoto("a.jpg", ("dog", "grass"), (30, 40)), TaggedPhoto("more/c.jpg", ())]
    assert listed.missing == ("gone.jpg",)
    assert len(listed) == 2
    assert listed.path(1) == photos / "more" / "c.jpg"
    assert [photo.tags for photo in read_tag_manifest(str(manifest), first=1).photos] == [("dog",), ()]
    assert photos_listed(str(manifest)).names == ["a.jpg", "more/c.jpg", "gone.jpg"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_manifest_may_have_phrases(photos, kind):
    phrases = [[["red", "dog"], ["grass"], ["red", "dog"]], None]
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {"image": ["a.jpg", "b.png"], "tags": [["dog"], ["cat"]], "phrases": phrases}
        parquet.write_table(pyarrow.table(columns), photos / "tags.parquet")
    else:
        rows = [{"image": "a.jpg", "tags": "dog", "phrases": phrases[0]}, {"image": "b.png", "tags": "cat"}]
        (photos / "tags.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listed = read_tag_manifest(str(photos / f"tags.{kind}"), first=1)
    assert [photo.phrases for photo in listed.photos] == [(("red", "dog"), ("grass",)), ()]


def test_paths_start_at_another_folder_where_one_is_named(photos, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("elsewhere") / "tags.jsonl"
    rows = [{"image": "c.jpg", "tags": ["cup"]}, {"image": str(photos / "a.jpg"), "tags": ["dog"]}]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    listed = read_tag_manifest(str(manifest), first=5, folder=str(photos / "more"))
    assert [listed.path(index).read_bytes() for index in range(2)] == [b"pixels of more/c.jpg", b"pixels of a.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tags.jsonl", '{"image": "a.jpg", "keywords": ["dog"]}', "line 1: expected a column tags, found image, keywo"),
        ("tags.csv", "image,keywords\na.jpg,dog\n", r"tags\.csv: expected a column tags, found image, keywords"),
        ("tags.jsonl", '{"image": "a.jpg", "tags": 3}', "line 1: tags are a list of texts, or one text .*, got 3"),
        ("tags.jsonl", '{"image": "a.jpg", "tags": ["dog", null]}', "line 1: tags are a list of texts"),
        ("tags.jsonl", '{"image": "a.jpg", "tags": "dog", "width": 3}', "line 1: height and width .* got None and 3"),
        ("tags.csv", "image,tags,width,height\na.jpg,dog,0,3\n", "line 2: height and width .* got '3' and '0'"),
        ("tags.jsonl", '{"image": "a.jpg", "tags": "dog", "phrases": ["dog"]}', "line 1: phrases are lists of words"),
        ("tags.jsonl", '{"image": "a.jpg", "tags": "dog", "phrases": [[3]]}', "line 1: phrases are lists of words"),
        ("tags.csv", "image,tags,phrases\na.jpg,dog,red dog\n", "line 2: phrases are lists of words.* got 'red dog'"),
        ("tags.csv", "image,tags\na.jpg,\n", "none of its 1 photos has a tag"),
        ("tags.jsonl", "", "none of its 0 photos has a tag"),
        ("tags.jsonl", '{"image": "x.jpg", "tags": "dog"}', r"none of its 1 photos is there, such as .*x\.jpg"),
        ("tags.txt", "a.jpg", r"a table of photos is a file \.jsonl, \.csv, \.parquet"),
        ("tags.parquet", "no parquet", r"tags\.parquet: (cannot be read|needs pyarrow)"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(photos, name, text, message):
    (photos / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_tag_manifest(str(photos / name), first=5)
    assert "\n" not in str(error.value)


def test_keeping_no_tag_at_all_is_refused(photos):
    for function in (read_tag_manifest, find_shards):
        with pytest.raises(ValueError, match="from 1, or null for all, got 0"):
            function(str(photos / "tags.jsonl"), first=0)


def test_a_file_names_the_tags_of_a_folders_photos(photos, caplog):
    (photos / "tags.txt").write_text("more/c\tcup, saucer\r\n\na.jpg\t\ngone\tcat\n")
    found = read_tag_folder(str(photos), tags=str(photos / "tags.txt"), first=1)
    assert found.photos == [TaggedPhoto("more/c.jpg", ("cup",)), TaggedPhoto("a.jpg", ())]
    assert found.missing == ("gone",)
    assert "1 of 3 photos have no line" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg dog", "line 1: expected a photo, a tab and tags, got 'a.jpg dog'"),
        ("\tdog", "line 1: expected a photo"),
        ("b.png\tdog\nb\tdog", "line 2: b may be several photos; write its extension, too"),
        ("a.jpg\t", "none of its 1 photos has a tag"),
        ("x\tdog", "none of its 1 photos is there"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_of_tags_that_makes_no_sense_is_refused(photos, text, message):
    (photos / "b.jpg").write_bytes(b"")
    if text is not None:
        (photos / "tags.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tag_folder(str(photos), tags=str(photos / "tags.txt"), first=5)


def tar(**files):
    """A tar file; in the names of files ``__`` stands for a point and ``_in_`` for a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name.replace("__", ".").replace("_in_", "/"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


GOOD = tar(
    x_in_0__jpg=b"zero",
    x_in_0__json={"tags": ["dog", "grass"], "width": 4, "height": 3, "phrases": [["dog"], ["grass"]]},
    x_in_0__cls=b"7",
    x_in_1__json={"tags": "cat,mat"},
    x_in_1__seg__png=b"no photo",
    x_in_1__PNG=b"one",
)
GOOD_PHOTOS = [
    (TaggedPhoto("x/0.jpg", ("dog",), (3, 4), phrases=(("dog",), ("grass",))), b"zero"),
    (TaggedPhoto("x/1.png", ("cat",)), b"one"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_shard_is_read_in_order(tmp_path, pack):
    (tmp_path / "0.tar").write_bytes(pack(GOOD))
    shards = find_shards(str(tmp_path / "0.tar"), first=1)
    assert list(shards.read(shards.urls[0])) == GOOD_PHOTOS
    assert list(shards.tags(shards.urls[0])) == [photo for photo, _ in GOOD_PHOTOS]


def test_a_shard_is_read_from_any_file_system():
    with fsspec.open("memory://tag-data/0.tar", "wb") as file:
        file.write(GOOD)
    (url,) = find_shards("memory://tag-data/0.tar", first=1).urls
    assert list(find_shards(url, first=1).read(url)) == GOOD_PHOTOS


def test_unusable_photos_of_a_shard_are_reported_not_dropped(tmp_path):
    files = {
        "0__jpg": b"zero",
        "1__json": {"tags": ["cat"]},
        "2__jpg": b"two",
        "2__json": b"{",
        "3__jpg": b"three",
        "3__json": {"keywords": []},
        "4__jpg": b"four",
        "4__json": {"tags": [4]},
        "5__webp": b"five",
        "5__json": {"tags": []},
        "__": b"no key",
    }
    (tmp_path / "0.tar").write_bytes(tar(**files))
    shards = find_shards(str(tmp_path / "0.tar"), first=5)
    found = [(photo.name, content) for photo, content in shards.read(shards.urls[0])]
    assert [name for name, _ in found] == ["0.jpg", "1", "2.jpg", "3.jpg", "4.jpg", "5.webp"]
    problems = [
        "no 0.json beside it",
        "no photo with this key",
        "2.json: ",
        'an object with "tags"',
        "4.json: tags are",
    ]
    for (_, why), problem in zip(found, problems, strict=False):
        assert problem in why
    assert found[5] == ("5.webp", b"five")
    assert list(shards.tags(shards.urls[0])) == [TaggedPhoto("5.webp", ())]


@pytest.mark.parametrize("length", [0, 100, HEADER, HEADER + 2, 2 * HEADER, 2 * HEADER + 100, 12 * HEADER])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_truncated_shard_is_named_wherever_it_is_cut(tmp_path, length, pack):
    assert GOOD.rindex(b"one") + HEADER == 12 * HEADER
    (tmp_path / "cut.tar").write_bytes(pack(GOOD[:length]))
    shards = find_shards(str(tmp_path / "cut.tar"), first=5)
    for read in (shards.read, shards.tags):
        with pytest.raises(ValueError, match=r"cut\.tar: cannot be read to its end: "):
            list(read(shards.urls[0]))


@pytest.mark.parametrize("content", [b"no tar" * 200, gzip.compress(GOOD)[:-100], GOOD[:1024] + b"junk" * 128])
def test_a_file_that_is_no_tar_is_named(tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    shards = find_shards(str(tmp_path / "0.tar"), first=5)
    with pytest.raises(ValueError, match=r"0\.tar: cannot be read to its end: "):
        list(shards.read(shards.urls[0]))


@pytest.mark.parametrize("url", ["memory://nowhere/0.tar", "nonsense://a/0.tar"])
def test_a_shard_that_is_not_there_is_named(url):
    with pytest.raises(ValueError, match=url):
        list(find_shards(url, first=5).read(url))


@pytest.mark.parametrize(
    ("path", "urls"),
    [
        ("s3://p/s-{008..011}.tar", [f"s3://p/s-{number}.tar" for number in ("008", "009", "010", "011")]),
        ("s3://p/{a,b}-{0..1}.tar", [f"s3://p/{name}.tar" for name in ("a-0", "a-1", "b-0", "b-1")]),
        ("s3://p/0.tar::http://q/1.tar?x=2, gs://r/2.tar", ["s3://p/0.tar", "http://q/1.tar?x=2", "gs://r/2.tar"]),
        ("simplecache::s3://p/0.tar::s3://p/1.tar", ["simplecache::s3://p/0.tar", "s3://p/1.tar"]),
    ],
)
def test_a_path_stands_for_several_shards(path, urls):
    assert list(find_shards(path, first=5).urls) == urls


def test_local_shards_are_found_by_globs_and_must_be_there(tmp_path):
    for name in ("b-10.tar", "b-11.tar", "a.tar", "odd, name.tar"):
        (tmp_path / name).write_bytes(b"")

    def found(path):
        return [url.removeprefix(f"{tmp_path}/") for url in find_shards(path, first=5).urls]

    assert found(f"{tmp_path}/b-*.tar::{tmp_path}/a.tar") == ["b-10.tar", "b-11.tar", "a.tar"]
    assert found(f"{tmp_path}/b-{{10..11}}.tar") == ["b-10.tar", "b-11.tar"]
    assert found(f"{tmp_path}/odd, name.tar") == ["odd, name.tar"]
    with pytest.raises(ValueError, match=r"b-12\.tar: no such shard"):
        found(f"{tmp_path}/b-{{10..12}}.tar")
    with pytest.raises(ValueError, match=r"\{9\.\.1\} is no range"):
        found("s3://p/{9..1}.tar")
    with pytest.raises(ValueError, match="names no shard"):
        found("")


def test_photos_are_held_out_by_name_whatever_their_order(tmp_path):
    many = TaggedPhotos(tmp_path, [TaggedPhoto(f"{index}.png", ("dog",)) for index in range(500)], ())
    training, validation = hold_out(many)
    assert len(training) + len(validation) == 500
    assert 0 < len(validation) < 40
    again = hold_out(replace(many, photos=many.photos[::-1]))[1]
    assert {photo.name for photo in again.photos} == {photo.name for photo in validation.photos}
    with pytest.raises(ValueError, match="2 photos are too few to hold some out"):
        hold_out(replace(many, photos=many.photos[:2]))
