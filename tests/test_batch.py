"""Archives: rows in, rows out; every form of archive, bad rows, and runs that are stopped anywhere."""

import io
import json
import tarfile
from dataclasses import replace

import pyarrow as pa
import pytest
from command_settings import QUICK, composed
from PIL import Image
from pyarrow import parquet
from small_flickr30k import small_grounder

from grounding.attention import ExcitationBackprop
from grounding.batch import ground_batch
from grounding.batch.command import ground_data, told
from grounding.batch.reading import count_rows
from grounding.batch.run import Archive, Progress, ground_archive
from grounding.config import compose_grounder
from grounding.files import write_file
from grounding.quoting import quote_free_text

SETTINGS = compose_grounder(list(QUICK))


@pytest.fixture
def photos(tmp_path, examples):
    """A folder with two small photos."""
    for name in ("chelsea", "coffee"):
        Image.fromarray(examples[name]).resize((120, 90)).save(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """All runs take a grounder with a small network, to which a photo takes milliseconds."""
    small = small_grounder(ExcitationBackprop)
    monkeypatch.setattr("grounding.pipeline.Grounder.from_settings", lambda settings: small)


ROWS = [
    {"image": "chelsea.jpg", "captions": ["A cat", "The eye of a cat"], "id": 100},
    {"image": "coffee.jpg", "caption": "A cup", "id": 101},
    {"image": "coffee.jpg", "phrases": ["a red cup", "the spoon"], "id": 102},
]
BAD = [
    ({"image": "nowhere.jpg", "caption": "A cat"}, "no such file"),
    ({"image": "broken.jpg", "caption": "A cat"}, "not an image"),
    ({"image": 5, "caption": "A cat"}, "expected a path, a URL or the bytes of a file, got int"),
    ({"image": "coffee.jpg", "caption": ""}, "caption: no text"),
    ({"image": "coffee.jpg", "captions": ["A cup", 3]}, "captions: expected text, or a list of texts"),
    ({"image": "coffee.jpg"}, "expected one of the columns phrases, captions, caption"),
    ({"image": "coffee.jpg", "caption": "A cup", "id": [1]}, "id is a whole number of 64 bits or a text, got [1]"),
    ({"caption": "A cup"}, "expected a path, a URL or the bytes of a file, got NoneType"),
    ({"image": "coffee.jpg", "caption": "A cup", "id": 100}, "has the id of row 0"),
]


def write_jsonl(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(path, output, **options):
    """Ground an archive; the progress at its end."""
    archive = Archive(str(path), output, **{"workers": 0, **options})
    return list(ground_archive(archive, SETTINGS, output.parent / "pictures"))[-1]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_have_the_answers_that_the_grounder_gives(photos, quick_grounder):
    rows = [{**row, "image": str(photos / row["image"])} for row in ROWS]
    answers = ground_batch(quick_grounder, rows)
    expected = [
        *quick_grounder([rows[0]["image"], rows[1]["image"]], [rows[0]["captions"], [rows[1]["caption"]]]),
        *quick_grounder([rows[2]["image"]], phrases=[rows[2]["phrases"]]),
    ]
    for row, answer, grounding in zip(rows, answers, expected, strict=True):
        assert list(answer) == ["id", "image", "size", "captions", "phrases", "error"]
        assert (answer["id"], answer["image"], answer["error"]) == (row["id"], row["image"], None)
        assert all(answer[name] == grounding.to_dict()[name] for name in ("size", "captions", "phrases"))


@pytest.mark.parametrize(("row", "message"), BAD[:-1])
def test_a_bad_row_has_an_error_of_one_line_and_the_others_have_answers(photos, quick_grounder, row, message):
    (photos / "broken.jpg").write_bytes(b"no photo")
    image = {"image": str(photos / row["image"])} if isinstance(row.get("image"), str) else {}
    bad, good = ground_batch(
        quick_grounder, [{**row, **image}, {"image": str(photos / "coffee.jpg"), "caption": "A cup"}]
    )
    assert message in bad["error"]
    assert "\n" not in bad["error"]
    assert (bad["size"], bad["phrases"]) == (None, None)
    assert good["error"] is None
    assert good["id"] == 1


def test_photos_may_be_bytes_or_urls(photos, quick_grounder):
    import fsspec

    content = (photos / "coffee.jpg").read_bytes()
    with fsspec.open("memory://batch/coffee.jpg", "wb") as file:
        file.write(content)
    forms = [
        content,
        "memory://batch/coffee.jpg",
        {"bytes": content, "path": "x.jpg"},
        {"path": str(photos / "coffee.jpg")},
    ]
    answers = ground_batch(quick_grounder, [{"image": form, "caption": "A cup"} for form in forms])
    assert [answer["error"] for answer in answers] == [None] * 4
    assert all(answer["phrases"] == answers[0]["phrases"] for answer in answers)
    assert [answer["image"] for answer in answers] == ["", forms[1], "x.jpg", forms[3]["path"]]


def archives(folder):
    """The same three rows in every form of archive."""
    rows = [{name: row.get(name) for name in ("image", "captions", "caption", "phrases", "id")} for row in ROWS]
    yield write_jsonl(folder, ROWS)
    parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    yield folder / "rows.parquet"
    with (folder / "rows.csv").open("w", encoding="utf-8") as file:
        file.write("id,image,captions,caption,phrases\n")
        for row in rows:
            cells = [row["id"], row["image"], *(row[name] for name in ("captions", "caption", "phrases"))]
            file.write(",".join('"' + cell_text(cell).replace('"', '""') + '"' for cell in cells) + "\n")
    yield folder / "rows.csv"
    with tarfile.open(folder / "rows.tar", "w") as file:
        for number, row in enumerate(ROWS):
            add(file, f"{number}.jpg", (folder / row["image"]).read_bytes())
            values = {name: value for name, value in row.items() if name != "image"}
            add(file, f"{number}.json", json.dumps(values).encode())
    yield folder / "rows.tar"


def cell_text(cell):
    return "" if cell is None else json.dumps(cell) if isinstance(cell, list) else str(cell)


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_every_form_of_archive_gives_the_same_answers(photos, quick):
    found = []
    for path in archives(photos):
        output = photos / f"out_{path.suffix[1:]}.jsonl"
        assert run(path, output) == Progress(3, 0, 3, pytest.approx(0, abs=1e9))
        found.append([{name: answer[name] for name in ("id", "size", "phrases")} for answer in lines(output)])
    assert [answer["id"] for answer in found[0]] == [100, 101, 102]
    assert all(answers == found[0] for answers in found)


def test_a_dataset_of_hugging_face_is_an_archive(photos, quick):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [str(photos / row["image"]) for row in ROWS[:2]], "caption": ["A cat", "A cup"]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(photos / "saved"))
    assert count_rows(str(photos / "saved")) == 2
    assert run(photos / "saved", photos / "out.jsonl").errors == 0
    assert [answer["id"] for answer in lines(photos / "out.jsonl")] == [0, 1]


def test_bad_rows_of_an_archive_have_errors_in_their_places(photos, quick):
    (photos / "broken.jpg").write_bytes(b"no photo")
    path = write_jsonl(photos, [*ROWS, *(row for row, _ in BAD)])
    path.write_text(path.read_text(encoding="utf-8") + "{not json\n[1]\n", encoding="utf-8")
    done = run(path, photos / "out.jsonl", part_rows=4)
    answers = lines(photos / "out.jsonl")
    assert (done.rows, done.errors) == (len(answers), len(BAD) + 2) == (14, 11)
    for answer, (_, message) in zip(answers[3:], BAD, strict=False):
        assert message in answer["error"]
    assert "line 13: not JSON" in answers[12]["error"]
    assert "expected an object" in answers[13]["error"]


@pytest.mark.parametrize(
    ("form", "part_rows"),
    [
        ("jsonl", 1),
        pytest.param("parquet", 2, marks=pytest.mark.slow),
        pytest.param("jsonl", 100, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_anywhere_goes_on_and_loses_and_doubles_nothing(photos, quick, form, part_rows):
    rows = [{"image": "coffee.jpg", "caption": f"a cat and {number} dogs"} for number in range(5)]
    path = write_jsonl(photos, rows)
    whole = photos / f"whole.{form}"
    run(path, whole, part_rows=part_rows)
    for stop in range(5):
        output = photos / f"out{stop}.{form}"
        archive = Archive(str(path), output, part_rows=part_rows, workers=0)
        for done in ground_archive(archive, SETTINGS, photos):
            if done.answered == stop + 1:
                break  # as if it was killed here
        assert not output.exists()
        (photos / f"out{stop}.{form}.parts" / "abandoned.part").write_bytes(b"half")
        done = run(path, output, part_rows=part_rows)
        assert done.answered == 5 - (stop + 1) // part_rows * part_rows
        read = lines if form == "jsonl" else lambda path: parquet.read_table(path).to_pylist()
        assert read(output) == read(whole)
        assert not output.with_name(f"{output.name}.parts").exists()
        again = run(path, output, part_rows=part_rows)
        assert (again.rows, again.answered) == (5, 0)


@pytest.mark.slow
def test_processes_give_the_same_to_the_bit_in_the_order_of_the_rows(photos):
    rows = [{"image": ("coffee.jpg", "chelsea.jpg")[number % 2], "caption": f"a cup {number}"} for number in range(6)]
    path = write_jsonl(photos, rows)
    done = run(path, photos / "two.jsonl", workers=2, part_rows=4)
    assert (done.rows, done.errors) == (6, 0)
    run(path, photos / "none.jsonl", part_rows=3)
    assert lines(photos / "two.jsonl") == lines(photos / "none.jsonl")


def test_answers_of_other_settings_or_rows_are_refused(photos, quick):
    path, output = write_jsonl(photos, ROWS), photos / "out.jsonl"
    assert next(ground_archive(Archive(str(path), output, part_rows=1, workers=0), SETTINGS, photos)).answered == 1
    for changed in (replace(SETTINGS, overlap=0.5), replace(SETTINGS, count=3)):
        with pytest.raises(ValueError, match="answers of another archive, model or setting"):
            next(ground_archive(Archive(str(path), output, part_rows=1, workers=0), changed, photos))
    run(path, output, part_rows=1)
    write_jsonl(photos, ROWS[:2])
    with pytest.raises(ValueError, match="answers of another archive, model or setting"):
        run(path, output, part_rows=1)
    assert len(lines(output)) == 3


def test_the_first_photos_are_drawn(photos, quick):
    run(write_jsonl(photos, ROWS), photos / "out.jsonl", pictures=2)
    assert sorted(path.name for path in (photos / "pictures").iterdir()) == ["0.png", "1.png"]


def test_a_full_disk_ends_the_run_and_keeps_what_is_written(photos, quick, monkeypatch):
    path, output = write_jsonl(photos, ROWS), photos / "out.jsonl"
    written = []

    def write_one(target, content):
        if len(written) == 2:  # what made the answers, and a part
            raise OSError(28, f"{target} cannot be written: No space left on device")
        written.append(target)
        write_file(target, content)

    monkeypatch.setattr("grounding.batch.parts.write_file", write_one)
    with pytest.raises(OSError, match="No space left"):
        run(path, output, part_rows=1)
    assert [path.name for path in output.with_name("out.jsonl.parts").glob("*.jsonl")] == ["00000000-1-0.jsonl"]
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=manifest", "data.path=rows.jsonl"], "name the file of answers: output="),
        (["data=folder", "data.path=.", "output=out.jsonl"], "data=folder has no captions: choose data=manifest"),
        (["data=manifest", "data.path=rows.jsonl", "output=out.jsonl", "image=a.jpg"], "leave out image="),
        (["data=manifest", "output=out.jsonl"], "Missing mandatory value: data.path"),
        (["data=manifest", "data.path=rows.jsonl", "output=out.jsonl", "part_rows=0"], "part_rows must be at least 1"),
        (["data=manifest", "data.path=rows.jsonl", "output=out.txt"], r"answers go to a file \.jsonl or \.parquet"),
        (["data=manifest", "data.path=nowhere.jsonl", "output=out.jsonl"], "no such file"),
        (["data=manifest", "data.path=rows.xml", "output=out.jsonl"], "no such shard"),
        (["data=manifest", "data.path=rows.jsonl", "output=out.jsonl", "export=yolo"], "export=yolo: no such format"),
        (
            ["data=manifest", "data.path=a.parquet", "output=out", "runner=ray", "export=coco"],
            "export= is a setting of",
        ),
    ],
)
def test_wrong_settings_are_one_line(photos, quick, monkeypatch, words, message):
    write_jsonl(photos, ROWS)
    monkeypatch.chdir(photos)
    choice = words[0].partition("=")[2]
    with pytest.raises(ValueError, match=message) as raised:
        ground_data(composed(*quote_free_text([*words, "workers=0"])), choice, photos)
    assert "\n" not in str(raised.value)


def test_the_command_tells_rate_and_errors(photos, quick, monkeypatch, caplog):
    caplog.set_level("INFO")
    write_jsonl(photos, [*ROWS, {"image": "nowhere.jpg", "caption": "A cat"}])
    monkeypatch.chdir(photos)
    words = ["data=manifest", "data.path=rows.jsonl", "output=out.parquet", "workers=0"]
    assert ground_data(composed(*quote_free_text(words)), "manifest", photos)
    assert "4 rows" in caplog.text
    assert "1 error; the answers are in out.parquet" in caplog.text
    table = parquet.read_table("out.parquet")
    assert table.column_names == ["id", "image", "size", "captions", "phrases", "error"]
    assert table.num_rows == 4
    assert told(Progress(1, 0, 0, 0.0)) == "0 errors"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_answers_of_an_archive_are_exported_also_when_they_are_there_already(photos, quick, monkeypatch, form):
    write_jsonl(photos, [*ROWS, {"image": "nowhere.jpg", "caption": "A cat", "id": 103}])
    monkeypatch.chdir(photos)
    words = ["data=manifest", "data.path=rows.jsonl", f"output=out.{form}", "workers=0"]
    assert ground_data(composed(*quote_free_text(words)), "manifest", photos)
    assert not (photos / f"out.{form}.export").exists()
    assert ground_data(composed(*quote_free_text([*words, "export=coco,mdetr"])), "manifest", photos)
    folder = photos / f"out.{form}.export"
    dataset, results, mdetr = (
        json.loads((folder / name).read_text("utf-8"))
        for name in ("coco_dataset.json", "coco_results.json", "mdetr.json")
    )
    assert [image["id"] for image in dataset["images"]] == [100, 101, 102]
    assert results[0]["bbox"] == mdetr["annotations"][0]["bbox"]
    assert [image["caption"] for image in mdetr["images"]] == [
        "A cat",
        "The eye of a cat",
        "A cup",
        "a red cup",
        "the spoon",
    ]
