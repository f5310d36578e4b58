"""``python -m eval.doctor`` on a small download that is whole, and on ones that are not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_settings import composed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eval.doctor import checks
from eval.doctor.__main__ import examine, findings_of, places_of
from eval.doctor.survey import Facts, Places, Surveyor, facts_of
from eval.flickr30k import TYPES
from grounding.quoting import quote_free_text

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = (
    "[/EN#1/people A man] in [/EN#0/notvisual it] .\n[/EN#1/people/other He] and [/EN#2/scene a park] .\nRain .\n"
)
ANNOTATIONS = """\
<annotation><size><width>40</width><height>20</height></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
<object><name>2</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>
"""
COUNTS = checks.Counts(1, 2, 2, 1, dict.fromkeys(TYPES, 0) | {"people": 2, "other": 1})
SPLITS = {"train": ("1", "2", "3"), "val": ("4", "5"), "test": ("6",)}


@pytest.fixture
def entities(tmp_path, monkeypatch):
    """Annotations of six photos of 40×20 pixels, complete and correct."""
    root = tmp_path / "entities"
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir(parents=True)
    golden = {}
    for split, names in SPLITS.items():
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            (root / "Annotations" / f"{name}.xml").write_text(ANNOTATIONS)
            (root / "Sentences" / f"{name}.txt").write_text(SENTENCES)
        types = {kind: len(names) * number for kind, number in COUNTS.types.items()}
        golden[split] = checks.Counts(len(names), 2 * len(names), 2 * len(names), len(names), types)
    (root / "UNRELATED_CAPTIONS").write_text("# photo sentence\n4 3\n")
    monkeypatch.setattr(checks, "PHOTOS", {split: len(names) for split, names in SPLITS.items()})
    monkeypatch.setattr(checks, "GOLDEN", golden)
    monkeypatch.setattr(checks, "UNRELATED_COUNT", 1)
    return root


@pytest.fixture
def photos(tmp_path):
    """The six photos, at their annotated size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (name for names in SPLITS.values() for name in names):
        Image.new("RGB", (40, 20), "blue").save(folder / f"{name}.jpg")
    return folder


def report(entities, photos=None, split=None):
    """The findings as lines, by kind."""
    findings, _, _ = findings_of(entities, photos, split, 0)
    return {kind: [str(finding) for finding in findings if finding.kind == kind] for kind in ("ok", "note", "wrong")}


def test_a_complete_download_passes(entities, photos):
    found = report(entities, photos)
    assert found["wrong"] == found["note"] == []
    text = "\n".join(found["ok"])
    for line in (
        "lists: train 3, val 2, test 1 photos, no photo in two lists",
        "captions and boxes of 6 photos can be read, and every chain is annotated",
        "ok: val: 4 phrases with boxes in 4 sentences of 2 photos, 2 entities: people 4, clothing 0",
        "6 of 6 photos, 3 of split train, 2 of split val, 1 of split test",
        "all 6 photos can be read",
        "sizes: 6 of the annotated size",
    ):
        assert line in text
    assert report(entities)["note"] == ["note: photos were not checked; name their folder with data.path=FOLDER"]
    assert report(entities, photos, "val")["ok"][-3] == "ok: all 2 photos of data.split are present"


def test_all_mistakes_in_annotations_are_reported_at_once(entities):
    (entities / "Annotations" / "1.xml").write_text("<annotation>")
    (entities / "Sentences" / "2.txt").unlink()
    (entities / "Sentences" / "9.txt").write_text(SENTENCES)
    (entities / "Sentences" / "6.txt").write_text(SENTENCES + "[/EN#3/people She] .\n")
    (entities / "val.txt").write_text("1\n4")
    (entities / "UNRELATED_CAPTIONS").write_text("4 4\n")
    wrong = report(entities)["wrong"]
    expected = [
        "1 photos are in more than one list, such as 1; to do: unpack",
        "Annotations has files of 1 photos that no list names, such as 5",
        "Sentences lacks 1 of 5 photos, such as 2; to do: unpack",
        "Sentences has files of 2 photos that no list names, such as 5, 9",
        "files of captions or boxes that cannot be read: 1; to do: unpack",
        "1 phrases of 1 photos belong to chains without annotations, such as 'She' of 6",
        "train: photos 1, expected 3; sentences 2, expected 6; phrases 2, expected 6",
        "val: photos 1, expected 2",
        "UNRELATED_CAPTIONS: it names captions that do not exist: 4 4",
    ]
    for line, beginning in zip(wrong, expected, strict=True):
        assert beginning in line
    assert wrong[4].split("\n")[1].endswith("1.xml: these are not annotations of Flickr30k Entities: no element found: "
                                            "line 1, column 12")  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("val.txt", None, "val.txt: No such file"),
        ("val.txt", "4\n5\n6\n7\n", "val.txt: 4 photos, expected 2"),
        ("UNRELATED_CAPTIONS", None, "UNRELATED_CAPTIONS: No such file"),
        ("UNRELATED_CAPTIONS", "4 x", "UNRELATED_CAPTIONS, line 1: expected a photo and the number of a sentence"),
        ("UNRELATED_CAPTIONS", "", "UNRELATED_CAPTIONS: 0 captions, expected 1"),
        ("Sentences/4.txt", SENTENCES.replace("scene", "scnee"), "4.txt, line 2: unknown type 'scnee'"),
    ],
)
def test_a_missing_or_malformed_file_is_named(entities, photos, file, content, message):
    (entities / file).unlink()
    if content is not None:
        (entities / file).write_text(content)
    found = report(entities, photos)
    assert any(message in line for line in found["wrong"])
    assert any("6 of 6 photos" in line or "6 of 7 photos" in line for line in found["ok"])  # the rest is checked


