"""``python -m eval``, from photos to one result, with a small classifier and two small photos."""

import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from command_settings import composed
from safetensors.torch import load_file
from small_flickr30k import CAPTIONS, propose_boxes, propose_segments, small_classifier, small_grounder, write_photos

import eval.__main__ as command
from eval.flickr30k import annotated_photos
from eval.gammas import read_gammas
from eval.measured import find_instances
from eval.predicting import Predictor, known_words
from eval.predictions import read_predictions
from eval.result import read_results
from grounding.attention import ExcitationBackprop
from grounding.quoting import quote_free_text

ROOT = Path(command.__file__).resolve().parent.parent
SHOW = command.show  # before a fixture replaces it
BOXES = {"zhang18", "iccv15", "mdetr_any", "mdetr_merged"}


@pytest.fixture
def data(tmp_path, examples):
    """Two photos with captions and boxes, which no split lists as test photos."""
    write_photos(tmp_path, examples)
    return tmp_path


@pytest.fixture
def photos(data):
    return annotated_photos(data / "photos", data / "entities")


@pytest.fixture
def evaluate(data, monkeypatch):
    """Run the command's body without its tables; the result with the name given, as it was saved, and its folder."""
    runs = count()
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: small_classifier())
    monkeypatch.setattr("proposals.MCG", lambda **settings: propose_boxes)
    monkeypatch.setattr(command, "show", lambda result, output: None)

    def run(*words, name="c-MWP (MCG)"):
        folder = data / f"run{next(runs)}"
        folder.mkdir()
        here = (f"data.path={data / 'photos'}", f"data.entities={data / 'entities'}", f"output={data / 'out'}")
        words = (*here, *words)
        settings = composed(*quote_free_text(list(words)), config="eval")
        choices = {"data": "flickr30k", "model": "checkpoint", "attention": "cmwp", "proposals": "mcg"}
        typed = command.Typed(choices, tuple(words))
        before = saved(data)
        assert command.evaluate(settings, typed, folder)
        after = saved(data)
        (path,) = [path for path in after if after[path] != before.get(path)]
        (result,) = [one for one in read_results(path.parent) if one.name == name and path.name.endswith(file_end(one))]
        return result, folder

    return run


def saved(data):
    """The times of all saved results."""
    return {path: path.stat().st_mtime_ns for path in (data / "out" / "results").glob("*.json")}


def file_end(result):
    return f"{result.manifest.identity[:6]}.json"


def test_a_result_says_what_was_measured_and_how(evaluate, data):
    result, _ = evaluate()
    manifest = result.manifest
    assert (manifest.data.photos, manifest.data.captions, manifest.data.phrases) == (2, 3, 6)
    assert manifest.command.startswith("python -m eval data.path=photos data.entities=entities output=out")
    assert str(data) not in json.dumps([path.read_text() for path in (data / "out" / "results").iterdir()])
    assert manifest.gamma.grid == tuple(composed(config="eval").gammas)
    assert manifest.gamma.value in manifest.gamma.grid
    assert [tried.value for tried in result.gammas] == list(manifest.gamma.grid)
    assert manifest.supervision == "γ was chosen with the boxes of these very photos."
    assert (result.coverage.phrases, result.coverage.known) == (6, 5)
    assert (result.timing.photos, result.timing.attended) == (2, 2)
    assert set(result.boxes) == BOXES
    assert all(scores.all.instances == 6 for scores in result.boxes.values())
    assert {"pointing_mg", "pointing_entity", "pointing_infoground"} <= set(result.pointing)
    assert result.pointing["pointing_entity"].instances == 5 - 1  # the xyzzy's box is small
    scores = result.boxes["zhang18"].all
    assert 0 <= scores.recall_at_1_iou_75.share <= scores.recall.at_1.share


