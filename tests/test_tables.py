"""Results as tables on the console, in files, in Markdown and as a picture."""

import csv
import io
import json
from dataclasses import replace

import pytest
from example_results import DATA, example_result, measured
from rich.console import Console

from eval.published import COLUMNS, published
from eval.result import Composition, FirstBoxErrors, from_dict, to_dict
from eval.tables.cells import NONE, Table, percent, with_interval
from eval.tables.console import print_result, print_tables
from eval.tables.content import (
    errors_table,
    further_measures,
    paper_table_6,
    paper_table_7,
    pointing_table,
    table_6,
    table_7,
)
from eval.tables.files import as_csv, as_json, as_text, write_tables
from eval.tables.markdown import markdown_table
from eval.tables.notes import DEFAULT_MODEL, TRAINING, gamma_notes, notes, photos_note, pointing_note
from eval.tables.picture import draw_tables
from eval.tables.rows import headline, in_paper_order, our_rows, paper_name, photo_sets, photos_label

HERE = replace(DATA, split="part of val", flickr8k=1.0)
TEST = replace(DATA, split="test", photos=1000, digest="another")


def printed(function, *arguments, width=150):
    page = io.StringIO()
    function(Console(file=page, width=width, color_system=None), *arguments)
    return page.getvalue()


def without_measurements(result):
    """A result in which everything that may be missing is missing."""
    scores = result.boxes["zhang18"]
    recall = replace(scores.all.recall, at_5=replace(scores.all.recall.at_5, interval=None))
    subset = replace(scores.all, recall=recall, types={}, type_mean_recall_5=None)
    manifest = replace(result.manifest, gamma=None, model=None, commit=None, versions={})
    boxes = replace(scores, all=subset)
    return replace(
        result, manifest=manifest, presets={"zhang18": boxes}, gammas=(), coverage=None, reached=None, timing=None
    )


def test_errors_of_first_boxes_are_shown_where_they_were_told_apart():
    old, new = example_result("old"), example_result("new")
    scores = new.boxes["zhang18"]
    errors = FirstBoxErrors(
        wrong_instance=measured(0.1), too_small=measured(0.2), too_large=measured(0.25), elsewhere=measured(0.05)
    )
    boxes = replace(scores, all=replace(scores.all, errors=errors))
    new = replace(new, presets={"zhang18": boxes})
    table = errors_table([old, new])
    assert table.heads == ("method", "correct", "wrong instance", "too small", "too large", "elsewhere")
    assert table.rows == (("old", "40.0", *[NONE] * 4), ("new", "40.0", "10.0", "20.0", "25.0", "5.0"))
    assert "20.0 (18.0–22.0)" in printed(print_result, new)
    (row,) = csv.DictReader(io.StringIO(as_csv([new])).readlines()[:2])
    assert (row["too large"], row["too large low"]) == ("25.0", "23.0")
    assert from_dict(to_dict(new)) == new


def test_results_without_errors_of_first_boxes_can_still_be_read():
    values = to_dict(example_result())
    del values["presets"]["zhang18"]["all"]["errors"]
    assert from_dict(values).boxes["zhang18"].all.errors is None


def test_one_result_is_printed_with_all_measures():
    page = printed(print_result, example_result())
    for text in (
        "c-MWP (MCG): zhang18, 247 photos",
        "40.0 (38.0–42.0)",
        "12.5 (10.5–14.5)",
        "3,183 of 3,239 phrases have a known word (98.3 %)",
        "reached the map: 14.0 % on average over 3,183 phrases, from 10.0 to 17.0 %",
        "70.1 (68.0–72.0)",
        "60.8",
        "3,100 (phrase)",
        "160.1 s (attention 120.5, proposals 30.1, scoring 9.5), 1.5 photos/s",
        "γ 0.25 (chosen on 247 photos)",
        "γ was chosen with the boxes of these photos.",
        "commit abc1234",
        "torch 2.15",
        "mdetr_any",
        "instruments",
    ):
        assert text in page
    rows = {line.split("  ")[1].strip(): line.split()[-1] for line in page.splitlines() if "mAP (Group), " in line}
    assert rows["mAP (Group), raw"] == "11.9"
    assert rows["mAP (Group), mass"] == "15.2"
    assert [line.split()[0] for line in page.splitlines() if line.rstrip().endswith(" chosen")] == ["0.25"]


@pytest.mark.parametrize("width", [150, 80])
def test_no_cell_is_cut_short(width):
    results = [example_result(name) for name in ("Deconv (MCG)", "c-MWP (EdgeBoxes)", "a mix of our own (MCG)")]
    pages = [printed(print_tables, results, width=width)]
    pages += [printed(print_result, result, width=width) for result in results]
    for page in pages:
        assert "…" not in page
        assert all(len(line) <= width for line in page.splitlines())


