"""Results as tables, files and a picture, and the published numbers beside them."""

import csv
import io
import json
from copy import deepcopy

import pytest
from rich.console import Console

from eval.flickr30k import TYPES
from eval.published import COLUMNS, published
from eval.report import (
    as_csv,
    as_json,
    as_text,
    data_of,
    draw_tables,
    headline,
    markdown_table6,
    markdown_table7,
    print_result,
    print_tables,
    table_rows,
    write_tables,
)


def scores(share, instances=3239):
    of_type = {"instances": 9, "recall": {"1": 0.1, "5": 0.222, "10": 0.3, "bound": 0.4}, "ap": 0.05}
    return {
        "instances": instances,
        "photos": 247,
        "recall": {"1": share, "5": share + 0.2, "10": share + 0.3, "bound": 0.95},
        "interval": {rank: [share - 0.02, share + 0.02] for rank in ("1", "5", "10", "bound")},
        "types": {name: deepcopy(of_type) for name in TYPES},
        "type_mean_recall_5": 0.541,
        "map_group": 0.152,
        "map_phrase": None,
        "labels": 1800,
    }


def result(name="c-MWP (MCG)", share=0.4, **changed):
    settings = {"truth": "union", "suppression": 0.5, "parsed_only": False}
    boxes = {"kind": "boxes", "settings": settings}
    pointing = {"instances": 3100, "photos": 247, "accuracy": 0.701, "interval": [0.68, 0.72]}
    small, large = scores(share / 2, 1700), scores(share + 0.1, 1539)
    manifest = {
        "command": "python -m eval attention=cmwp",
        "commit": "abc1234",
        "date": "2026-11-23",
        "versions": {"torch": "2.15"},
        "model": "tags",
        "gamma": {"value": 0.25, "chosen_on": "247 photos, R@1"},
        "data": "flickr30k",
        "split": None,
        "photos": 247,
    }
    return {
        "name": name,
        "format": 1,
        "manifest": manifest | changed,
        "coverage": {"phrases": 3239, "known": 3183},
        "seconds": {"photos": 247, "attention": 120.5, "total": 160.1},
        "gammas": {"0.0": {"1": 0.31, "5": 0.5, "10": 0.6}, "0.25": {"1": 0.4, "5": 0.6, "10": 0.7}},
        "presets": {
            "mdetr_any": boxes | {"all": scores(share + 0.1), "small": None, "large": None},
            "zhang18": boxes | {"all": scores(share), "small": small, "large": large},
            "pointing_mg": {
                "kind": "pointing",
                "settings": {"unit": "phrase"},
                "all": pointing | {"types": {"people": {"instances": 5, "accuracy": 0.8}}},
            },
        },
    }


def printed(function, *arguments, width=150):
    page = io.StringIO()
    function(Console(file=page, width=width, color_system=None), *arguments)
    return page.getvalue()


def test_one_result_says_all_that_was_measured():
    page = printed(print_result, result())
    for text in (
        "c-MWP (MCG): zhang18, 247 photos",
        "40.0 (38.0–42.0)",
        "3,183 of 3,239 phrases with a known word (98.3 %)",
        "70.1 (68.0–72.0)",
        "3,100 (phrase)",
        "160.1 s (attention 120.5), 1.5 photos/s",
        "γ 0.25 (chosen on 247 photos, R@1)",
        "commit abc1234",
        "torch 2.15",
    ):
        assert text in page
    assert [line.split()[0] for line in page.splitlines() if "chosen" in line and "on" not in line] == ["0.25"]
    assert "mdetr_any" in page
    assert "instruments" in page


@pytest.mark.parametrize("width", [150, 80])
def test_no_cell_is_cut_short(width):
    results = [result("Deconv (MCG)"), result("c-MWP (EdgeBoxes)"), result("a mix of our own (MCG)")]
    for page in (
        printed(print_tables, results, width=width),
        *(printed(print_result, one, width=width) for one in results),
    ):
        assert "…" not in page
        assert all(len(line) <= width for line in page.splitlines())


EMPTY = {"name": "x", "format": 1, "manifest": {}, "presets": {}}


