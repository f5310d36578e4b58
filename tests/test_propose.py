"""``python -m proposals``, in a process of its own or called with settings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_settings import composed
from PIL import Image

from eval.flickr30k import find_photos, load_photo
from grounding.images import load_image
from grounding.photos import photos_below, photos_listed
from grounding.quoting import quote_free_text
from grounding.records import Regions
from proposals import Stored
from proposals.__main__ import propose_all
from proposals.store.workers import Work, propose_each

ROOT = Path(__file__).resolve().parent.parent


class Mean:
    """A proposer that is easy to foresee: one box, scored with the mean of the photo."""

    def __init__(self, *, seconds=0.0, fatal="", weights=None):
        self.seconds = seconds
        self.fatal = fatal

    def __call__(self, image):
        time.sleep(self.seconds)
        if self.fatal and Path(image).stem == self.fatal:
            signal.raise_signal(signal.SIGKILL)
        return mean_of(image)


def mean_of(image):
    loaded = load_image(image)
    return Regions(torch.tensor([[0.0, 0.0, loaded.shape[2], loaded.shape[1]]]), loaded.mean().reshape(1))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos, (all)"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/c.png")):
        Image.new("RGB", (20 + number, 10), (number * 50, 9, 9)).save(folder / name)
    return folder


def propose(*words, mean=None):
    settings = composed(*quote_free_text(["workers=0", *words]), config="propose")
    settings.proposals = {"_target_": "test_propose.Mean"} | (mean or {})
    return propose_all(settings)


def in_a_process(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "proposals", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def test_a_folder_becomes_a_store_that_finds_every_photo(tmp_path, photos):
    out = tmp_path / "o, (1).h5"
    assert propose("data=folder", f"data.path={photos}", f"output={out}") == 0
    stored = Stored(out)
    assert [file.name for file in stored.files()] == ["a.png", "b.png", "more/c.png"]
    for path in (photos / "a.png", photos / "more" / "c.png"):
        assert torch.equal(stored(path).scores, mean_of(path).scores)
    assert stored.settings == {"_target_": "test_propose.Mean"}


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
    propose(*words, mean={"seconds": 0.0})
    with pytest.raises(ValueError, match=r"proposals\.seconds=0\.0 \(now 0\.001\)"):
        propose(*words, mean={"seconds": 0.001})
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


def test_processes_find_the_same_and_one_that_dies_ends_the_run(tmp_path, photos):
    names = ["a.png", "b.png", "more/c.png"]
    work = Work({"_target_": "test_propose.Mean"}, photos, None)
    results = {result.file.name: result for result in propose_each(names, work, processes=2) if result}
    assert {name: float(results[name].arrays["scores"][0]) for name in names} == {
        name: float(mean_of(photos / name).scores) for name in names
    }
    fatal = Work({"_target_": "test_propose.Mean", "fatal": "b"}, photos, None)
    with pytest.raises(ChildProcessError, match="a process was killed"):
        list(propose_each(names, fatal, processes=2))


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    """Interrupted, then killed, then finished: each photo is proposed in about once."""
    for number in range(40):
        Image.new("RGB", (10, 10), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    out, log = tmp_path / "o.h5", tmp_path / "log"
    words = [
        f"image={tmp_path}", f"output={out}", "workers=0", "proposals=logged",
        f"hydra.run.dir={tmp_path / 'run'}", f"hydra.searchpath=[file://{tmp_path}]",
    ]  # fmt: skip
    (tmp_path / "proposals").mkdir()
    (tmp_path / "proposals" / "logged.yaml").write_text(f"_target_: slow.Logged\nlog: {log}\n")
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from test_propose import mean_of\n"
        "import proposals.store.writing\n"
        "proposals.store.writing.SECONDS = 0.2\n"
        "class Logged:\n"
        "    def __init__(self, *, log): self.log = log\n"
        "    def __call__(self, image):\n"
        "        with open(self.log, 'a') as log: print(image, file=log)\n"
        "        time.sleep(0.1)\n"
        "        return mean_of(image)\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(tmp_path)])
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9), (None, 0)):
        before = len(list((tmp_path / "o.h5.parts").glob("*.h5")))
        run = in_a_process(*words, env={**os.environ, "PYTHONPATH": path})
        while stop and run.poll() is None and len(list((tmp_path / "o.h5.parts").glob("*.h5"))) < before + 2:
            time.sleep(0.02)
        if stop:
            run.send_signal(stop)
        output, _ = run.communicate(timeout=60)
        assert run.returncode == code, output
        assert ("interrupted; finished photos are kept" in output) == (stop == signal.SIGINT)
        assert "Traceback" not in output
    proposed = log.read_text().splitlines()
    assert len(set(proposed)) == len(Stored(out)) == 40
    assert len(proposed) <= 40 + 1 + 5  # one that Ctrl-C stopped, those of the last moments before the kill
    assert not (tmp_path / "o.h5.parts").exists()


def test_help_helps_and_imports_nothing_heavy():
    run = in_a_process("--help")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    for word in ("image=", "data=manifest", "proposals: edge_boxes", "output: "):
        assert word in output
    code = "import sys, proposals.__main__; print([m for m in ('torch', 'cv2', 'h5py') if m in sys.modules])"
    light = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"