def test_missing_values_are_dashes():
    result = without_measurements(example_result())
    pages = [printed(print_result, result), as_text([result]), as_csv([result]), as_json([result])]
    pages += [markdown_table(table([result])) for table in (table_6, table_7, further_measures)]
    assert not any("None" in page for page in pages)
    assert table_6([result]).rows[0][1] == NONE
    assert further_measures([result]).rows[0][-1] == NONE
    assert with_interval(result.boxes["zhang18"].all.recall.at_5) == "60.0"


def test_brackets_in_a_name_are_no_markup():
    assert "[red]c-MWP[/] (MCG)" in printed(print_result, example_result("[red]c-MWP[/] (MCG)"))
    assert "[red]x[/]" in as_text([example_result("[red]x[/]")])


def test_the_papers_preset_stands_for_a_result_or_else_the_first_of_boxes():
    result = example_result()
    assert headline(result)[0] == "zhang18"
    without = replace(result, presets={name: scores for name, scores in result.presets.items() if name != "zhang18"})
    assert headline(without)[0] == "mdetr_any"
    assert [row.name for row in our_rows([without])] == ["c-MWP (MCG), by mdetr_any"]
    assert headline(replace(result, presets={"pointing_mg": result.presets["pointing_mg"]})) is None


@pytest.mark.parametrize(
    ("result", "row"),
    [
        (example_result("c-MWP (MCG)"), "c-MWP (MCG)"),
        (example_result("c-MWP (EdgeBoxes)"), "c-MWP (EB)"),
        (example_result("c-MWP (MCG), ImageNet's words"), "c-MWP (MCG)"),
        (example_result("mine", attention="mwp", proposals="mcg"), "MWP (MCG)"),
        (example_result("CCA* (EB)"), "CCA* (EB)"),
        (example_result("MCG_base"), "MCG_base"),
        (example_result("c-MWP and MWP (MCG)"), None),
        (example_result("mine", attention="best", proposals="mcg"), None),
        (example_result("LRP (EB)"), None),
    ],
)
def test_a_result_belongs_to_the_row_of_the_paper_that_it_repeats(result, row):
    assert paper_name(result) == row


def test_results_follow_the_order_of_the_paper_and_others_their_names():
    names = ["best (MCG)", "c-MWP (EB)", "another", "MCG_base", "c-MWP (MCG)", "Grad (MCG)"]
    ordered = [result.name for result in in_paper_order([example_result(name) for name in names])]
    assert ordered == ["MCG_base", "Grad (MCG)", "c-MWP (MCG)", "c-MWP (EB)", "another", "best (MCG)"]


def test_rows_are_in_per_cent_with_raw_precision():
    (row,) = our_rows([example_result()])
    assert row.all[:4] == pytest.approx((40, 60, 70, 11.9))
    assert row.all[4] is None
    assert row.small[:3] == pytest.approx((20, 40, 50))
    assert row.intervals[0][0] == pytest.approx((38, 42))
    assert row.recall_5 == pytest.approx([22.2] * 8)
    assert row.mean == pytest.approx(54.1)
    assert row.gamma == 0.25
    assert further_measures([example_result()]).rows == (
        ("c-MWP (MCG)", "12.5/12.5", "37.5/37.5", "95.0/95.0", "15.2/15.2", "–", "14.0"),
    )


def test_results_on_different_photos_and_the_papers_rows_never_share_a_table():
    results = [example_result("a", data=HERE), example_result("b", data=TEST), example_result("c", data=HERE)]
    assert [(found.label, [one.name for one in found.results]) for found in photo_sets(results)] == [
        ("test, 1,000 photos", ["b"]),
        ("part of val, 247 photos", ["a", "c"]),
    ]
    page = as_text(results)
    places = [page.index(text) for text in ("Measured on test", "Measured on part of val", "For reference, Table 6")]
    assert places == sorted(places)
    assert "26.2/21.2" not in page[: places[-1]]
    assert page.count("26.2/21.2") == 1
    saved = json.loads(as_json(results))
    assert [len(found["rows"]) for found in saved["measured_here"]] == [1, 2]
    assert len(saved["paper"]["rows"]) == 10


def test_pointing_is_shown_with_the_centre_on_the_same_instances():
    table = pointing_table([example_result()])
    assert table.heads == ("method", "mg")
    assert table.rows == (
        ("c-MWP (MCG)", "70.1 (68.0–72.0)"),
        ("the photo's centre", "60.8"),
        ("number of instances", "3,100"),
    )


def test_the_papers_tables_have_the_rows_that_it_prints():
    assert dict(zip(("method", "γ", *COLUMNS), paper_table_6().rows[6], strict=True))["R@1"] == "26.2/21.2"
    assert len(paper_table_6().rows) == 10
    assert [row[0] for row in paper_table_7().rows] == [row.name for row in published().paper if row.recall_5]


