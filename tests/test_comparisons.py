"""The paper's tables and figures on named regions with our results beside them: runs that continue, files and pages."""

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_settings import composed
from example_results import measured
from hydra.errors import ConfigCompositionException
from PIL import Image
from small_flickr30k import small_classifier

from eval.leaderboard.page import leaderboard
from eval.leaderboard.results_page import results_page
from eval.manifest import typed_settings
from eval.names import REGION_EXPERIMENTS
from eval.regions.__main__ import evaluate
from eval.regions.files import write_comparison
from eval.regions.paper_tables import published_tables
from eval.regions.picture import draw_comparison
from eval.regions.result import (
    ALPHAS,
    DominantObjects,
    NameScores,
    RegionData,
    RegionManifest,
    RegionPointing,
    RegionResult,
    read_region_results,
)
from eval.regions.sections import COMPARISONS, comparison_section, comparison_sections
from eval.tables.section import section_markdown
from grounding.maps import WordAttention
from grounding.quoting import quote_free_text

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = "abcd"
ENDINGS = ("txt", "md", "csv", "json", "png")


@pytest.fixture
def table(tmp_path):
    """Four photos of VOC's table, each with a cat and a dog."""
    lines = []
    for index, name in enumerate(PHOTOS):
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        lines += [f"{name}.jpg,40,30,cat,1,1,20,30,0", f"{name}.jpg,40,30,dog,30,1,40,9,0"]
    heads = "image,width,height,class,xmin,ymin,xmax,ymax,difficult"
    (tmp_path / "boxes.csv").write_text("\n".join([heads, *lines, ""]))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """The number of photos that the network was asked about so far, as the length of a list."""
    photos = []
    ask = WordAttention.__call__

    def counted(self, prepared, words):
        photos.extend(prepared)
        return ask(self, prepared, words)

    monkeypatch.setattr(WordAttention, "__call__", counted)
    return photos


@pytest.fixture
def run(table, monkeypatch):
    """Run the command's body with a small classifier, without its picture; the saved results, by their names."""
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: small_classifier())
    monkeypatch.setattr("eval.regions.files.draw_comparison", lambda table, results: Image.new("RGB", (1, 1)))
    output = table / "out"

    def body(*words, experiment="table1", attention="cmwp"):
        words = (f"experiment={experiment}", "data=voc_animals", f"data.path={table}", f"attention={attention}", *words)
        settings = composed(*quote_free_text([*words, f"output={output}"]), config="regions")
        choices = {"experiment": experiment, "model": "checkpoint", "attention": attention, "proposals": None}
        assert evaluate(settings, choices, words, table)
        return {result.name: result for result in read_region_results(output / "results")}

    return body


