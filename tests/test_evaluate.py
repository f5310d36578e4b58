"""``python -m eval``, from photos to one result, with the default grounder and two small photos."""

import contextlib
import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from command_settings import composed
from PIL import Image
from safetensors.torch import load_file

import eval.__main__ as command
from eval.evaluate import Gammas, candidates, find_instances, read_gammas, split_of
from eval.flickr30k import annotated_photos, instances
from eval.predicting import Clock, Keeping, predict
from eval.predictions import read_predictions
from grounding.attention import ExcitationBackprop
from grounding.quoting import quote_free_text
from grounding.records import Regions
from grounding.scoring import score_regions, suppress

ROOT = Path(command.__file__).resolve().parent.parent
CAPTIONS = {
    "1": "[/EN#1/people A man] with [/EN#2/bodyparts short hair] smiles .\n[/EN#1/people The man] is here .\n",
    "2": "[/EN#5/animals A tabby cat] looks at [/EN#0/notvisual it] , [/EN#6/other the xyzzy] .\n",
}
BOXES = {"1": {"1": (10, 10, 90, 120), "2": (30, 5, 80, 40)}, "2": {"5": (20, 20, 150, 100), "6": (1, 1, 20, 20)}}
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def data(tmp_path, examples):
    """Two photos with captions and boxes, which no split lists as test photos."""
    (tmp_path / "photos").mkdir()
    for part in ("Annotations", "Sentences"):
        (tmp_path / "entities" / part).mkdir(parents=True)
    for name, photo in (("1", "astronaut"), ("2", "chelsea")):
        image = Image.fromarray(examples[photo])
        image = image.resize((160, 160 * image.height // image.width))
        image.save(tmp_path / "photos" / f"{name}.jpg")
        objects = "".join(OBJECT.format(chain, *box) for chain, box in BOXES[name].items())
        size = f"<size><width>{image.width}</width><height>{image.height}</height></size>"
        annotation = f"<annotation>{size}{objects}</annotation>"
        (tmp_path / "entities" / "Annotations" / f"{name}.xml").write_text(annotation)
        (tmp_path / "entities" / "Sentences" / f"{name}.txt").write_text(CAPTIONS[name])
    (tmp_path / "entities" / "test.txt").write_text("3\n")
    return tmp_path


def fixed(image):
    """Proposals that need no computing."""
    height, width = image.shape[-2:]
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], [0.2, 0.3, 0.6, 0.8]])
    return Regions(boxes * torch.tensor([width, height, width, height]), torch.linspace(1, 0.2, 5))


@pytest.fixture
def evaluate(data, grounder, monkeypatch):
    """Run the command's body; its result, as it was written."""
    runs = count()
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: grounder.attention.classifier)
    monkeypatch.setattr("proposals.MCG", lambda **settings: fixed)

    def run(*words, name="c-MWP_MCG"):
        folder = data / f"run{next(runs)}"
        folder.mkdir()
        here = (f"data.path={data / 'photos'}", f"data.entities={data / 'entities'}", f"output={data / 'out'}")
        words = (*here, *words)
        settings = composed(*quote_free_text(list(words)), config="eval")
        choices = {"data": "flickr30k", "model": "checkpoint", "attention": "cmwp", "proposals": "mcg"}
        typed = command.Typed(choices, tuple(words))
        assert command.evaluate(settings, typed, folder)
        (path,) = (data / "out" / "results").glob(f"{name}_??????.json")
        return json.loads(path.read_text(encoding="utf-8")), folder

    return run


def test_a_result_says_what_was_measured_and_how(evaluate, data, capsys):
    result, folder = evaluate("export=true")
    manifest = result["manifest"]
    assert result["name"] == "c-MWP (MCG)"
    assert (manifest["photos"], manifest["captions"], manifest["phrases"]) == (2, 3, 5)
    assert manifest["command"].startswith("python -m eval data.path=photos data.entities=entities output=out")
    assert str(data) not in json.dumps(result)
    assert manifest["gamma"]["value"] in (0, 0.25, 0.5, 0.75, 1)
    assert result["coverage"] == {"phrases": 5, "known": 4}
    assert result["seconds"]["photos"] == 2
    assert set(result["gammas"]) == {"0.0", "0.25", "0.5", "0.75", "1.0"}
    boxes = {"zhang18", "iccv15", "mdetr_any", "mdetr_merged"}
    assert set(result["presets"]) == boxes | {"pointing_mg", "pointing_entity", "pointing_infoground"}
    assert all(result["presets"][name]["all"]["instances"] == 5 for name in boxes)
    assert result["presets"]["pointing_entity"]["all"]["instances"] == 4 - 1  # the xyzzy's box is small
    printed = capsys.readouterr().out
    assert "zhang18, 2 photos" in printed
    assert {path.name for path in (data / "out").glob("tables.*")} == {
        f"tables.{e}" for e in ("txt", "csv", "json", "png")
    }
    ranks = (folder / "phrases.csv").read_text(encoding="utf-8").splitlines()
    assert ranks[0] == "photo,sentence,phrase,text,label,types,small,known,rank,within_reach"
    assert ranks[1].startswith("1,0,0,A man,man,people,")
    assert len(ranks) == 1 + 5
    labels = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert labels[0] == "label,phrases,ap"
    assert labels[1].startswith("man,2,")
    photos = annotated_photos(data / "photos", data / "entities")
    for form in ("predictions.jsonl", "predictions"):
        assert len(read_predictions(folder / form, find_instances(photos)).predictions) == 5


