"""``python -m proposals``, in a process of its own or called with settings."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_settings import composed
from PIL import Image
from proposers import Mean, mean_region

import proposals.store.writing
from eval.flickr30k import find_photos, load_photo
from grounding.photos import photos_below, photos_listed
from grounding.quoting import quote_free_text
from proposals import Stored
from proposals.__main__ import propose_all
from proposals.store import workers
from proposals.store.workers import Work, propose_each

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos, (all)"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/c.png")):
        Image.new("RGB", (20 + number, 10), (number * 50, 9, 9)).save(folder / name)
    return folder


def propose(*words, mean=None):
    settings = composed(*quote_free_text(["workers=0", *words]), config="propose")
    settings.proposals = {"_target_": "proposers.Mean"} | (mean or {})
    return propose_all(settings)


def in_a_process(*words, **environment):
    """The command in a process of its own, which finds the modules of the tests."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", "proposals", *words],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_folder_becomes_a_store_that_finds_every_photo(tmp_path, photos):
    out = tmp_path / "o, (1).h5"
    assert propose("data=folder", f"data.path={photos}", f"output={out}") == 0
    stored = Stored(out)
    assert [file.name for file in stored.files()] == ["a.png", "b.png", "more/c.png"]
    for path in (photos / "a.png", photos / "more" / "c.png"):
        assert torch.equal(stored(path).scores, mean_region(path).scores)
    assert stored.settings == {"_target_": "proposers.Mean"}


def test_photos_that_are_there_are_not_done_again(tmp_path, photos, monkeypatch, caplog):
    caplog.set_level("INFO")
    words = ("data=folder", f"output={tmp_path / 'o.h5'}")
    propose(*words, f"data.path={photos}")
    before = (tmp_path / "o.h5").read_bytes()

    def fail(*_):
        raise AssertionError("proposes again")

    with monkeypatch.context() as patched:
        patched.setattr(Mean, "__call__", fail)
        assert propose(*words, f"data.path={photos}") == 0
        assert (tmp_path / "o.h5").read_bytes() == before
        moved = photos.rename(tmp_path / "moved")
        (moved / "a.png").rename(moved / "z.png")
        assert propose(*words, f"data.path={moved}") == 0
    Image.new("RGB", (5, 5)).save(moved / "new.png")
    assert propose(*words, f"data.path={moved}") == 0
    assert len(Stored(tmp_path / "o.h5")) == 4
    assert "4 of 4 photos (3 stored before)" in caplog.text


@pytest.fixture
def squashed(tmp_path):
    """A photo of 40×20 pixels, squashed to 10×10, one of its own size, and what people said of them."""
    entities = tmp_path / "entities"
    for folder in ("Annotations", "Sentences", "photos"):
        (entities / folder).mkdir(parents=True)
    for name, size in (("7", (10, 10)), ("8", (40, 20))):
        (entities / "Sentences" / f"{name}.txt").write_text("[/EN#1/people A man] .")
        (entities / "Annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>40</width><height>20</height></size></annotation>"
        )
        image = Image.linear_gradient("L").resize(size)
        image.save(entities / "photos" / f"{name}.jpg")
    return entities


def test_squashed_photos_are_stretched_before_anything_looks_at_them(tmp_path, squashed, monkeypatch, caplog):
    caplog.set_level("INFO")
    words = (
        "data=flickr30k", f"data.path={squashed / 'photos'}", f"data.entities={squashed}", f"output={tmp_path / 'o.h5'}"
    )  # fmt: skip
    assert propose(*words) == 0
    stored = Stored(tmp_path / "o.h5")
    for photo in find_photos(squashed / "photos", squashed):
        assert torch.equal(stored(load_photo(photo)).boxes, torch.tensor([[0.0, 0, 40, 20]]))
    with pytest.raises(ValueError, match="is not among"):
        stored(squashed / "photos" / "7.jpg")
    with monkeypatch.context() as patched:
        patched.setattr("proposals.store.workers.load_image", None)  # a photo that is there is not even read
        assert propose(*words) == 0
    assert "2 of 2 photos (2 stored before)" in caplog.text