def test_an_interrupted_run_continues_with_the_next_photo(run, asked, table, monkeypatch):
    ask = WordAttention.__call__

    def failing(self, prepared, words):
        if len(asked) == 2:
            raise KeyboardInterrupt
        return ask(self, prepared, words)

    monkeypatch.setattr(WordAttention, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(WordAttention, "__call__", ask)
    continued = run()
    assert len(asked) == len(PHOTOS)  # the two photos before the interruption were not asked about again
    assert run() == continued
    assert len(asked) == len(PHOTOS)
    shutil.rmtree(table / "out")
    assert run() == continued
    assert len(asked) == 2 * len(PHOTOS)


def test_what_one_table_has_measured_is_not_measured_again_for_another(run, asked, table):
    first = run()["c-MWP"]
    assert len(asked) == len(PHOTOS)
    run(experiment="table4")
    assert len(asked) == len(PHOTOS)
    results = read_region_results(table / "out" / "results")
    assert sorted(result.table for result in results) == ["table1", "table4"]
    assert {repr(result.pointing) for result in results} == {repr(first.pointing)}
    run("objects=all", "dominant.alpha=1", experiment="table5", attention="mwp")
    assert len(asked) == 2 * len(PHOTOS)
    written = {path.name for path in (table / "out").glob("*.*")}
    assert written == {f"{name}.{ending}" for name in ("table1", "table4", "table5") for ending in ENDINGS}


def test_changed_photos_and_rules_are_measured_again(run, asked, table):
    run()
    run("pointing.tolerance=3")
    assert len(asked) == 2 * len(PHOTOS)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(table / "images" / "a.jpg")
    run()
    assert len(asked) == 2 * len(PHOTOS) + 1


def test_experiments_of_the_tables_share_the_rules_of_the_game_and_of_dominant_objects():
    for name, table in REGION_EXPERIMENTS.items():
        assert table in COMPARISONS
        settings = composed(f"experiment={name}", "data=voc", "data.path=x", config="regions")
        base = "dominant_objects" if table == "table5" else "pointing_game"
        usual = composed(f"experiment={base}", "data=voc", "data.path=x", config="regions")
        for part in ("objects", "pointing", "dominant", "square", "model"):
            assert settings[part] == usual[part]
        with pytest.raises(ConfigCompositionException, match="You must specify 'data'"):
            composed(f"experiment={name}", config="regions")


@pytest.mark.parametrize("name", sorted(COMPARISONS))
def test_every_table_is_swept_over_by_its_name_alone(name):
    settings = composed(f"experiment={name}", "data=voc", "data.path=x", config="regions", return_hydra_config=True)
    assert str(settings.hydra.mode) == "RunMode.MULTIRUN"
    assert settings.hydra.sweeper.params.attention


@pytest.mark.parametrize("module", ["eval", "eval.regions"])
def test_from_the_shell_both_commands_take_a_table_and_missing_data_are_one_line(module):
    command = [sys.executable, "-m", module, "-m", "experiment=table1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("error: You must specify 'data', e.g, data=<OPTION> Available options: ade20k")
    assert ran.stderr.count("\n") == 1


def test_what_was_typed_is_part_of_a_name():
    typed = ["experiment=figure6", "+attention.at=last_map", "model.layer='a,b'", "model.window=7", "output=x"]
    assert typed_settings(typed) == ["at last_map", "a,b", "window 7"]
    assert typed_settings(typed, without=["model.layer"]) == ["at last_map", "window 7"]
    assert typed_settings(["model.layer=null", "model.window=null", "model.short_side=400"]) == [
        "no window",
        "400 pixels",
    ]


def test_results_of_different_settings_have_different_names_and_files(run, table):
    run(experiment="table2", attention="cmwp_star")
    run("model.layer=1", experiment="table2")
    results = run("attention.signed=carry", experiment="table2")
    assert sorted(results) == ["c-MWP*", "c-MWP, 1", "c-MWP, carry"]
    rows = list(csv.DictReader(io.StringIO((table / "out" / "table2.csv").read_text())))
    assert [row["name"] for row in rows if row["subset"] == "all"] == ["c-MWP*", "c-MWP, 1", "c-MWP, carry"]


def test_at_the_pixels_the_layer_takes_no_part(run, asked):
    run("model.layer=0", experiment="figure6", attention="grad")
    assert list(run("model.layer=1", experiment="figure6", attention="grad")) == ["Grad"]
    assert len(asked) == len(PHOTOS)


def example(name="c-MWP", data="COCO", *, dominant=None, tolerance=15.0, table=None, attention="cmwp"):
    names = {"cat": NameScores(pairs=3, accuracy=0.5, is_known=True)}
    pointing = RegionPointing(
        accuracy=measured(0.8),
        name_mean=measured(0.7),
        centre=0.4,
        centre_name_mean=0.3,
        names=names,
        tolerance=tolerance,
    )
    manifest = RegionManifest(
        command=f"python -m eval.regions data={data}",
        commit="abc1234",
        date="2026-11-25",
        versions={},
        identity="0123456789abcdef",
        data=RegionData(name=data, photos=3, pairs=4, digest="d"),
        model="tags",
        attention=attention,
        proposals=None,
        settings={},
        table=table,
    )
    difficult = replace(pointing, name_mean=measured(0.6), centre_name_mean=0.2)
    return RegionResult(name=name, manifest=manifest, pointing=pointing, difficult=difficult, dominant=dominant)


DOMINANT = DominantObjects(alpha=1.5, chosen_on=33, error=measured(0.4), errors={f"{alpha:g}": 0.5 for alpha in ALPHAS})
RESULTS = [
    example(),
    example("MWP", "VOC", attention="mwp"),
    example("MWP", "singles", dominant=DOMINANT, attention="mwp"),
    example(tolerance=0.0),
    example(table="table4"),
]


def test_results_belong_to_the_table_of_their_experiment_or_to_that_of_their_measure():
    assert [result.table for result in RESULTS] == ["table1", "table1", "table5", None, "table4"]


def test_the_game_and_dominant_objects_stand_beside_what_was_published():
    game = section_markdown(comparison_section("table1", RESULTS[:2]))
    objects = section_markdown(comparison_section("table5", RESULTS[2:3]))
    assert "lies less than 15 pixels from" in game
    assert "| MWP | – | – | 70.0 (68.0–72.0) | 60.0 (58.0–62.0) |\n| c-MWP | 70.0 (68.0–72.0) |" in game
    assert "| the photo's centre | 30.0 | 20.0 | 30.0 | 20.0 |" in game
    assert "| c-MWP | 78.7/61.7 | 80.0/66.8 | 85.1/72.3 | 89.2/81.3 |" in game
    assert "| extremal perturbation | 88.0/76.1 | – | 51.5/45.9 | – |" in game
    assert "* `python -m eval.regions data=COCO`, abc1234" not in game
    assert "* `python -m eval.regions data=COCO`, commit abc1234, 2026-11-25" in game
    assert "| MWP | singles | 4 | 1.5 | 33 | 40.0 (38.0–42.0) |" in objects
    assert "| Feedback Net (Cao et al. 2015, from their paper) | – | 38.8 |" in objects
    with pytest.raises(ValueError, match="2 results of c-MWP on COCO"):
        comparison_section("table1", [example(), example()])


def test_both_pages_have_a_section_for_each_table_that_has_results():
    titles = ["Pointing game", "Deterministic winner-take-all", "Dominant objects"]
    assert [section.title for section in comparison_sections(RESULTS)] == titles
    page, board = results_page([], RESULTS), leaderboard([], RESULTS)
    for title in titles:
        assert page.count(f"## {title}\n") == board.count(f"## {title}\n") == 1
    assert (page.count("## Other photos\n"), board.count("## Other photos\n")) == (1, 0)
    assert "| d-WTA | 72.3/49.7 |" in board


@pytest.mark.parametrize("table", sorted(COMPARISONS))
def test_every_table_is_written_in_every_form(table, tmp_path):
    dominant = DOMINANT if table == "table5" else None
    results = [example("c-MWP, layer 1", table=table, dominant=dominant), example(table=table, dominant=dominant)]
    paths = write_comparison(tmp_path, table, results)
    assert sorted(path.name for path in paths) == sorted(f"{table}.{ending}" for ending in ENDINGS)
    text, page = ((tmp_path / f"{table}.{ending}").read_text() for ending in ("txt", "md"))
    for published, title in COMPARISONS[table].published:
        assert title in text
        assert title in page
        for row in published_tables()[published].rows:
            assert row in text
    assert "…" not in text.replace("0, .5 … 10", "")
    rows = list(csv.DictReader(io.StringIO((tmp_path / f"{table}.csv").read_text())))
    assert [(row["name"], row["subset"], row["mean accuracy"], row["mean accuracy low"]) for row in rows] == [
        ("c-MWP", "all", "70.0", "68.0"),
        ("c-MWP", "difficult", "60.0", "58.0"),
        ("c-MWP, layer 1", "all", "70.0", "68.0"),
        ("c-MWP, layer 1", "difficult", "60.0", "58.0"),
    ]
    content = json.loads((tmp_path / f"{table}.json").read_text())
    first = content["measured_here"][0]
    assert first["difficult"]["mean_accuracy"] == {"value": 60.0, "interval": [58.0, 62.0]}
    assert (first["dominant"] is None) == (dominant is None)
    assert list(content["published"]) == [title for _, title in COMPARISONS[table].published]


def test_the_picture_has_our_dots_full_and_the_papers_open():
    picture = draw_comparison("table4", [example()])
    few = draw_comparison("table4", [example(), example("MWP")])
    assert few.height > picture.height
    colors = {color for _, color in picture.getcolors(1_000_000)}
    assert {(0, 114, 178), (213, 94, 0)} <= colors


def test_published_cells_are_numbers_or_what_the_paper_says():
    tables = published_tables()
    assert tables["table_2"].rows["c-MWP*"] == ("80.7/65.6", "89.1/80.9", "41.5/34.8", "57.0/52.0")
    assert tables["table_3"].rows["c-Deconv"] == ("–/67.7",)
    assert tables["table_4"].rows["c-MWP"][0] == tables["table_1"].rows["c-MWP"][2] == "85.1/72.3"
    for table in tables.values():
        assert all(len(cells) == len(table.columns) for cells in table.rows.values())
