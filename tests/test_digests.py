"""Digests of values, and of code with all that it imports."""

import pytest
import torch

from grounding.digests import ROOT, code_digest, digest, imported_files


def test_digests_tell_values_tensors_and_their_order_apart():
    base = torch.arange(4.0)
    things = [
        ({"a": 1},), ({"a": 2},), ({"b": 1},), ("a", 1), (1, "a"), ("ab", "c"), ("a", "bc"),
        (["a", "b"],), (["a"], "b"),
        ("1",), (1,), (1.0,), (True,), (None,), (), ([],), ({},), ([[]],), (b"a",), ("a",),
        (base,), (base.double(),), (base.flip(0),), (base.view(2, 2),), ({"w": base},), ({"v": base},), (base.int(),),
    ]  # fmt: skip
    assert len({digest(*thing) for thing in things}) == len(things)


def test_equal_content_has_an_equal_digest():
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": (2.5,), "a": 1})
    assert digest(torch.zeros(2, 2)) == digest(torch.zeros(4, 2)[::2])
    assert digest(torch.zeros(0, 4)) == digest(torch.zeros(0, 4))


def test_other_values_are_refused():
    with pytest.raises(TypeError, match="a set has no digest"):
        digest({"a": {1, 2}})


FILES = {
    "grounding/__init__.py": "def __getattr__(name):\n    from grounding.pipeline import Grounder\n",
    "grounding/maps.py": "import torch\nfrom grounding.models import Classifier\n",
    "grounding/models.py": "def load():\n    from grounding import vocabulary\n",
    "grounding/vocabulary.py": "WORDS = 3\n",
    "grounding/pipeline.py": "from . import maps\nfrom .attention import CAM\n",
    "grounding/scoring.py": "OVERLAP = 0.7\n",
    "grounding/attention/__init__.py": "from grounding.attention.cam import CAM\n",
    "grounding/attention/cam.py": "from ..scoring import OVERLAP\n",
    "eval/__init__.py": "",
    "eval/tables.py": "import grounding.maps\n",
}


@pytest.fixture
def root(tmp_path):
    """A small copy of the project's packages."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def changed_by(name, root, *modules, added="CHANGED = True\n"):
    """Whether the digest of modules changes with a file, to whose end something is added."""
    code_digest.cache_clear()
    before = code_digest(*modules, root=root)
    with (root / name).open("a") as file:
        file.write(added)
    code_digest.cache_clear()
    return code_digest(*modules, root=root) != before


@pytest.mark.parametrize("name", ["grounding/maps.py", "grounding/models.py", "grounding/vocabulary.py"])
def test_a_key_changes_with_every_file_that_its_code_imports(root, name):
    assert changed_by(name, root, "grounding.maps")


def test_a_key_does_not_change_with_comments_and_docstrings(root):
    assert not changed_by("grounding/vocabulary.py", root, "grounding.maps", added="\n# a comment\n")
    (root / "grounding" / "models.py").write_text('"""Models."""\n\n' + FILES["grounding/models.py"])
    with_docstring = code_digest("grounding.models", root=root)
    (root / "grounding" / "models.py").write_text('"""Other words."""\n' + FILES["grounding/models.py"])
    code_digest.cache_clear()
    assert code_digest("grounding.models", root=root) == with_docstring


@pytest.mark.parametrize("name", ["eval/tables.py", "grounding/scoring.py", "grounding/__init__.py"])
def test_a_key_does_not_change_with_a_file_that_its_code_does_not_import(root, name):
    assert not changed_by(name, root, "grounding.maps")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("grounding.maps", ["maps", "models", "vocabulary"]),
        ("grounding.attention.cam", ["attention/cam", "scoring"]),
        ("grounding.attention", ["attention/__init__", "attention/cam", "scoring"]),
        ("grounding", ["__init__", "attention/__init__", "attention/cam", "maps", "models", "pipeline", "scoring"]),
    ],
)
def test_imports_are_followed_through_packages_functions_and_relative_names(root, module, names):
    names = sorted({*names, "vocabulary"}) if "models" in names else names
    found = [
        path.relative_to(root / "grounding").with_suffix("").as_posix() for path in imported_files(module, root=root)
    ]
    assert found == names


def test_modules_of_other_packages_are_left_out_and_missing_ones_are_named(root):
    assert imported_files("torch.nn", "grounding.scoring", root=root) == [root / "grounding" / "scoring.py"]
    with pytest.raises(ValueError, match=r"no module grounding\.nowhere"):
        imported_files("grounding.nowhere", root=root)


def test_word_maps_depend_on_the_code_of_attention_and_on_none_of_the_evaluation():
    found = {
        path.relative_to(ROOT).as_posix() for path in imported_files("grounding.maps", "grounding.attention.excitation")
    }
    assert {"grounding/maps.py", "grounding/models.py", "grounding/vocabulary.py"} <= found
    assert {"grounding/attention/excitation.py", "grounding/attention/links.py"} <= found
    assert not any(name.startswith(("eval/", "train/", "proposals/")) for name in found)
    assert (
        not {"grounding/config.py", "grounding/scoring.py", "grounding/draw.py", "grounding/attention/relevance.py"}
        & found
    )


def test_predictions_depend_on_scoring_and_not_on_tables():
    found = {path.relative_to(ROOT).as_posix() for path in imported_files("eval.predicting")}
    assert {"grounding/scoring.py", "grounding/phrases.py", "eval/records.py"} <= found
    assert not any(
        name.startswith(("eval/tables", "eval/leaderboard", "eval/metrics", "eval/gammas")) for name in found
    )
