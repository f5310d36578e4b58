"""``python -m eval.leaderboard`` and the pages that it writes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_settings import composed
from example_results import DATA, example_pointing, example_result

from eval.leaderboard.__main__ import write_pages
from eval.leaderboard.page import leaderboard
from eval.leaderboard.readme import ATTENTIONS, BEGIN, END, readme_block, replace_block
from eval.leaderboard.results_page import error_analysis, results_page
from eval.manifest import title
from eval.published import published
from eval.regions.result import read_region_results
from eval.result import read_results, save_result
from grounding.quoting import quote_free_text

ROOT = Path(__file__).resolve().parent.parent
HERE = replace(DATA, split="part of val", flickr8k=1.0)
TEST = replace(DATA, split="test", photos=1000, digest="another")
RESULTS = [example_result("method b", 0.2, data=HERE), example_result("method a", 0.4, data=HERE)]


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "results, all"
    for result in RESULTS:
        save_result(result, results)
    return results


@pytest.fixture(scope="module")
def page():
    return leaderboard([*RESULTS, example_result("on test", 0.45, data=TEST)])


def write(*words):
    return write_pages(composed(*quote_free_text(list(words)), config="leaderboard"))


def tables(page):
    """The rows of every table, by the heading above it."""
    found, heading = {}, ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("\\", "")
        elif line.startswith("|"):
            cells = line.replace(r"\|", "¦").strip("|").split("|")
            found.setdefault(heading, []).append([cell.strip() for cell in cells])
    return found


def test_the_command_writes_the_same_pages_from_the_same_results(folder, tmp_path):
    readme = tmp_path / "README.md"
    save_result(example_result("c-MWP (MCG)", data=HERE), folder)
    pages = []
    for name in ("one, 1", "two"):
        readme.write_text(f"Before\n{BEGIN}\n{name}\n{END}\nAfter\n")
        paths = [tmp_path / f"{name}.md", tmp_path / f"{name} tables.md", readme]
        assert write(
            f"results={folder}",
            *(f"{key}={path}" for key, path in zip(("output", "tables", "readme"), paths, strict=True)),
        )
        pages.append([path.read_text(encoding="utf-8") for path in paths])
    assert pages[0] == pages[1]
    first, second, third = pages[0]
    assert first.startswith("# Leaderboard\n")
    assert second.startswith("# Results\n")
    assert third.startswith(f"Before\n{BEGIN}\nMeasured on part of val, 247 photos")
    assert third.endswith(f"\n{END}\nAfter\n")


def test_pages_that_are_not_wanted_are_not_written(folder, tmp_path):
    assert write(f"results={folder}", f"output={tmp_path / 'page.md'}", "tables=null", "readme=null")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", folder.name]


def test_no_page_is_written_where_one_cannot_be_made(folder, tmp_path):
    (tmp_path / "README.md").write_text(f"{BEGIN}{END}")
    words = [f"results={folder}", f"output={tmp_path / 'page.md'}", "tables=null"]
    with pytest.raises(ValueError, match=r"README\.md: no result for the rows of README\.md \(best \(MCG\), c-MWP"):
        write(*words, f"readme={tmp_path / 'README.md'}")
    (tmp_path / "README.md").write_text("no markers")
    save_result(example_result("c-MWP (MCG)", data=HERE), folder)
    with pytest.raises(ValueError, match=r"README\.md: expected <!-- results --> and, .* readme=null leaves it alone"):
        write(*words, f"readme={tmp_path / 'README.md'}")
    assert not (tmp_path / "page.md").exists()


def test_every_table_is_a_rectangle_and_sorted_best_first(page):
    for heading, (heads, _, *rows) in tables(page).items():
        assert {len(row) for row in rows} == {len(heads)}, heading
        column = next(index for index, head in enumerate(heads) if head.startswith(("R@1", "accuracy")))
        values = [row[column].split(" ")[0] for row in rows]
        numbers = [float(value) for value in values if value.replace(".", "").isdigit()]
        assert numbers == sorted(numbers, reverse=True), heading


def test_our_results_have_a_table_for_each_preset_and_set_of_photos(page):
    found = tables(page)
    assert list(found)[:4] == [
        "zhang18, test, 1,000 photos",
        "mdetr_any, test, 1,000 photos",
        "pointing_mg, test, 1,000 photos",
        "zhang18, part of val, 247 photos",
    ]
    heads, _, first, second = found["zhang18, part of val, 247 photos"]
    row = dict(zip(heads, first, strict=True))
    assert (row["method"], second[0]) == ("method a ¹", "method b ¹")
    assert row["R@1 (interval)"] == "40.0 (38.0–42.0)"
    assert row["small: R@1/5/10"] == "20.0/40.0/50.0"
    assert (row["mAP (Group), raw"], row["reached"]) == ("11.9", "14.0")
    assert first[heads.index("mAP (Group), raw") + 1] == "15.2"
    assert found["pointing_mg, part of val, 247 photos"][2][-2:] == ["70.1 (68.0–72.0)", "60.8"]
    assert "truth union, iou inclusive, suppression 0.5, parsed only no" in page
    assert "1. `python -m eval attention=cmwp`, commit abc1234, 2026-11-23\n" in page


def test_none_of_our_results_is_in_a_published_table(page):
    names = {"method a", "method b", "on test"}
    published_part = page[page.index("## Published: ") :]
    assert not any(name in published_part for name in names)
    for group in published().groups:
        assert not any(name in row.method for row in group.rows for name in names)


def test_the_notes_stand_above_our_tables(page):
    start = page.index("### Measured on part of val, 247 photos")
    section = page[start : page.index("#### zhang18, part of val")]
    for text in (
        "no random sample of their split",
        "few-shot supervision",
        "γ of each method was chosen from 0, 0.25",
    ):
        assert text in section


def test_boxes_of_another_system_are_marked():
    page = leaderboard([example_result("CCA* (EB)", predictions="boxes.json")])
    assert r"| CCA\* (EB), another system's boxes ¹ |" in page


def test_both_presets_of_entities_say_how_they_differ():
    result = example_result()
    presets = {"pointing_entity": example_pointing(), "pointing_entity_all": example_pointing()}
    page = leaderboard([replace(result, presets=presets)])
    assert page.count("47.42 % of 6,012 entities, against 60.79 % of 4,081") == 2


def test_every_published_row_is_on_the_page(page):
    for group in published().groups:
        for row in group.rows:
            assert row.method.replace("_", r"\_") in page
    for text in ("| 41.4–46.4 |", "| 86.0 |", "| 28.94 |", "| 86.49 |", "GoldG", "not comparable at all"):
        assert text in page
    assert all(f"**{mark}**, {meaning}" in page for mark, meaning in published().marks.items())


def test_a_command_with_bars_and_backticks_stays_one_line():
    page = leaderboard([example_result(command="python -m eval name=`date` |\n tee log", commit=None)])
    assert "1. ``python -m eval name=`date` | tee log``, 2026-11-23\n" in page


def test_the_results_page_keeps_the_papers_tables_apart():
    page = results_page(RESULTS)
    ours, reference = page.split("## The paper's tables, for reference")
    assert "| method a | 0.25 | 40.0/20.0 |" in ours
    assert "26.2/21.2" not in ours
    assert "| c-MWP (MCG) | 0.50 | 26.2/21.2 |" in reference
    assert "| method a |" not in reference
    assert "| the photo's centre | 60.8 |" in ours
    assert "| of type animals | 10.5 | 1.6 | 3.6 |" in ours


def test_an_error_analysis_is_shown_where_it_was_saved(tmp_path):
    recall = {"1": 0.408, "5": 0.676, "10": 0.753, "bound": 0.91}
    saved = {"command": "python benchmarks/oracles.py", "attention": "cmwp", "photos": 247, "phrases": 3239}
    saved |= {
        "rows": [{"name": "without an oracle, γ 0.25", "recall": recall}],
        "pointing": {"without an oracle": 0.708},
    }
    path = tmp_path / "errors.json"
    path.write_text(json.dumps(saved))
    text = error_analysis(path)
    assert "| without an oracle, γ 0.25 | 40.8 | 67.6 | 75.3 | 91.0 |" in text
    assert "without an oracle, 70.8 %" in text
    path.write_text(json.dumps({"rows": []}))
    with pytest.raises(ValueError, match=r"errors\.json: not an error analysis"):
        error_analysis(path)


def test_the_readme_has_five_rows_of_one_set_of_photos():
    ours = [example_result(title(attention, "mcg"), attention=attention, data=HERE) for attention in ATTENTIONS]
    others = [example_result("c-MWP (EB)", data=HERE), example_result("clothing 0.6, c-MWP (MCG)", data=HERE)]
    block = readme_block([*others, *ours])
    ((heads, _, *rows),) = tables(block).values()
    assert [row[0] for row in rows] == list(ATTENTIONS.values())
    assert dict(zip(heads, rows[0], strict=True))["R@1"] == "40.0/20.0"
    assert "no random sample of their split" in block


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}"])
def test_a_text_without_both_markers_is_refused(text):
    with pytest.raises(ValueError, match="expected <!-- results --> and, after it, <!-- /results -->, once each"):
        replace_block(text, "new")


def test_the_pages_in_the_repository_are_those_that_the_command_writes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if BEGIN not in readme:
        pytest.skip("README.md has no block of results yet")
    results = read_results(ROOT / "eval" / "results")
    assert readme == replace_block(readme, readme_block(results))
    regions = read_region_results(ROOT / "eval" / "region_results")
    assert (ROOT / "LEADERBOARD.md").read_text(encoding="utf-8") == leaderboard(results, regions)
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page(results, regions)


def test_without_results_the_command_says_what_to_run_first(tmp_path):
    with pytest.raises(ValueError, match="no such folder; run python -m eval first"):
        write(f"results={tmp_path / 'none'}")
    with pytest.raises(ValueError, match="output= is empty"):
        write("output=")


def test_a_page_for_a_missing_folder_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"output=.*: no folder"):
        write(f"results={folder}", f"output={tmp_path / 'nowhere' / 'page.md'}")


def test_from_the_shell_an_error_is_one_line_and_torch_is_not_imported(tmp_path):
    words = [f"results={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "-X", "importtime", "-m", "eval.leaderboard", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = run.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert run.returncode == 1
    assert "eval.result" in imported
    assert not {"torch", "spacy", "matplotlib"} & imported
    assert [line for line in lines if not line.startswith("import time:")] == [
        f"error: {tmp_path}: no result (.json) in it; run python -m eval first, which saves results"
    ]
