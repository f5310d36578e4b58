import re
import shutil
import subprocess

import pytest

from eval.manifest import command_of, commit, name_of_proposals, title, versions

MCG = {"_target_": "proposals.MCG", "count": 500, "scales": [2.0, 1.0, 0.5]}


def test_a_command_tells_no_folders():
    overrides = ["data.path=/home/me/photos", "proposals.path='~/x/mcg.h5'", "gammas=[0,0.5]", "name=a/b"]
    assert command_of(overrides) == "python -m eval data.path=photos proposals.path=mcg.h5 gammas=[0,0.5] name=a/b"


def test_the_code_and_its_packages_have_versions():
    assert "torch" in versions()
    assert commit() is None or re.fullmatch(r"[0-9a-f]{7,}\+?", commit())


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_repository_around_an_installed_package_is_not_its_own(tmp_path, monkeypatch):
    for words in (["init"], ["-c", "user.name=x", "-c", "user.email=x", "commit", "--allow-empty", "--message=x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "manifest.py").touch()
    monkeypatch.setattr("eval.manifest.__file__", str(tmp_path / "manifest.py"))
    assert commit() is None


@pytest.mark.parametrize(
    ("choice", "settings", "stored", "name"),
    [
        ("mcg", {"count": 500}, None, "mcg"),
        ("mcg", {"count": 1000}, None, "mcg_1000"),
        ("edge_boxes_200", {"count": 200}, None, "edge_boxes_200"),
        ("published", {"count": None}, None, "published"),
        ("stored", {"count": None}, MCG, "mcg"),
        ("stored", {"count": 100}, MCG, "mcg_100"),
        ("stored", {"count": 900}, MCG, "mcg"),
        ("stored", {"count": None}, MCG | {"scales": [1.0]}, "scg"),
        ("stored", {"count": None}, {"_target_": "proposals.EdgeBoxes", "count": 200}, "edge_boxes_200"),
        ("stored", {"count": None}, {"_target_": "elsewhere.Other"}, "stored"),
    ],
)
def test_stored_proposals_are_named_by_what_made_them(choice, settings, stored, name):
    assert name_of_proposals(choice, settings, stored) == name


def test_titles_are_the_papers():
    assert title("cmwp", "mcg") == "c-MWP (MCG)"
    assert title("mwp", "edge_boxes") == "MWP (EB)"
    assert title("proposal_order", "mcg") == "MCG_base"
    assert title("cmwp", "mcg", "googlenet", "clothing 0.6") == "googlenet, clothing 0.6, c-MWP (MCG)"
    assert title("mine", "mcg_1000") == "mine (mcg_1000)"