@pytest.mark.parametrize(
    "strip",
    [
        lambda one: one.pop("gammas"),
        lambda one: one.pop("manifest"),
        lambda one: one.update(presets={}),
        lambda one: one.update(coverage=None, seconds=None),
        lambda one: one["presets"].pop("zhang18"),
        lambda one: one["presets"].pop("pointing_mg"),
        lambda one: one["presets"]["zhang18"].update(small=None, large=None),
        lambda one: one["presets"]["zhang18"]["all"].update(types={}, interval=None, recall={"1": 0.1}),
        lambda one: one["presets"]["pointing_mg"]["all"].update(accuracy=None, interval=None, types={}),
        lambda one: one["manifest"].update(gamma=None, versions=None),
    ],
)
def test_what_was_not_measured_leaves_a_gap_and_no_error(strip):
    one = deepcopy(result())
    strip(one)
    assert "c-MWP (MCG)" in printed(print_result, one)
    assert "None" not in printed(print_result, one) + as_text([one]) + markdown_table6([one]) + markdown_table7([one])
    assert json.loads(as_json([one]))
    rows = list(csv.DictReader(io.StringIO(as_csv([one]))))
    subsets = [(values, subset) for values in one["presets"].values() for subset in ("all", "small", "large")]
    assert len(rows) == sum(values.get(subset) is not None for values, subset in subsets)


def test_a_name_with_brackets_is_no_markup():
    assert "[red]c-MWP[/] (MCG)" in printed(print_result, result("[red]c-MWP[/] (MCG)"))
    assert "[red]x[/]" in as_text([result("[red]x[/]")])


def test_the_papers_preset_stands_for_a_result_else_the_first_of_boxes():
    assert headline(result())[0] == "zhang18"
    assert headline({"presets": {"p": {"kind": "pointing"}, "mdetr_any": {"kind": "boxes"}}})[0] == "mdetr_any"
    assert headline(EMPTY) is None


@pytest.mark.parametrize(
    ("one", "row"),
    [
        (result("c-MWP (MCG)"), "c-MWP (MCG)"),
        (result("c-MWP (EdgeBoxes)"), "c-MWP (EB)"),
        (result("c-MWP (MCG), ImageNet's words"), "c-MWP (MCG)"),
        (result("mine", attention="mwp", proposals="mcg"), "MWP (MCG)"),
        (result("CCA* (EB)"), "CCA* (EB)"),
        (result("MCG_base"), "MCG_base"),
        (result("c-MWP and MWP (MCG)"), None),
        (result("mine", attention="best", proposals="mcg"), None),
        (result("LRP (EB)"), None),
    ],
)
def test_our_row_stands_before_the_papers_own(one, row):
    groups = table_rows([one])
    (group,) = [group for group in groups if not group[0].is_paper]
    assert group[0].name == one["name"]
    assert [other.name for other in group[1:]] == ([] if row is None else [row])
    assert all(other.is_paper for other in group[1:])
    assert [each[-1].name for each in groups if each[-1].is_paper] == [each.name for each in published().paper]


def test_numbers_of_a_row_are_per_cent():
    (row, _) = next(group for group in table_rows([result()]) if not group[0].is_paper)
    assert row.all[:4] == pytest.approx((40, 60, 70, 15.2))
    assert row.all[4] is None
    assert row.small[:3] == pytest.approx((20, 40, 50))
    assert row.intervals[0][0] == pytest.approx((38, 42))
    assert row.recall_5 == pytest.approx([22.2] * 8)
    assert row.mean == pytest.approx(54.1)
    assert row.gamma == 0.25
    assert row.data == "247 photos"


def test_the_papers_numbers_are_marked_as_the_papers():
    page = as_text([result()])
    (ours, theirs) = [line for line in page.splitlines() if "c-MWP (MCG)" in line][:2]
    assert ours.split("  ")[1] == "c-MWP (MCG), 247 photos"
    assert "40.0/20.0" in ours
    assert "paper: c-MWP (MCG), test, 1,000 photos" in theirs
    assert "26.2/21.2" in theirs


def test_markdown_tables_are_rectangles_with_ours_bold():
    for table, columns in ((markdown_table6([result("a|b")]), 8), (markdown_table7([result("a|b")]), 11)):
        lines = table.splitlines()
        assert {line.replace(r"\|", "").count("|") for line in lines} == {columns + 1}
        assert r"| **a\|b** | 247 photos |" in table
        assert "| paper: CAM (MCG) | test, 1,000 photos |" in table
    assert "CCA (EB)" in markdown_table6([])
    assert "CCA (EB)" not in markdown_table7([])


