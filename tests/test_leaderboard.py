"""``python -m eval.leaderboard`` and the page that it writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_settings import composed
from test_report import result

from eval.leaderboard import check_result, leaderboard, read_results
from eval.leaderboard.__main__ import write_page
from eval.published import published
from grounding.quoting import quote_free_text

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "results, all"
    results.mkdir()
    for name, share in (("b", 0.2), ("a", 0.4)):
        (results / f"{name}.json").write_text(json.dumps(result(f"method {name}", share)))
    return results


def write(*words):
    return write_page(composed(*quote_free_text(list(words)), config="leaderboard"))


def tables(page):
    """The rows of every table, by the heading above it."""
    found, heading = {}, ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = line.replace(r"\|", "¦").strip("|").split("|")
            found.setdefault(heading, []).append([cell.strip() for cell in cells])
    return found


def test_the_command_writes_the_same_page_of_the_same_results(folder, tmp_path):
    assert write(f"results={folder}", f"output={tmp_path / 'page, 1.md'}")
    assert write(f"results={folder}", f"output={tmp_path / 'page 2.md'}")
    page = (tmp_path / "page, 1.md").read_text(encoding="utf-8")
    assert page == (tmp_path / "page 2.md").read_text(encoding="utf-8")
    assert page.startswith("# Leaderboard\n")
    assert "GoldG" in page
    assert "not comparable at all" in page
    assert all(f"**{mark}**, {meaning}" in page for mark, meaning in published().marks.items())


def test_every_table_is_a_rectangle_and_sorted_best_first(folder):
    for heading, (heads, _, *rows) in tables(leaderboard(read_results(folder))).items():
        assert {len(row) for row in rows} == {len(heads)}, heading
        column = next(index for index, head in enumerate(heads) if head.startswith(("R@1", "accuracy")))
        values = [row[column].strip("*").split(" ")[0] for row in rows]
        numbers = [float(value) for value in values if value.replace(".", "").isdigit()]
        assert numbers == sorted(numbers, reverse=True), heading


def test_our_results_have_a_table_for_each_preset_with_the_run_that_made_them(folder):
    page = leaderboard(read_results(folder))
    found = tables(page)
    assert list(found)[:3] == ["zhang18", "mdetr_any", "pointing_mg"]
    heads, _, first, second = found["zhang18"]
    row = dict(zip(heads, first, strict=True))
    assert row["method"] == "**method a** ¹"
    assert second[0] == "**method b** ¹"
    assert row["R@1 (interval)"] == "40.0 (38.0–42.0)"
    assert row["small: R@1/5/10"] == "20.0/40.0/50.0"
    assert row["data"] == "247 photos"
    assert row["mAP (Phrase)"] == "–"
    assert "truth union, suppression 0.5, parsed only no" in page
    assert "1. `python -m eval attention=cmwp`, commit abc1234, 2026-11-23\n" in page


def test_our_best_stands_among_the_published_of_weak_supervision(folder):
    found = tables(leaderboard(read_results(folder)))
    weak = found["Weak or no box supervision, R@1 at IoU .5"][2:]
    ours = [row for row in weak if row[0].startswith("**")]
    assert [(row[0], row[1], row[4]) for row in ours] == [
        ("**method a, ours**", "**50.0**", "mdetr_any"),
        ("**method a, ours**", "**40.0**", "zhang18"),
    ]
    assert not any("ours" in row[0] for row in found["Learned from boxes, R@1 at IoU .5"])
    pointing = [rows for heading, rows in found.items() if heading.startswith("Protocol pointing_mg")]
    assert ["**method a, ours**", "**70.1**", "pointing_mg", "247 photos", "ours", ""] in pointing[0]


def test_boxes_of_files_are_not_called_ours():
    one = result("CCA* (EB)", predictions="boxes/")
    page = leaderboard([one])
    assert r"| CCA\* (EB) ¹ |" in page
    assert "ours**" not in page


def test_every_published_row_is_on_the_page(folder):
    page = leaderboard(read_results(folder))
    for group in published().groups:
        for row in group.rows:
            assert row.method.replace("_", r"\_") in page
    assert "| 41.4–46.4 |" in page
    assert "| 86.0 |" in page
    assert "| 28.94 |" in page


def test_a_command_with_bars_and_backticks_stays_one_line():
    page = leaderboard([result(command="python -m eval name=`date` |\n tee log")])
    assert "1. ``python -m eval name=`date` | tee log``, commit abc1234" in page
    assert "1. not recorded\n" in leaderboard([result(command="", commit=None, date=None)])


def spoilt(path, value):
    """A result in which what is at the end of a path is another value, or is missing."""
    one = result()
    *names, last = path.split(".")
    at = one
    for name in names:
        at = at[name]
    del at[last]
    if value is not MISSING:
        at[last] = value
    return one


MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "expected a result of format 1, got 2"),
        ("name", MISSING, "has no name"),
        ("manifest", MISSING, "has no manifest"),
        ("presets", {}, "has no presets"),
        ("presets.zhang18.kind", "box", "zhang18: expected kind boxes or pointing, got 'box'"),
        ("presets.zhang18.all", None, "zhang18: has no scores of all instances"),
        ("presets.zhang18.small", 3, "zhang18, small: expected scores, got 3"),
        ("presets.zhang18.all.recall", MISSING, "zhang18, all: has no recall"),
        ("presets.zhang18.all.recall.5", MISSING, "recall 5 must be a share from 0 to 1, got nan"),
        ("presets.zhang18.all.recall.1", 36.8, "recall 1 must be a share from 0 to 1, got 36.8"),
        ("presets.zhang18.all.map_group", "1", "map_group must be a share from 0 to 1, got '1'"),
        ("presets.zhang18.all.interval.1", [0.1], "interval 1 must be two shares"),
        ("presets.pointing_mg.all.accuracy", MISSING, "accuracy must be a share from 0 to 1, got nan"),
    ],
)
def test_a_file_that_is_no_result_is_named(folder, path, value, message):
    check_result(result())
    (folder / "spoilt.json").write_text(json.dumps(spoilt(path, value)))
    with pytest.raises(ValueError, match=rf"spoilt\.json: .*{message}"):
        read_results(folder)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "expected an object, got list")])
def test_a_file_of_something_else_is_named(folder, text, message):
    (folder / "spoilt.json").write_text(text)
    with pytest.raises(ValueError, match=rf"spoilt\.json: {message}"):
        read_results(folder)


def test_without_results_the_command_says_what_to_run_first(tmp_path):
    with pytest.raises(ValueError, match="no such folder; run python -m eval first"):
        write(f"results={tmp_path / 'none'}")
    with pytest.raises(ValueError, match=r"no result \(.json\) in it; run python -m eval first"):
        write(f"results={tmp_path}")
    with pytest.raises(ValueError, match="output= is empty"):
        write("output=")


def test_a_page_for_a_folder_that_is_not_there_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        write(f"results={folder}", f"output={tmp_path / 'nowhere' / 'page.md'}")


def test_from_the_shell_an_error_is_one_line(tmp_path):
    words = [f"results={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    run = subprocess.run(
        [sys.executable, "-m", "eval.leaderboard", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert run.stderr == f"error: {tmp_path}: no result (.json) in it; run python -m eval first, which saves results\n"
