"""The command line: mostly within this process and with a quick grounder, slow tests in a process of its own."""

import json
import logging
import os
import signal
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
from command_settings import QUICK, composed
from omegaconf import OmegaConf
from PIL import Image

import grounding.__main__ as command
from grounding.files import write_file
from grounding.quoting import quote_free_text

ROOT = command.Path(command.__file__).resolve().parent.parent


@pytest.fixture
def ground(tmp_path, quick_grounder, monkeypatch):
    """Run the command's body with words of a command line; the files that it wrote, and how many photos failed."""
    monkeypatch.setattr("grounding.pipeline.Grounder.from_settings", lambda settings: quick_grounder)

    runs = count()

    def run(*words, out=None):
        out = out or tmp_path / f"out{next(runs)}"
        out.mkdir(exist_ok=True)
        failures = command.ground_all(composed(*quote_free_text(list(words))), out)
        return {path.name: path for path in out.iterdir()}, failures

    return run


@pytest.fixture
def photos(tmp_path, examples):
    for name in ("chelsea", "coffee"):
        Image.fromarray(examples[name]).resize((160, 120)).save(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Run the whole command within this process; its exit code and all that it printed."""
    monkeypatch.setattr("grounding.command_line._outcomes", [])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the command itself sets it, for good

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["grounding", *words])
        code = 0
        try:
            command.main()
        except SystemExit as error:  # Python prints text that a program exits with
            code = 1 if isinstance(error.code, str) else error.code or 0
            print(error.code if isinstance(error.code, str) else "", end="")
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    yield run
    for handler in [*logging.getLogger().handlers]:  # those of Hydra, which write to the captured output and to files
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            logging.getLogger().removeHandler(handler)
            handler.close()


def test_without_arguments_the_example_photos_are_grounded(ground, capsys):
    files, failures = ground()
    assert failures == 0
    assert set(files) == {f"{n}.{e}" for n in ("astronaut", "chelsea", "coffee", "rocket") for e in ("png", "json")} | {
        "all.png"
    }
    printed = capsys.readouterr().out
    assert "A tabby cat" in printed
    values = json.loads(files["rocket.json"].read_text(encoding="utf-8"))
    assert values["phrases"][0]["text"] == "A white rocket"


def test_captions_go_to_one_photo_or_one_to_each(ground, photos):
    files, _ = ground(f"image={photos}/chelsea.jpg", "caption=A cat", "caption=An eye, (green)")
    assert json.loads(files["chelsea.json"].read_text())["captions"] == ["A cat", "An eye, (green)"]
    files, _ = ground(f"image={photos}/chelsea.jpg", f"image={photos}/coffee.jpg", "caption=A cat", "caption=A cup")
    assert json.loads(files["coffee.json"].read_text())["captions"] == ["A cup"]
    files, _ = ground(f"image={photos}", "caption=A thing")
    assert json.loads(files["coffee.json"].read_text())["captions"] == ["A thing"]
    files, _ = ground(f"image={photos}/co*.jpg", "phrases=cup", "phrases=spoon")
    assert [p["text"] for p in json.loads(files["coffee.json"].read_text())["phrases"]] == ["cup", "spoon"]


def test_a_bad_photo_is_reported_in_its_own_result_and_the_rest_goes_on(ground, photos, caplog):
    (photos / "broken.jpg").write_bytes(b"no photo")
    files, failures = ground(f"image={photos}", "caption=A cat")
    assert failures == 1
    assert "broken.jpg: not an image" in json.loads(files["broken.json"].read_text())["error"]
    assert "broken.jpg: not an image" in caplog.text
    assert {"chelsea.png", "coffee.png"} <= set(files)
    assert "broken.png" not in files


def test_exports_of_all_photos_lie_beside_their_results(ground, photos):
    (photos / "broken.jpg").write_bytes(b"no photo")
    words = [f"image={photos}", "caption=A cat", "export=coco,odvg", "export_count=2"]
    for folder in ("export", "export_2"):
        files, failures = ground(*words, out=photos / "out")
        assert failures == 1
        assert sorted(path.name for path in files[folder].iterdir()) == [
            "coco_dataset.json",
            "coco_results.json",
            "odvg.jsonl",
        ]
        entries = [json.loads(line) for line in (files[folder] / "odvg.jsonl").read_text().splitlines()]
        assert [entry["filename"] for entry in entries] == [f"{photos}/chelsea.jpg", f"{photos}/coffee.jpg"]
        assert [len(entry["grounding"]["regions"]) for entry in entries] == [2, 2]
        results = json.loads((files[folder] / "coco_results.json").read_text())
        values = json.loads(files["chelsea.json"].read_text())
        x1, y1, x2, y2 = values["phrases"][0]["boxes"][0]
        assert results[0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])


def test_photos_of_one_name_have_results_of_their_own(ground, photos):
    (photos / "more").mkdir()
    Image.new("RGB", (20, 20)).save(photos / "more" / "chelsea.png")
    files, _ = ground(f"image={photos}/chelsea.jpg", f"image={photos}/more/chelsea.png", "caption=A cat")
    assert {"chelsea.png", "chelsea_2.png"} <= set(files)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["caption=A cat"], "no photo: add image=PATH"),
        (["image=", "caption=A cat"], "image= is empty"),
        (["image={}/chelsea.jpg"], "no caption: add caption="),
        (["image={}/nowhere.jpg", "caption=A cat"], "no such file"),
        (["image={}/*.webp", "caption=A cat"], "no file matches"),
        (["image={}", "caption=a", "caption=b", "caption=c"], "2 photos and 3 captions"),
        (["image={}", "caption=a", "phrases=b"], "one of the two"),
        (["image={}", "caption=a", "export=yolo"], "export=yolo: no such format; formats are coco, grit"),
        (["image={}", "caption=a", "export=coco", "export_count=0"], "export_count must be from 1"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(ground, photos, words, message):
    with pytest.raises(ValueError, match=message):
        ground(*[word.format(photos) for word in words])


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    target = tmp_path / "result.json"
    write_file(target, b"before")

    def fail(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=r"result\.json cannot be written: No space left"):
        write_file(target, b"after")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_that_is_there_is_overwritten(ground, tmp_path, examples):
    out = tmp_path / "out"
    out.mkdir()
    Image.fromarray(examples["chelsea"]).resize((80, 60)).save(out / "cat.png")
    before = (out / "cat.png").read_bytes()
    for _ in range(2):
        files, _ = ground(f"image={out}/cat.png", "caption=A cat", out=out)
    assert (out / "cat.png").read_bytes() == before
    assert {"cat_2.png", "cat_2.json", "cat_3.png"} <= set(files)


def test_odd_names_do_not_stop_the_rest(ground, photos):
    name = "x" * 240 + ".jpg"
    (photos / "chelsea.jpg").rename(photos / name)
    (photos / "coffee.jpg").rename(photos / "caf\udce9.jpg")
    files, failures = ground(f"image={photos}", "caption=A cat")
    assert failures == 0
    assert {"x" * 80 + ".png", "caf?.png", "all.png"} <= set(files)


@pytest.mark.slow
def test_text_arrives_as_typed_from_a_real_command_line(tmp_path, examples):
    """A whole run of the default command; its settings are kept as typed, and its exit code is 0."""
    path = tmp_path / "a cat, = $5 (1).jpg"
    Image.fromarray(examples["chelsea"]).resize((120, 80)).save(path)
    caption = 'A cat, 40 (left), says "hi": it\'s ${x} 猫'
    words = [f"image={path}", f"caption={caption}", f"hydra.run.dir={tmp_path}/out"]
    run = subprocess.run(
        [sys.executable, "-m", "grounding", *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "out" / "a cat, = $5 (1).json").read_text())["captions"] == [caption]
    assert list(OmegaConf.load(tmp_path / "out" / ".hydra" / "config.yaml").caption) == [caption]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image=nowhere.jpg", "caption=A cat"], "error: nowhere.jpg: no such file or folder"),
        (["scoring.cuont=1"], "cuont"),
        (["model=nonet"], "nonet"),
        (["scoring.overlap=3"], "error: scoring.overlap is an IoU from 0 to 1, got 3.0"),
        (["model=torchvision"], "error: Missing mandatory value: model.name"),
        (["scoring.count=many"], "many"),
    ],
)
def test_errors_are_short_and_the_exit_code_is_not_0(run_main, tmp_path, words, message):
    code, printed = run_main(*words, f"hydra.run.dir={tmp_path}/out")
    assert code == 1
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_bad_run(run_main, tmp_path, examples):
    Image.fromarray(examples["chelsea"]).resize((120, 80)).save(tmp_path / "cat.jpg")
    words = [f"image={tmp_path}/cat.jpg", "caption=A cat", "scoring.overlap=7,0.7", f"hydra.sweep.dir={tmp_path}/out"]
    code, printed = run_main("-m", *QUICK, *words)
    assert code == 1
    assert "scoring.overlap is an IoU from 0 to 1, got 7" in printed
    assert (tmp_path / "out" / "1" / "cat.png").exists()


def test_help_helps_and_imports_nothing_heavy():
    code = """
import sys
from grounding.__main__ import main
sys.argv = ["grounding", "--help"]
try:
    main()
finally:
    print("heavy imports:", [name for name in ("torch", "spacy", "cv2", "skimage") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for words in ("image=", "caption=", "attention: best, c_cam, c_deconv", "area_exponent: ", "heavy imports: []"):
        assert words in run.stdout


@pytest.mark.slow
def test_an_interrupt_ends_quietly(tmp_path, examples):
    """Ctrl-C while regions are proposed, which would never end."""
    Image.fromarray(examples["chelsea"]).resize((60, 40)).save(tmp_path / "cat.jpg")
    (tmp_path / "endless.py").write_text("""
import time

def propose(image):
    print("proposing", flush=True)
    while True:
        time.sleep(0.05)

def Endless():
    return propose
""")
    out = tmp_path / "out"
    words = [f"image={tmp_path}/cat.jpg", "caption=A cat", "attention=centre", f"hydra.run.dir={out}"]
    run = subprocess.Popen(
        [sys.executable, "-m", "grounding", *words, "~proposals", "+proposals._target_=endless.Endless"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    try:
        output = ""
        for line in run.stdout:
            output += line
            if line == "proposing\n":
                run.send_signal(signal.SIGINT)
        code = run.wait()
    finally:
        run.kill()
        run.stdout.close()
    assert code == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    assert sorted(path.name for path in out.iterdir()) == [".hydra", "grounding.log"]


def test_photos_that_are_noise_are_drawn_too(ground, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8)).save(tmp_path / "tiny.png")
    files, failures = ground(f"image={tmp_path}/tiny.png", f"caption={'A dog sees a cat. ' * 40}")
    assert failures == 0
    with Image.open(files["tiny.png"]) as picture:
        assert picture.width == 960


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ground att", "attention. attention="),
        ('"my tools/bin/ground" attention=cm', "attention=cmwp attention=cmwp_star"),
        ('ground image="my cat.jpg" caption="A dog, wet (and happy)" scoring.cou', "scoring.count="),
        ("ground image=dog.jpg explain=1 scoring.cou", ""),
        ("ground explain image=cat.jpg cl", "classes."),
        ("ground compare alp", "alpha="),
        ("ground caption='A dog, wet (an", "attention="),
        ("ground --he", "attention="),
    ],
)
def test_a_shell_completes_settings_after_any_text(run_main, monkeypatch, line, found):
    monkeypatch.setenv("COMP_LINE", line)
    _, printed = run_main("-sc", "query=bash")
    assert found in printed
    assert "error" not in printed
    assert found or not printed.strip()


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(run_main, tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file where the folder of runs should be")
    monkeypatch.chdir(tmp_path)
    code, printed = run_main()
    assert code == 1
    assert printed.startswith(f"error: {tmp_path}/runs")
    assert printed.strip().endswith("hydra.run.dir=FOLDER")