def test_another_size_is_another_photo(tmp_path, squashed):
    folder, out = squashed / "photos", f"output={tmp_path / 'o.h5'}"
    words = ("data=flickr30k", f"data.path={folder}", f"data.entities={squashed}", out)
    assert propose(*words) == 0
    xml = squashed / "Annotations" / "7.xml"
    xml.write_text(xml.read_text().replace(">40<", ">30<"))
    assert propose(*words) == 0
    photo, _ = find_photos(folder, squashed)
    assert torch.equal(Stored(tmp_path / "o.h5")(load_photo(photo)).boxes, torch.tensor([[0.0, 0, 30, 20]]))
    assert propose(f"image={folder}", out) == 0  # as they are
    assert torch.equal(Stored(tmp_path / "o.h5")(folder / "7.jpg").boxes, torch.tensor([[0.0, 0, 10, 10]]))
    assert len(Stored(tmp_path / "o.h5")) == 4


def test_a_photo_that_cannot_be_read_is_listed_and_tried_again(tmp_path, photos, caplog):
    (photos / "bad.png").write_bytes(b"no photo")
    words = (f"image={photos}", f"output={tmp_path / 'o.h5'}")
    assert propose(*words) == 1
    assert "bad.png: not an image" in caplog.text
    assert "1 of 3 photos failed, another run tries them again: " in caplog.text
    assert list(Stored(tmp_path / "o.h5").failed()) == [str(photos / "bad.png")]
    assert propose(*words) == 1
    Image.new("RGB", (4, 4)).save(photos / "bad.png")
    assert propose(*words) == 0
    assert Stored(tmp_path / "o.h5").failed() == {}
    assert len(Stored(tmp_path / "o.h5")) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.png\n\n  more/c.png  \na.png\n"),
        ("list.jsonl", '{"image": "a.png", "caption": "ü"}\n{"image": "more/c.png"}\n'),
        ("list.csv", '\ufeffid,image\n1,a.png\n2,"more/c.png"\n'),
    ],
)
def test_a_manifest_lists_photos_from_its_own_folder(photos, name, text):
    (photos / name).write_text(text, encoding="utf-8")
    listed = photos_listed(str(photos / name))
    assert (listed.folder, listed.names) == (photos, ["a.png", "more/c.png"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.txt", None, "no such file"),
        ("list.xml", b"<a/>", "a manifest is a file .txt, .jsonl, .csv"),
        ("list.txt", b"\n\n", "lists no photo"),
        ("list.txt", b"\xff\xfe\x00", "cannot be read"),
        ("list.csv", b"id,path\n1,a.png\n", "expected a column image, found id, path"),
        ("list.csv", b"", "expected a column image, found none"),
        ("list.csv", b"id,image\n1\n", "line 2: no image"),
        ("list.jsonl", b'{"image": "a.png"}\nnope\n', "line 2: not JSON"),
        ("list.jsonl", b'{"image": 3}\n', 'line 1: expected an object with "image"'),
        ("list.jsonl", b"[" * 10**5, "line 1: not JSON"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        photos_listed(str(tmp_path / name))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no photo in the folder or below it"):
        photos_below(str(tmp_path))
    with pytest.raises(ValueError, match="no such folder"):
        photos_below(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image={}", "data=folder", "data.path={}"], "give image= or data=, one of the two"),
        (["data=folder"], "Missing mandatory value: data.path"),
        (["image={}", "workers=-1"], "workers must be at least 0"),
        (["image={}", "output="], "output= is empty"),
        (["image={}/nowhere"], "no such file or folder"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(tmp_path, photos, words, message):
    with pytest.raises(ValueError, match=message):
        propose(f"output={tmp_path / 'o.h5'}", *[word.format(photos) for word in words])
    assert list(tmp_path.iterdir()) == [photos]


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path, photos):
    with pytest.raises(OSError, match="Not a directory"):
        propose(f"image={photos}", f"output={photos / 'a.png' / 'o.h5'}")


def test_other_settings_are_refused(tmp_path, photos):
    words = (f"image={photos}", f"output={tmp_path / 'o.h5'}")
    propose(*words, mean={"shade": 0.0})
    with pytest.raises(ValueError, match=r"proposals\.shade=0\.0 \(now 0\.001\)"):
        propose(*words, mean={"shade": 0.001})
    assert {path.name for path in tmp_path.iterdir()} == {photos.name, "o.h5"}


def test_weights_that_changed_are_other_settings(tmp_path, photos):
    words = (f"image={photos}", f"output={tmp_path / 'o.h5'}")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"some")
    propose(*words, mean={"weights": str(weights)})
    propose(*words, mean={"weights": str(weights)})
    weights.write_bytes(b"others")
    with pytest.raises(ValueError, match=r"proposals\.weights="):
        propose(*words, mean={"weights": str(weights)})


def test_another_device_is_no_other_setting(tmp_path, photos):
    words = (f"output={tmp_path / 'o.h5'}",)
    propose(*words, f"image={photos / 'a.png'}", mean={"device": "cpu"})
    propose(*words, f"image={photos / 'b.png'}", mean={"device": "auto"})
    propose(*words, f"image={photos / 'more'}")
    assert len(Stored(tmp_path / "o.h5")) == 3


@pytest.mark.slow
def test_processes_find_what_one_finds(photos):
    names = ["a.png", "b.png", "more/c.png"]
    work = Work({"_target_": "proposers.Mean"}, photos, None)
    results = {result.file.name: result for result in propose_each(names, work, processes=2) if result}
    assert {name: float(results[name].arrays["scores"][0]) for name in names} == {
        name: float(mean_region(photos / name).scores) for name in names
    }


def test_a_process_that_dies_ends_the_run_with_advice(photos, monkeypatch):
    def die(*_, **__):
        raise ChildProcessError("a process was killed")
        yield

    monkeypatch.setattr(workers, "in_processes", die)
    with pytest.raises(ChildProcessError, match=r"a process was killed; finished photos are kept, .* fewer workers="):
        list(propose_each(["a.png"], Work({"_target_": "proposers.Mean"}, photos, None), processes=2))


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """Interrupted in its sixth photo, then killed in its sixth, then finished: little is done twice."""
    for number in range(14):
        Image.new("RGB", (10, 10), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "proposals").mkdir()
    (tmp_path / "proposals" / "paused.yaml").write_text("_target_: proposers.Paused\n")
    words = [f"image={tmp_path}", f"output={tmp_path / 'o.h5'}", "workers=0"]
    outputs = []
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        run = in_a_process(
            *words, "proposals=paused", f"hydra.run.dir={tmp_path / 'run'}", f"hydra.searchpath=[file://{tmp_path}]",
            PAUSE_AFTER="5",
        )  # fmt: skip
        begun = []
        while len(begun) < 6:
            line = run.stdout.readline()
            assert line, "it ended too early"
            begun += [line.split(": ")[1]] if line.startswith("begun: ") else []
        run.send_signal(stop)
        output, _ = run.communicate()
        assert run.returncode == code, output
        assert "Traceback" not in output
        outputs.append(output)
    assert "interrupted; finished photos are kept" in outputs[0]
    monkeypatch.setattr(proposals.store.writing, "PHOTOS", 2)
    monkeypatch.setattr(proposals.store.writing, "SECONDS", float("inf"))
    settings = composed(*quote_free_text(words), config="propose")
    settings.proposals = {"_target_": "proposers.Paused"}
    assert propose_all(settings) == 0
    # The first run kept all five that it finished, the second one those of its two full parts.
    assert capsys.readouterr().out.count("begun: ") == 14 - 5 - 4
    assert len(Stored(tmp_path / "o.h5")) == 14
    assert not (tmp_path / "o.h5.parts").exists()


def test_help_helps_and_imports_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['proposals', '--help']\n"
        "try: runpy.run_module('proposals', run_name='__main__')\n"
        "finally: print([name for name in ('torch', 'cv2', 'h5py', 'numba') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for word in ("image=", "data=manifest", "proposals: edge_boxes", "output: "):
        assert word in run.stdout
    assert run.stdout.rstrip().endswith("[]")