def test_the_details_of_phrases_and_labels_are_written(evaluate):
    _, folder = evaluate()
    lines = (folder / "phrases.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "photo,sentence,phrase,text,label,types,small,known,rank,within_reach,iou,outcome,reached"
    assert lines[1].startswith("1,0,0,A man,man,people,")
    assert len(lines) == 1 + 6
    labels = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert labels[0] == "label,phrases,ap"
    assert labels[1].startswith("man,2,")


def test_the_result_is_printed_and_the_tables_are_written(evaluate, data, capsys):
    result, _ = evaluate()
    SHOW(result, data / "out")
    assert "zhang18, 2 photos" in capsys.readouterr().out
    tables = {path.name for path in (data / "out").glob("tables.*")}
    assert tables == {f"tables.{ending}" for ending in ("txt", "csv", "json", "png")}


@pytest.mark.parametrize("form", ["predictions.jsonl", "predictions"])
def test_exported_boxes_score_the_same_without_a_model(evaluate, data, photos, form):
    ours, folder = evaluate("export=true")
    assert len(read_predictions(folder / form, find_instances(photos)).predictions) == 6
    again, _ = evaluate(f"predictions={folder / form}", "name=again", name="again")
    for preset, scores in ours.boxes.items():
        other = again.boxes[preset].all
        assert other.recall == scores.all.recall
        assert other.precision == other.raw_precision == scores.all.precision  # scores are exported calibrated
    assert again.pointing == {"pointing_infoground": ours.pointing["pointing_infoground"]}  # no map points
    assert again.manifest.predictions == form
    assert (again.manifest.gamma, again.coverage, again.reached, again.timing, again.gammas) == (None,) * 4 + ((),)
    assert again.manifest.supervision.startswith("Boxes of another system")


def test_finished_photos_are_not_looked_at_again(evaluate, data, monkeypatch):
    first, _ = evaluate()
    monkeypatch.setattr(ExcitationBackprop, "__call__", None)
    monkeypatch.setattr(ExcitationBackprop, "attend_with_mass", None, raising=False)
    again, _ = evaluate()
    assert again.timing.photos == 0
    assert again.presets == first.presets
    (damaged, *_) = sorted((data / "out" / "predictions").rglob("1-*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    repaired, _ = evaluate()
    assert (repaired.timing.photos, repaired.timing.attended) == (1, 0)  # from its maps
    assert repaired.presets == first.presets
    with pytest.raises(TypeError):  # other settings, other maps
        evaluate("attention.confidence=sigmoid")


def test_an_unreadable_photo_stops_an_evaluation(evaluate, data):
    (data / "photos" / "2.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"2\.jpg"):
        evaluate()
    assert not (data / "out" / "results").exists()


def test_results_of_other_settings_stand_side_by_side(evaluate, data):
    evaluate()
    for number, (words, name) in enumerate(
        [
            (("calibration=raw",), "c-MWP (MCG)"),
            (("scoring.clothing_weight=0.5",), "clothing 0.5, c-MWP (MCG)"),
            (("scoring.area_exponent_by_kind={part: 0.2}",), "γ of part +0.2, c-MWP (MCG)"),
            (("scoring.overlap=0.6",), "c-MWP (MCG)"),
            (("scoring.area_exponent=0.25",), "c-MWP (MCG)"),
            (("gammas=[0,0.5]",), "c-MWP (MCG)"),
            (("presets.zhang18.truth=any",), "c-MWP (MCG)"),
        ]
    ):
        first, _ = evaluate(*words, name=name)
        assert len(saved(data)) == number + 2
    assert evaluate(*words, name=name)[0].manifest.identity == first.manifest.identity
    assert len(saved(data)) == number + 2


def test_changed_captions_are_asked_for_anew(evaluate, data):
    evaluate()
    path = data / "entities" / "Sentences" / "1.txt"
    path.write_text("\n".join(reversed(CAPTIONS["1"].splitlines())))
    result, _ = evaluate()
    assert (result.timing.photos, result.timing.attended) == (1, 0)  # the words are the same


def test_photos_of_the_test_split_use_the_gamma_that_was_chosen_on_others(evaluate, data):
    result, _ = evaluate("gammas=[0,0.5,3]")
    chosen = result.manifest.gamma.value
    ((name, known),) = read_gammas(data / "out" / "gammas.json").items()
    assert name.startswith("efficientnet_lite2_places, cmwp, mcg (")
    assert (known.gamma, known.grid, known.photos, known.split) == (chosen, (0.0, 0.5, 3.0), 2, None)
    (data / "entities" / "test.txt").write_text("1\n2\n")
    again, _ = evaluate()
    assert again.manifest.data.split == "test"
    assert (again.manifest.gamma.value, again.manifest.gamma.grid) == (chosen, (0.0, 0.5, 3.0))
    assert again.manifest.gamma.chosen_on == "2 photos, of no one split"
    assert again.manifest.supervision.startswith("γ was chosen with the boxes of other photos")
    assert again.gammas == ()


@pytest.mark.parametrize(
    ("propose", "given", "value"),
    [
        (propose_boxes, "0.5", 0.5),
        (propose_boxes, "{segments: 0.4, boxes: 0.25}", 0.25),
        (propose_segments, "{segments: 0.4, boxes: 0.25}", 0.4),
    ],
)
def test_a_given_gamma_is_that_of_the_kind_of_regions(evaluate, monkeypatch, propose, given, value):
    monkeypatch.setattr("proposals.MCG", lambda **settings: propose)
    result, _ = evaluate(f"scoring.area_exponent={given}")
    assert (result.manifest.gamma.value, result.manifest.gamma.grid) == (value, ())
    assert result.manifest.gamma.chosen_on == "the command line"
    assert result.gammas == ()


def test_clothing_counts_where_a_setting_says_so(evaluate, data):
    evaluate("scoring.clothing_weight=0.5", name="clothing 0.5, c-MWP (MCG)")
    (maps,) = [load_file(path) for path in (data / "out" / "maps").rglob("1-*")]
    assert {"map man", "map orange", "map suit"} <= maps.keys()


def predictor(folder, **options):
    grounder = small_grounder(ExcitationBackprop, **options)
    return Predictor(grounder, [0.25], maps=folder / "maps", predictions=folder / f"predictions {options}")


def test_clothing_changes_the_scores_of_its_wearer_alone(data, photos):
    photo = photos.photos[0]
    things = [thing for thing in find_instances(photos) if thing.photo == photo.name]
    bare, clothed = (predictor(data, clothing_weight=w)(photo, things).by_gamma[0.25] for w in (0.0, 0.5))
    assert [thing.text for thing in things[:3]] == ["A man", "an orange suit", "short hair"]
    assert not torch.equal(bare[0].regions.scores, clothed[0].regions.scores)
    for plain, scaled in zip(bare[1:], clothed[1:], strict=True):
        torch.testing.assert_close(plain.regions.scores / plain.mass, scaled.regions.scores / scaled.mass)


def test_a_kind_changes_the_scores_of_its_phrases_alone(data, photos):
    photo = photos.photos[0]
    things = [thing for thing in find_instances(photos) if thing.photo == photo.name]
    assert [thing.text for thing in things[:3]] == ["A man", "an orange suit", "short hair"]
    plain, shifted = (predictor(data, by_kind=by_kind)(photo, things).by_gamma[0.25] for by_kind in ({}, {"part": 0.5}))
    assert torch.equal(plain[0].regions.scores, shifted[0].regions.scores)
    for index in (1, 2):
        assert not torch.equal(plain[index].regions.scores, shifted[index].regions.scores)


def test_a_phrase_without_a_known_word_has_the_proposals_own_order(data, photos):
    photo = photos.photos[1]
    things = [thing for thing in find_instances(photos) if thing.text == "the xyzzy"]
    (prediction,) = predictor(data)(photo, things).by_gamma[0.25]
    assert prediction.is_known is False
    assert (prediction.regions.scores.diff() <= 0).all()
    assert prediction.mass == 0
    assert prediction.point == (photo.size[1] / 2, photo.size[0] / 2)


def test_entities_are_pointed_at_by_the_mean_of_their_phrases_maps(data, photos):
    photo = photos.photos[0]
    things = [thing for thing in find_instances(photos) if thing.photo == photo.name]
    found = predictor(data)(photo, things)
    assert [thing.chain for thing in things] == ["1", "3", "2", "1"]
    points = [prediction.point for prediction in found.by_gamma[0.25]]
    assert [entity.point for entity in found.entities] == points[:3]  # both phrases of the first say "man"


def test_words_are_those_of_a_phrase_alone():
    assert known_words("The orange suits", small_classifier().vocabulary) == ("orange", "suit")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("choose_by=pointing_mg",), "choose_by must be one of"),
        (("calibration=some",), "calibration must be one of raw, mass, rank"),
        (("scoring.overlap=2",), "overlap is an IoU"),
        (("gammas=[]",), "gammas= is empty"),
        (("gammas=[11]",), "γ must be from 0 to 10, got 11"),
        (("scoring.area_exponent=-1",), "area_exponent must be from 0 to 10"),
        (("scoring.area_exponent={boxes: 1}",), "one each for segments and boxes"),
        (("output=",), "output= is empty"),
        (("predictions=nowhere",), "nowhere"),
        (("presets.iccv15.truth=both",), "truth must be"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(evaluate, words, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*words)


def test_only_annotated_photos_can_be_scored(data):
    words = ["data=folder", f"data.path={data / 'photos'}"]
    settings = composed(*quote_free_text(words), config="eval")
    with pytest.raises(ValueError, match="only data=flickr30k"):
        command.evaluate(settings, command.Typed({}, ()), data)


@pytest.mark.slow
def test_the_command_fails_in_one_line_where_photos_are_missing(tmp_path):
    words = (f"data.path={tmp_path / 'none'}", f"data.entities={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    ran = subprocess.run([sys.executable, "-m", "eval", *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert ran.stderr.strip().splitlines() == [
        f"error: {tmp_path}: no folder Annotations in it; name the folder in which Flickr30k Entities is unpacked"
    ]
