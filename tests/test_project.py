"""The project's own order: which folder imports which, how long files are, what is packaged, where links lead."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
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
LONGEST_FILE, LONGEST_FUNCTION = 350, 60  # lines
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
PAGES = sorted(
    path for pattern in ("*.md", "*/*.md", "*/*/*.md") for path in ROOT.glob(pattern) if ".venv" not in str(path)
)


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """The modules that a file imports, also within functions and for type checking."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def test_no_modules_import_each_other_in_a_circle():
    """A package's own __init__.py may import its modules, which is how it offers their names."""
    files = {module_name(path): path for path in SOURCES if path.name != "__init__.py"}
    waiting = {name: {other for other in imports(path) if other in files} for name, path in files.items()}
    while free := {name for name, needed in waiting.items() if not needed & waiting.keys()}:
        for name in free:
            del waiting[name]
    assert not waiting, f"imported in a circle: {', '.join(sorted(waiting))}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


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


def test_no_command_imports_what_is_slow_before_it_knows_its_settings():
    """So that ``--help`` and completion in a shell answer at once."""
    commands = [module_name(path) for path in SOURCES if path.name == "__main__.py"]
    slow = {"torch", "spacy", "numba", "cv2", "skimage", "scipy", "matplotlib", "gradio", "onnx", "pandas", "pyarrow"}
    code = f"import {', '.join(commands)}, sys; print({slow} & sys.modules.keys() or 'none')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "none"


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_every_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} links to {target}, which has no such heading"


def test_the_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_script_and_every_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    first_cells = set(re.findall(r"^\| `([\w-]+)` \|", page, flags=re.MULTILINE))
    assert first_cells == {*project["scripts"], *project["optional-dependencies"]}
