"""The project's own order: which folder may import which, and what is packaged."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "grounding": set(),
    "proposals": {"grounding"},
    "train": {"grounding", "proposals"},
    "eval": {"grounding", "proposals"},
}
FOR_ENTRY_POINTS_ALONE = {"hydra", "omegaconf", "argparse"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            root = name.split(".")[0]
            if root in MAY_IMPORT and root != package:
                assert root in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {name}"
            if path.name not in ("__main__.py", "config.py", "command_line.py"):
                assert root not in FOR_ENTRY_POINTS_ALONE, f"{path.relative_to(ROOT)} imports {name}"
            assert root != "torchray", f"{path.relative_to(ROOT)} imports {name}"


def test_every_package_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert on_disk <= set(settings["packages"])
    assert set(settings["packages"]) - on_disk == {
        "grounding.conf",
        "grounding.vocabularies",
        "grounding.weights",
        "proposals.weights",
    }


def test_the_readme_shows_what_is_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in readme.splitlines():
        for mark in ("](docs/", "](benchmarks/"):
            if mark in line:
                target = line.split(mark[:2])[1].split(")")[0]
                assert (ROOT / target).exists(), target
