"""The wheel: what is in it, and its commands outside the checkout, in processes that cannot import the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from command_settings import QUICK
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
PACKAGES = ("grounding", "proposals", "train", "eval")
LEFT_OUT = ("eval/results", "eval/region_results")  # our own measurements, which make the pages of docs/
IGNORED = {".git", ".venv", "runs", "data", "build", "dist"}  # folders of a checkout that may be there, and large

pytestmark = pytest.mark.slow


def run(*words, cwd, environment=None, timeout=300):
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def ignored(folder, names):
    """The entries of a folder of the checkout that are not copied."""
    top = IGNORED if Path(folder) == ROOT else set()
    return {name for name in names if name in top or name.endswith((".egg-info", "__pycache__"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, so that nothing is written into the checkout."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip('building the wheel needs setuptools 77 or newer: pip install -e ".[dev]"')
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignored)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    built = run(sys.executable, "-m", "pip", "wheel", *options, folder / "checkout", cwd=folder)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel):
    """The folder into which the wheel is installed."""
    folder = wheel.parent / "installed"
    options = ("--no-deps", "--no-index", "--target", folder)
    done = run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=wheel.parent)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def outside(installed, tmp_path):
    """Run Python in another folder, with the installed packages and all dependencies, but without the checkout."""
    dependencies = [path for path in sys.path if "site-packages" in path or not Path(path).is_relative_to(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *filter(None, dependencies)])}
    folder = tmp_path / "a folder, ünï"
    folder.mkdir()
    # With -S, no .pth file adds the checkout, as those of editable installations do.
    return folder, lambda *words: run(sys.executable, "-S", *words, cwd=folder, environment=environment)


def test_all_package_data_are_in_the_wheel_and_nothing_else(wheel):
    folders = {**{package: ROOT / package for package in PACKAGES}, "grounding/conf": ROOT / "conf"}
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {name for name in expected if not name.startswith(LEFT_OUT)}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("phrase_grounding-")}
    assert names == expected


def test_no_package_comes_from_the_checkout(outside, installed):
    _, python = outside
    for package in PACKAGES:
        ran = python("-c", f"import {package}; print({package}.__file__)")
        assert ran.stdout.strip() == str(installed / package / "__init__.py"), ran.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_help(outside, installed, name):
    _, python = outside
    ran = python(installed / "bin" / name, "--help")
    assert ran.returncode == 0, ran.stderr
    assert "python -m" in ran.stdout
    assert not ran.stderr


def test_a_photo_is_grounded_and_the_results_go_to_the_current_folder(outside, installed, examples):
    """The default model, and options whose weights and settings come with the packages."""
    folder, python = outside
    Image.fromarray(examples["coffee"]).resize((150, 100)).save(folder / "a cup ☕.png")
    ran = python(installed / "bin" / "ground", "image=a cup ☕.png", "caption=A cup, on a wooden table", *QUICK)
    assert ran.returncode == 0, ran.stderr
    (path,) = folder.glob("runs/grounding/*/a cup ☕.json")
    assert [phrase["text"] for phrase in json.loads(path.read_text())["phrases"]] == ["A cup", "a wooden table"]
    assert {file.name for file in folder.iterdir()} == {"a cup ☕.png", "runs"}