def test_notes_say_which_photos_what_training_and_how_settings_were_chosen():
    (found,) = photo_sets([example_result(data=HERE, model=DEFAULT_MODEL)])
    text = "\n".join(notes(found))
    assert "part of val, 247 photos, all of them in Flickr8k. They are no random sample of their split" in text
    assert "animals are 10.5 % of the phrases (rest of val, 753 photos: 1.6 %; test, 1,000 photos: 3.6 %)" in text
    assert "55.2 % of them (rest of val, 753 photos: 46.7 %; test, 1,000 photos: 50.2 %)" in text
    assert "were also chosen with the boxes of these very photos. Settings chosen on boxed photos are few-shot" in text
    assert (
        "γ of each method was chosen from 0, 0.25 on 247 photos. γ was chosen with the boxes of these photos." in text
    )
    assert TRAINING in text


def test_notes_on_test_photos_compare_them_with_nothing_and_name_the_photos_of_the_choice():
    (found,) = photo_sets(
        [example_result(data=replace(TEST, composition=Composition(animals=0.036, centre_in_box=0.502)))]
    )
    assert photos_note(found) == (
        "Photos: Flickr30k Entities, test, 1,000 photos. Animals are 3.6 % of the phrases, and the photo's centre lies "
        "in a box of 50.2 % of them."
    )
    assert "the boxes of the 247 val photos of docs/results.md" in "\n".join(notes(found))


def test_different_grids_of_gamma_are_told_apart():
    one, other = example_result("one"), example_result("other")
    gamma = replace(other.manifest.gamma, grid=(), chosen_on="the command line")
    other = replace(other, manifest=replace(other.manifest, gamma=gamma))
    assert gamma_notes([one, other]) == [
        "γ of each method was chosen from 0, 0.25 on 247 photos. γ was chosen with the boxes of these photos. (one)",
        "γ of each method was given by the command line. γ was chosen with the boxes of these photos. (other)",
    ]


def test_the_note_on_pointing_has_the_counted_figures():
    assert "47.42 % of 6,012 entities, against 60.79 % of 4,081" in pointing_note()


def test_markdown_tables_are_rectangles():
    table = markdown_table(table_6([example_result("a|b_c")]))
    assert {line.replace(r"\|", "").count("|") for line in table.splitlines()} == {8}
    assert r"| a\|b\_c | 0.25 | 40.0/20.0 |" in table
    with pytest.raises(ValueError, match="expected 2 cells in a row, got 1"):
        Table("x", ("a", "b"), (("1",),))


def test_the_csv_has_a_row_for_each_preset_and_subset():
    rows = list(csv.DictReader(io.StringIO(as_csv([example_result(), example_result("two, three")]))))
    assert [(row["preset"], row["subset"]) for row in rows if row["name"] == "two, three"] == [
        *(("mdetr_any", subset) for subset in ("all", "small", "large")),
        *(("zhang18", subset) for subset in ("all", "small", "large")),
        ("pointing_mg", "all"),
    ]
    found = {(row["preset"], row["subset"]): row for row in rows}
    zhang = found["zhang18", "small"]
    assert (zhang["R@1"], zhang["R@1 low"], zhang["instances"]) == ("20.0", "18.0", "1700")
    assert (zhang["raw mAP (Group)"], zhang["calibrated mAP (Group)"], zhang["mean IoU"]) == ("11.9", "15.2", "37.5")
    assert (zhang["people R@5"], zhang["accuracy"], zhang["raw mAP (Phrase)"]) == ("22.2", "", "")
    pointing = found["pointing_mg", "all"]
    assert (pointing["accuracy"], pointing["people accuracy"], pointing["R@1"]) == ("70.1", "80.0", "")
    assert (pointing["accuracy of the centre"], pointing["reached"]) == ("60.8", "14.0")
    assert (pointing["commit"], pointing["gamma"]) == ("abc1234", "0.25")


def test_photos_are_named_with_their_split_where_they_have_one():
    assert photos_label(TEST) == "test, 1,000 photos"
    assert photos_label(DATA) == "247 photos"
    assert percent(0.12345) == "12.3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which all tables of two results were written."""
    folder = tmp_path_factory.mktemp("tables")
    paths = write_tables(folder, [example_result(), example_result("best")])
    assert [path.name for path in paths] == ["tables.txt", "tables.csv", "tables.json", "tables.png"]
    return folder


def test_all_files_of_the_tables_are_written(folder):
    rows = json.loads((folder / "tables.json").read_text(encoding="utf-8"))["measured_here"][0]["rows"]
    assert rows[0]["all"] == dict(zip(COLUMNS, (40, 60, 70, 11.9, None), strict=True))
    assert "c-MWP (MCG)" in (folder / "tables.txt").read_text(encoding="utf-8")
    assert len((folder / "tables.csv").read_text(encoding="utf-8").splitlines()) == 15


def test_the_picture_shows_both_colours(folder):
    from PIL import Image

    with Image.open(folder / "tables.png") as picture:
        colors = {color for _, color in picture.getcolors(1_000_000)}
        assert picture.mode == "RGB"
        assert picture.width > picture.height
    assert {(0, 114, 178), (213, 94, 0)} <= colors


def test_a_picture_needs_scores_of_boxes():
    result = example_result()
    with pytest.raises(ValueError, match="no result has scores of boxes"):
        draw_tables([replace(result, presets=dict(result.pointing))])