def test_wrong_folders_are_recognised(entities, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    swap = "to do: swap data.path and data.entities"
    assert [line.endswith(swap) for line in report(photos, entities)["wrong"]] == [True, True]
    (line,) = report(tmp_path)["wrong"]
    assert line.endswith(f"to do: name the folder inside it: data.entities={entities}")
    (line,) = report(entities, tmp_path)["wrong"]
    assert line.endswith(f"to do: name the folder inside it: data.path={photos}")
    (line,) = report(entities, tmp_path / "empty")["wrong"]
    assert "no file .jpg in it; to do: name the folder that holds ID.jpg, or request" in line
    (line,) = report(entities, tmp_path / "nowhere")["wrong"]
    assert "nowhere: no such folder" in line
    (tmp_path / "empty" / "1.png").touch()
    assert report(entities, tmp_path / "empty")["wrong"][0].endswith("1.png; to do: convert or rename them to ID.jpg")
    (tmp_path / "empty" / "annotations.zip").touch()
    assert "to do: unpack annotations.zip there" in report(tmp_path / "empty")["wrong"][0]


def test_photos_that_are_missing_or_broken_are_named(entities, photos):
    (photos / "4.jpg").unlink()
    (photos / "5.jpg").write_text("no photo")
    (photos / "6.jpg").write_bytes((photos / "6.jpg").read_bytes()[:-200])
    (photos / "holiday.jpg").write_text("")
    found = report(entities, photos)
    assert found["note"][0].startswith(
        "note: 1 photos of val are missing, such as 4.jpg; data.split=val needs all of them"
    )
    strange, broken = found["wrong"]
    assert "1 .jpg files are no photos of Flickr30k, such as holiday.jpg" in strange
    assert broken.startswith("wrong: photos that cannot be read: 2 of 5; to do: replace them")
    assert "5.jpg: not an image" in broken.split("\n")[1]
    assert "6.jpg: cannot be read" in broken.split("\n")[2]
    missing, broken = report(entities, photos, "val")["wrong"]
    assert "lacks 1 of the 2 photos of data.split, such as 4.jpg; to do: request" in missing
    assert "cannot be read: 1 of 1" in broken
    assert any("data.split=vall" in line for line in report(entities, photos, "vall")["wrong"])


def test_part_of_one_split_is_accepted(entities, photos):
    for name in ("1", "2", "3", "4", "6"):
        (photos / f"{name}.jpg").unlink()
    found = report(entities, photos)
    assert found["wrong"] == []
    assert any(line.endswith("photos: 1 of 6 photos, all of split val") for line in found["ok"])


def facts(name, here, annotated):
    return Facts(name, (), 0, 0, (), 0, (), annotated, here, "")


@pytest.mark.parametrize(
    ("sizes", "ok", "wrong"),
    [
        ([((375, 500), (375, 500))] * 2, "2 of the annotated size", 0),
        (
            [((375, 500), (375, 500)), ((188, 250), (375, 500)), ((750, 1000), (375, 500))],
            "2 of the same aspect ratio",
            0,
        ),
        ([((224, 224), (333, 500)), ((224, 224), (500, 375)), ((224, 224), (500, 500))], "2 squashed to 224×224", 0),
        ([((224, 224), (333, 500)), ((224, 224), (500, 375)), ((500, 333), (333, 500))], "2 squashed to 224×224", 1),
        ([((500, 333), (333, 500)), ((500, 333), (333, 500))], None, 2),  # rotated
        ([((500, 375), (500, 375))] * 3 + [((500, 375), (333, 500))], "3 of the annotated size", 1),
        ([((300, 500), (333, 500))], None, 1),
        ([], None, 0),
    ],
)
def test_sizes_that_fit_and_sizes_that_do_not(sizes, ok, wrong):
    found = checks.check_sizes([facts(str(index), *both) for index, both in enumerate(sizes)])
    kinds = {finding.kind: finding for finding in found}
    assert (ok in kinds["ok"].message) if ok else "ok" not in kinds
    assert (wrong > 0) == ("wrong" in kinds)
    if wrong:
        assert kinds["wrong"].message.endswith(f": {wrong}")


def test_a_rotated_photo_is_recognised():
    (finding,) = checks.check_sizes([facts("7", (500, 333), (333, 500))])
    assert finding.examples == ("7.jpg: 333×500 pixels (width×height), annotated in 500×333 (rotated)",)


SIDES = st.integers(1, 500)


@given(SIDES, SIDES, st.floats(0.05, 4))
def test_a_scaled_copy_has_the_same_aspect_ratio(height, width, scale):
    copy = (max(1, round(height * scale)), max(1, round(width * scale)))
    (finding,) = checks.check_sizes([facts("7", copy, (height, width))])
    assert finding.kind == "ok"


@given(st.lists(st.tuples(st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True)), max_size=5))
def test_counts_add_up_and_a_phrase_of_two_types_counts_for_both(phrases):
    photo = replace(
        facts("7", None, None), phrases=tuple(tuple(kinds) for (kinds,) in phrases), sentences=2, entities=3
    )
    single, double = checks.count([photo]), checks.count([photo, photo])
    assert single.phrases == len(phrases)
    assert sum(single.types.values()) == sum(len(kinds) for (kinds,) in phrases)
    assert (double.phrases, double.photos) == (2 * single.phrases, 2 * single.photos)
    assert list(single.types) == list(TYPES)