def test_the_csv_has_a_row_for_each_preset_and_subset():
    rows = list(csv.DictReader(io.StringIO(as_csv([result(), result("two, three")]))))
    assert [(row["preset"], row["subset"]) for row in rows if row["name"] == "two, three"] == [
        ("mdetr_any", "all"),
        *(("zhang18", subset) for subset in ("all", "small", "large")),
        ("pointing_mg", "all"),
    ]
    found = {(row["preset"], row["subset"]): row for row in rows}
    zhang = found["zhang18", "small"]
    assert (zhang["R@1"], zhang["R@1 low"], zhang["instances"]) == ("20.0", "18.0", "1700")
    assert (zhang["people R@5"], zhang["accuracy"], zhang["mAP (Phrase)"]) == ("22.2", "", "")
    pointing = found["pointing_mg", "all"]
    assert (pointing["accuracy"], pointing["people accuracy"], pointing["R@1"]) == ("70.1", "80.0", "")
    assert pointing["commit"] == "abc1234"
    assert pointing["gamma"] == "0.25"


def test_data_names_the_split_where_there_is_one():
    assert data_of(result(split="test", photos=1000)) == "test, 1,000 photos"
    assert data_of({}) == "– photos"


def test_all_files_of_the_tables_are_written(tmp_path):
    paths = write_tables(tmp_path, [result(), result("best")])
    assert [path.name for path in paths] == ["tables.txt", "tables.csv", "tables.json", "tables.png"]
    assert all(path.stat().st_size for path in paths)
    rows = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    (ours,) = [row for row in rows if row["name"] == "c-MWP (MCG)" and row["of"] == "ours"]
    assert ours["all"] == dict(zip(COLUMNS, (40, 60, 70, 15.2, None), strict=True))


def test_the_picture_grows_with_the_results_and_needs_one():
    one, two = (draw_tables([result(name) for name in names]) for names in (("c-MWP (MCG)",), ("c-MWP (MCG)", "best")))
    assert one.mode == "RGB"
    assert one.width == two.width
    assert one.height < two.height
    assert len(one.getcolors(100_000)) > 50
    untyped = deepcopy(result("best"))
    untyped["presets"]["zhang18"]["all"]["types"] = {}
    untyped["presets"]["zhang18"]["all"]["type_mean_recall_5"] = None
    assert draw_tables([untyped]).height < one.height
    with pytest.raises(ValueError, match="no result with scores of boxes"):
        draw_tables([EMPTY])


def test_published_numbers_keep_the_laws_of_their_measures():
    table = published()
    assert len(table.paper) == 10
    assert table.photos == 1000
    for row in table.paper:
        recall = [value for value in row.all[:3] if value is not None]
        assert recall == sorted(recall)
        for value, small in zip(row.all, row.small, strict=True):
            assert small is None or small < value
        if row.recall_5 is not None:
            assert len(row.recall_5) == len(TYPES)
            assert sum(row.recall_5) / len(TYPES) == pytest.approx(row.mean, abs=0.1)  # each is rounded
    for group in table.groups:
        for row in group.rows:
            assert row.mark in table.marks
            assert row.protocol is None or row.protocol in table.protocols
            known = [value for value in row.numbers if value is not None]
            assert known == sorted(known)
            assert known[0] > 0
            assert known[-1] < 100
            assert len(row.numbers) == 1 if group.kind == "pointing" else len(row.numbers) <= 3


def test_the_paper_is_quoted_alike_in_its_table_and_in_the_leaderboard():
    paper = {row.name: row.all[:3] for row in published().paper}
    weak, _, supervised = (
        {row.method: row.numbers for row in group.rows if row.protocol in ("zhang18", "iccv15")}
        for group in published().groups
    )
    assert weak["Excitation Backprop c-MWP (MCG), tags alone"] == paper["c-MWP (MCG)"] == (26.2, 54.3, 62.2)
    assert weak["Excitation Backprop MWP (MCG), tags alone"] == paper["MWP (MCG)"]
    assert supervised["CCA, 2015"] == paper["CCA (EB)"]