def test_what_was_exported_scores_the_same_without_a_model(evaluate, data):
    ours, folder = evaluate("export=true")
    for form in ("predictions.jsonl", "predictions"):
        again, _ = evaluate(f"predictions={folder / form}", f"name={form[-5:]}", name=form[-5:])
        for preset, scores in ours["presets"].items():
            if scores["kind"] == "boxes":
                assert again["presets"][preset]["all"] == scores["all"]
        assert again["presets"]["pointing_infoground"]["all"] == ours["presets"]["pointing_infoground"]["all"]
        assert "pointing_mg" not in again["presets"]  # there is no map to point with
        assert again["manifest"]["predictions"] == folder.joinpath(form).name


def test_finished_photos_are_not_looked_at_again(evaluate, data, grounder, monkeypatch):
    first, _ = evaluate()
    monkeypatch.setattr(ExcitationBackprop, "__call__", None)
    again, _ = evaluate()
    assert again["seconds"]["photos"] == 0
    assert again["presets"] == first["presets"]
    (damaged, *_) = sorted((data / "out" / "predictions").rglob("1-*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert evaluate()[0]["presets"] == first["presets"]  # from its maps
    with pytest.raises(TypeError):  # other settings, other maps
        evaluate("model.short_side=200", "attention.confidence=sigmoid")


def test_an_unreadable_photo_stops_an_evaluation(evaluate, data):
    (data / "photos" / "2.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"2\.jpg"):
        evaluate()
    assert not (data / "out" / "results").exists()


def test_test_photos_do_not_choose_their_own_gamma(evaluate, data):
    def gammas(value=None):
        return Gammas("a model of the tests, cmwp, mcg", value, (0.0, 0.25), data / "out" / "gammas.json")

    photos = annotated_photos(data / "photos", data / "entities")
    assert candidates(gammas(), photos, data / "entities") == ((0, 0.25), "2 photos")
    (data / "entities" / "test.txt").write_text("2\n")
    with pytest.raises(ValueError, match="not chosen yet, and test photos must not choose it"):
        candidates(gammas(), photos, data / "entities")
    assert candidates(gammas(0.4), photos, data / "entities") == ((0.4,), "the command line")
    (data / "out").mkdir()
    (data / "out" / "gammas.json").write_text('{"a model of the tests, cmwp, mcg": {"gamma": 0.7, "photos": 9}}')
    assert candidates(gammas(), photos, data / "entities") == ((0.7,), "9 photos, of no one split")
    (data / "out" / "gammas.json").write_text('{"a model": 3}')
    with pytest.raises(ValueError, match=r"gammas\.json"):
        candidates(gammas(), photos, data / "entities")
    (data / "entities" / "test.txt").unlink()
    with pytest.raises(ValueError, match=r"no test\.txt"):
        candidates(gammas(), photos, data / "entities")


def test_results_of_other_settings_stand_side_by_side(evaluate, data):
    evaluate()
    for words in (
        ("calibration=raw",),
        ("scoring.clothing_weight=0.5",),
        ("scoring.overlap=0.6",),
        ("scoring.area_exponent=0.25",),
        ("presets.zhang18.truth=any",),
    ):
        count = len(list((data / "out" / "results").iterdir()))
        with contextlib.suppress(ValueError):  # several of the name
            evaluate(*words)
        assert len(list((data / "out" / "results").iterdir())) == count + 1
        with contextlib.suppress(ValueError):
            evaluate(*words)
        assert len(list((data / "out" / "results").iterdir())) == count + 1


def test_changed_captions_are_asked_for_anew(evaluate, data):
    evaluate("name=before", name="before")
    path = data / "entities" / "Sentences" / "1.txt"
    path.write_text("\n".join(reversed(CAPTIONS["1"].splitlines())))
    result, _ = evaluate("name=after", name="after")
    assert result["seconds"]["photos"] == 1
    assert result["seconds"]["attended"] == 0  # words are the same


def test_a_result_names_the_split_of_its_photos(data):
    photos = annotated_photos(data / "photos", data / "entities")
    assert split_of(photos, data / "entities") is None
    (data / "entities" / "val.txt").write_text("1\n2\n")
    assert split_of(photos, data / "entities") == "val"
    (data / "entities" / "val.txt").write_text("1\n2\n7\n")
    assert split_of(photos, data / "entities") == "part of val"
    (data / "entities" / "val.txt").write_text("1\n7\n")
    assert split_of(photos, data / "entities") is None


def test_the_gamma_of_the_best_recall_is_chosen_and_kept(evaluate, data):
    result, _ = evaluate("gammas=[0,0.5,3]")
    recalls = {float(gamma): sum(recall.values()) for gamma, recall in result["gammas"].items()}
    chosen = result["manifest"]["gamma"]["value"]
    assert recalls[chosen] == max(recalls.values())
    ((name, saved),) = read_gammas(data / "out" / "gammas.json").items()
    assert name.startswith("efficientnet_lite2_tags, cmwp, mcg (")
    assert (saved["gamma"], saved["photos"], saved["split"]) == (chosen, 2, None)
    (data / "entities" / "test.txt").write_text("1\n2\n")
    again, _ = evaluate(name="c-MWP_MCG_test")
    assert again["manifest"]["gamma"] == {"value": chosen, "chosen_on": "2 photos, of no one split"}
    assert again["gammas"] == {}


def test_predictions_are_those_of_the_grounder(data, grounder, monkeypatch):
    monkeypatch.setattr(grounder, "propose", fixed)
    monkeypatch.setattr(grounder, "area_exponent", 0.25)
    photos = annotated_photos(data / "photos", data / "entities")
    instances = find_instances(photos)
    keeping = Keeping(data / "maps", data / "predictions")
    found = predict(photos.photos[0], instances[:3], grounder, [0.0, 0.25], keeping, Clock())
    (grounding,) = grounder([data / "photos" / "1.jpg"], phrases=[[instance.text for instance in instances[:3]]])
    for phrase, ours in zip(grounding.phrases, found.by_gamma[0.25], strict=True):
        torch.testing.assert_close(ours.regions.boxes, phrase.regions.boxes)
        torch.testing.assert_close(ours.regions.scores.float(), phrase.regions.scores)
    man = load_file(next((data / "maps").glob("1-*")))["man"]
    scores = score_regions(man, fixed(torch.zeros(3, 160, 160)), (160, 160), area_exponent=0.0)
    best = suppress(Regions(fixed(torch.zeros(3, 160, 160)).boxes, scores), overlap=grounder.overlap)
    torch.testing.assert_close(found.by_gamma[0.0][2].regions.boxes, best.boxes)
    assert found.known == [True, True, True]
    assert len(found.of_entities) == 2


def test_what_a_phrase_wears_counts_where_a_setting_says_so(evaluate, data, grounder, monkeypatch):
    sentence = "[/EN#1/people A man] in [/EN#9/clothing an orange suit] by [/EN#2/bodyparts short hair] .\n"
    (data / "entities" / "Sentences" / "1.txt").write_text(sentence)
    evaluate("worn=0.5", name="worn_0.5_c-MWP_MCG")
    (maps,) = [load_file(path) for path in (data / "out" / "maps").rglob("1-*")]
    assert {"man", "orange", "suit"} <= maps.keys()
    monkeypatch.setattr(grounder, "propose", fixed)
    photo = annotated_photos(data / "photos", data / "entities").photos[0]
    man, hair = instances(photo)
    found = {}
    for worn in (0.0, 0.5):
        monkeypatch.setattr(grounder, "worn", worn)
        keeping = Keeping(data / "maps", data / f"predictions{worn}")
        found[worn] = predict(photo, [man, hair], grounder, [0.25], keeping, Clock()).by_gamma[0.25]
    assert not torch.equal(found[0.0][0].regions.scores, found[0.5][0].regions.scores)
    shares = [one.regions.scores / one.mass for one in (found[0.0][1], found[0.5][1])]
    torch.testing.assert_close(*shares, rtol=1e-4, atol=0)
    (grounding,) = grounder([photo.path], ["A man in an orange suit by short hair"])
    torch.testing.assert_close(found[0.5][0].regions.scores.float(), grounding.phrases[0].regions.scores)


def test_a_phrase_without_a_known_word_has_the_proposals_own_order(data, grounder, monkeypatch):
    monkeypatch.setattr(grounder, "propose", fixed)
    photos = annotated_photos(data / "photos", data / "entities")
    instances = [instance for instance in find_instances(photos) if instance.text == "the xyzzy"]
    found = predict(photos.photos[1], instances, grounder, [0.5], Keeping(data / "m", data / "p"), Clock())
    (prediction,) = found.by_gamma[0.5]
    assert found.known == [False]
    assert (prediction.regions.scores.diff() <= 0).all()
    assert prediction.mass == 0
    height, width = photos.photos[1].size
    assert prediction.point == (width / 2, height / 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("choose_by=pointing_mg",), "choose_by must be one of"),
        (("calibration=some",), "calibration must be one of raw, mass, rank"),
        (("scoring.overlap=2",), "overlap is an IoU"),
        (("gammas=[]",), "gammas= is empty"),
        (("scoring.area_exponent=-1",), "area_exponent must be from 0 to 10"),
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


def test_the_command_fails_in_one_line_where_photos_are_missing(tmp_path):
    words = (f"data.path={tmp_path / 'none'}", f"data.entities={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    ran = subprocess.run([sys.executable, "-m", "eval", *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert ran.stderr.strip().splitlines() == [
        f"error: {tmp_path}: no folder Annotations in it; name the folder in which Flickr30k Entities is unpacked"
    ]