def test_the_golden_counts_are_those_that_were_published():
    golden = checks.GOLDEN["test"]
    assert (golden.photos, golden.sentences, golden.phrases, golden.entities) == (999, 4969, 14481, 6012)
    assert golden.types["people"] == 5656
    assert sum(golden.types.values()) == 14558  # 77 phrases have two types
    assert sum(checks.PHOTOS.values()) == 31783


def test_worker_processes_collect_the_same_facts(entities, photos):
    places = Places(entities, photos, frozenset("12"))
    assert Surveyor(places)(["1", "4"]) == [facts_of("1", places), facts_of("4", places)]
    assert facts_of("1", places).photo_size == (20, 40)
    assert facts_of("4", places).photo_size is None


def settings_of(*words):
    return composed(*quote_free_text(list(words)), config="doctor")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "data= is missing: data=flickr30k"),
        (["data=folder", "data.path=a"], "only data=flickr30k can be checked"),
        (["data=flickr30k", "data.path=a"], "Missing mandatory value: data.entities"),
    ],
)
def test_wrong_settings_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        places_of(settings_of(*words))


@pytest.mark.parametrize("words", [[], ["data.path="], ["data.path=null"]])
def test_photos_may_be_left_out(words):
    places = places_of(settings_of("data=flickr30k", "data.entities=a, (b)", *words))
    assert places == (Path("a, (b)"), None, None)


def test_the_command_prints_its_findings_and_saves_them(entities, photos, tmp_path, caplog):
    (entities / "test.txt").write_text("6\n7\n")
    caplog.set_level("INFO")
    words = ("data=flickr30k", f"data.entities={entities}", f"data.path={photos}", "workers=0")
    assert not examine(settings_of(*words), tmp_path)
    assert "test.txt: 2 photos, expected 1; to do: unpack" in caplog.text
    assert "all 6 photos can be read" in caplog.text
    saved = json.loads((tmp_path / "doctor.json").read_text())
    assert saved["counts"]["val"]["types"]["people"] == 4
    assert saved["wrong"] == sum(finding["kind"] == "wrong" for finding in saved["findings"]) == 3


def test_the_command_succeeds_where_nothing_is_wrong(entities, photos, tmp_path):
    words = ("data=flickr30k", f"data.entities={entities}", f"data.path={photos}", "workers=0")
    assert examine(settings_of(*words), tmp_path)
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        examine(settings_of(*words[:-1], "workers=-1"), tmp_path)


def test_help_is_complete_and_needs_no_heavy_import():
    code = (
        "import sys, eval.doctor.__main__ as command\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n    command.main()\n"
        "finally:\n    print([name for name in ('torch', 'spacy', 'PIL') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for word in ("python -m eval.doctor data=flickr30k", "flickr30k", "workers: "):
        assert word in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"
