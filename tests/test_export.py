"""Exports: what is in them, whether photos come as groundings or as rows, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from exported import CAPTIONS, NAMES, SIZE, grounding, groundings, outlines, rows

from grounding import Grounder
from grounding.export import label_studio_config, to_coco, to_grit, to_label_studio, to_mdetr, to_odvg
from grounding.export.photos import read_photos
from grounding.export.writing import FORMATS, Exports, exported, write_exports

TO_ENTRIES = {
    "coco": lambda *args, **options: to_coco(*args, **options).results,
    "label_studio": to_label_studio,
    "mdetr": lambda *args, **options: to_mdetr(*args, **options)["images"],
    "odvg": to_odvg,
    "grit": to_grit,
}


@pytest.fixture(params=TO_ENTRIES.values(), ids=TO_ENTRIES.keys())
def entries(request):
    return request.param


def test_rows_give_the_same_boxes_as_groundings_without_outlines():
    found, expected = to_coco(rows()), to_coco(groundings(), NAMES, image_ids=dict(zip(NAMES, (7, 8), strict=True)))
    assert found.images == expected.images
    assert found.categories == expected.categories
    assert found.results == [
        {key: result[key] for key in result if key != "segmentation"} for result in expected.results
    ]
    assert ["segmentation" in result for result in expected.results] == [True, True, False, False]


def test_rows_and_groundings_have_the_same_captions():
    assert to_odvg(rows()) == to_odvg(groundings(), NAMES)
    assert to_grit(rows()) == to_grit(groundings(), NAMES)
    assert to_label_studio(rows()) == to_label_studio(groundings(), NAMES)
    for image in (*to_mdetr(rows())["images"], *to_mdetr(groundings(), NAMES)["images"]):
        assert image["caption"] == CAPTIONS[image["sentence_id"]]


def test_categories_are_phrases_without_articles_in_the_order_of_their_first_region():
    found = to_coco(groundings(), NAMES, count=3, guesses=True)
    assert [(one["id"], one["name"]) for one in found.categories] == [(1, "red dog"), (2, "cat"), (3, "犬")]
    assert {result["category_id"] for result in found.results} == {1, 2, 3}


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (10, 3)])
def test_as_many_regions_of_a_phrase_are_exported_as_asked_for(count, expected):
    (entry, *_) = to_odvg([grounding(outlines())], ["a.jpg"], count=count)
    assert [region["phrase"] for region in entry["grounding"]["regions"]].count("A red dog") == expected


def test_guesses_are_left_out_unless_asked_for_and_then_marked(entries):
    assert "犬" not in json.dumps(TO_ENTRIES["coco"](groundings(), NAMES), ensure_ascii=False)
    assert len(json.dumps(entries(groundings(), NAMES, guesses=True))) > len(json.dumps(entries(groundings(), NAMES)))
    ranked = [result["ranked_by"] for result in to_coco(groundings(), NAMES, guesses=True).results]
    assert ranked.count("proposals") == 2
    for task in to_label_studio(groundings(), NAMES, guesses=True):
        assert [one["meta"]["ranked_by"] for one in task["predictions"][0]["result"]].count("proposals") == 1


def test_phrases_that_are_rejected_are_guesses_and_probabilities_order_the_tasks_of_label_studio():
    found = rows()[:1]
    red_dog, cat, *_ = found[0]["phrases"]
    red_dog["probability"], cat["probability"], cat["rejected"] = 0.5, 0.25, True
    assert [one["phrase"] for one in to_coco(found).results] == ["A red dog"]
    assert [one["phrase"] for one in to_coco(found, guesses=True).results] == ["A red dog", "the cat", "犬"]
    assert [to_label_studio(found, guesses=guesses)[0]["predictions"][0]["score"] for guesses in (False, True)] == [
        0.5,
        0.375,
    ]
    assert "score" not in to_label_studio(rows())[0]["predictions"][0]


def test_a_box_that_phrases_of_one_label_share_is_one_object_but_stays_in_every_caption():
    one = grounding(outlines())
    (red_dog, *_) = one.phrases
    again = type(red_dog)("a red DOG", (0, 9), 1, ("dog",), (), red_dog.regions, red_dog.attention)
    twice = type(one)(one.captions, one.size, (red_dog, again))
    assert len(to_coco([twice], ["a.jpg"]).results) == 1
    assert len(to_label_studio([twice], ["a.jpg"])[0]["predictions"][0]["result"]) == 1
    assert len(to_odvg([twice], ["a.jpg"])) == 2


def test_every_span_cuts_its_phrase_from_the_caption():
    for entry in to_odvg(groundings(), NAMES, guesses=True):
        for region in entry["grounding"]["regions"]:
            ((start, end),) = region["tokens_positive"]
            assert entry["grounding"]["caption"][start:end] == region["phrase"]
    found = to_mdetr(groundings(), NAMES, guesses=True)
    captions = {image["id"]: image["caption"] for image in found["images"]}
    cut = {captions[one["image_id"]][slice(*one["tokens_positive"][0])] for one in found["annotations"]}
    assert cut == {"A red dog", "the cat", "犬"}


def test_all_boxes_of_a_photo_are_in_one_prediction_in_per_cent():
    (task, _) = to_label_studio(groundings(), NAMES, count=3)
    (prediction,) = task["predictions"]
    assert [one["value"]["rectanglelabels"] for one in prediction["result"]] == [["red dog"]] * 3 + [["cat"]] * 2
    value = prediction["result"][1]["value"]
    assert (value["x"], value["y"], value["width"], value["height"]) == (25.0, 100 / 3, 37.5, 50.0)
    assert len({one["id"] for one in prediction["result"]}) == 5


def test_masks_have_the_size_of_the_photo_and_fill_their_box():
    (photo,) = read_photos([grounding(outlines())], ["a.jpg"], count=3)
    regions = [region for phrase in photo.phrases for region in phrase.regions]
    assert len(regions) == 5
    for region in regions:
        mask = region.mask(SIZE)
        y, x = mask.nonzero().unbind(1)
        assert mask.shape == SIZE
        assert region.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_nothing_in_gives_nothing_out(entries):
    assert entries([], []) == []
    assert entries([]) == []


def test_a_photo_without_regions_is_there_for_tools_that_show_photos(entries):
    one = grounding(outlines())
    empty = type(one)(one.captions, one.size, one.phrases[3:])
    assert entries([empty], ["a.jpg"]) == (
        [{"data": {"image": "a.jpg"}, "predictions": []}] if entries is to_label_studio else []
    )
    assert [image["file_name"] for image in to_coco([empty], ["a.jpg"]).images] == ["a.jpg"]


def test_photos_that_failed_are_left_out_and_the_ids_of_others_stay(entries):
    failed = [ValueError("not an image"), *groundings()]
    assert len(entries(failed, ["broken.jpg", *NAMES])) == len(entries(groundings(), NAMES))
    assert [image["id"] for image in to_coco(failed, ["broken.jpg", *NAMES]).images] == [2, 3]
    assert [image["id"] for image in to_coco(rows()).images] == [7, 8]


def test_photos_without_names_are_called_by_their_ids_and_a_nameless_failure_is_left_out():
    first, second, failed = rows()
    found = to_odvg([first | {"image": ""}, second, failed | {"image": ""}])
    assert [entry["filename"] for entry in found] == ["7", NAMES[1]]


def test_names_come_from_the_paths_that_were_grounded(quick_grounder, tmp_path, examples):
    from PIL import Image

    path = tmp_path / "cat.jpg"
    Image.fromarray(examples["chelsea"]).resize((120, 90)).save(path)
    found = quick_grounder([path], ["A cat"])
    assert [entry["filename"] for entry in to_odvg(found)] == [str(path)]
    with pytest.raises(ValueError, match="result 0 has no name of its photo"):
        to_odvg(quick_grounder([examples["chelsea"]], ["A cat"]))


def test_a_grounder_keeps_the_outlines_of_its_proposals(quick_grounder):
    segments = outlines()
    grounder = Grounder(quick_grounder.attention, lambda image: segments, quick_grounder.scoring)
    found = grounder([torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))], ["A cat, a quiddity"])
    assert len(found[0].phrases) == 2
    for phrase in found[0].phrases:
        for index, box in enumerate(phrase.regions.boxes.tolist()):
            (same,) = (segments.boxes == torch.tensor(box)).all(1).nonzero().flatten().tolist()
            assert torch.equal(phrase.regions.mask(index), segments.mask(same))
    assert all("segmentation" in result for result in to_coco(found, ["cat.jpg"], guesses=True).results)


@pytest.mark.parametrize(
    ("results", "names", "options", "message"),
    [
        (groundings(), None, {}, "result 0 has no name of its photo: give names="),
        (groundings(), ["a.jpg"], {}, "as many names as results"),
        (groundings(), ["a.jpg", "b.jpg", "c.jpg"], {}, "as many names as results"),
        (groundings(), "a.jpg", {}, "names is a list"),
        (groundings()[0], ["a.jpg"], {}, "results is a list"),
        (rows()[0], None, {}, "results is a list"),
        ([3], ["a.jpg"], {}, "expected a Grounding or a row, got int"),
        ([{"image": "a.jpg"}], None, {}, "result 0: not a row of a batch: KeyError"),
        ([{"image": "a.jpg", "size": [3, 4], "phrases": [{}]}], None, {}, "result 0: not a row of a batch"),
        (groundings(), NAMES, {"count": 0}, "count must be from 1"),
        (groundings(), NAMES, {"count": "all"}, "count must be from 1"),
    ],
)
def test_what_makes_no_sense_is_refused(entries, results, names, options, message):
    with pytest.raises(ValueError, match=message):
        entries(results, names, **options)


def test_rows_without_captions_have_boxes_but_no_captioned_formats():
    assert to_coco(rows(captions=False)) == to_coco(rows())
    for to_entries in (to_mdetr, to_odvg, to_grit):
        with pytest.raises(ValueError, match="the row has no captions, which this format needs"):
            to_entries(rows(captions=False))


def test_given_ids_are_used_and_what_they_lack_is_named():
    found = to_coco(groundings(), NAMES, categories={"red dog": 18, "cat": 17}, image_ids={NAMES[0]: 5, NAMES[1]: 6})
    assert [(one["name"], one["id"]) for one in found.categories] == [("red dog", 18), ("cat", 17)]
    assert [one["image_id"] for one in found.results] == [5, 5, 6, 6]
    with pytest.raises(ValueError, match="categories has no id for 'cat'"):
        to_coco(groundings(), NAMES, categories={"red dog": 18})
    with pytest.raises(ValueError, match=r"image_ids has no id for 'café"):
        to_coco(groundings(), NAMES, image_ids={NAMES[0]: 5})


PATHS = [Path(name) for name in NAMES]
ALL = "coco,grit,label_studio,mdetr,odvg"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("guesses", [False, True])
def test_files_hold_what_the_functions_return(tmp_path, guesses):
    folder, options = tmp_path / "new" / "export", {"count": 2, "guesses": guesses}
    answers = [(number, None, one) for number, one in reversed(list(enumerate(groundings())))]
    assert list(exported(answers, PATHS, Exports(ALL, **options), folder)) == answers
    coco, tasks = to_coco(groundings(), NAMES, **options), to_label_studio(groundings(), NAMES, **options)
    files = {path.name: path for path in folder.iterdir()}
    assert sorted(files) == sorted(file.name for form in FORMATS.values() for file in form.files)
    read = {name: json.loads(path.read_text("utf-8")) for name, path in files.items() if path.suffix == ".json"}
    assert read["coco_results.json"] == coco.results
    assert read["coco_dataset.json"] == coco.dataset()
    assert read["mdetr.json"] == to_mdetr(groundings(), NAMES, **options)
    assert read["label_studio.json"] == tasks
    assert files["label_studio.xml"].read_text("utf-8").split() == label_studio_config(tasks).split()
    assert lines(files["odvg.jsonl"]) == to_odvg(groundings(), NAMES, **options)
    assert lines(files["grit.jsonl"]) == to_grit(groundings(), NAMES, **options)
    assert [path.name for path in folder.parent.iterdir()] == ["export"]


def test_files_of_nothing_are_empty_but_whole(tmp_path):
    assert list(exported([(0, None, "no photo")], PATHS, Exports(ALL), tmp_path / "export")) == [(0, None, "no photo")]
    assert json.loads((tmp_path / "export" / "coco_results.json").read_text()) == []
    assert json.loads((tmp_path / "export" / "mdetr.json").read_text())["annotations"] == []
    assert (tmp_path / "export" / "odvg.jsonl").read_text() == ""


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_no_half_of_an_export(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{name}", full)
    if name == "replace":
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"export cannot be written: .*No space left"):
        write_exports(rows(), Exports(ALL), tmp_path / "export")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_export_that_is_broken_off_leaves_nothing(tmp_path):
    running = exported(((0, None, one) for one in groundings()), PATHS, Exports(ALL), tmp_path / "export")
    next(running)
    running.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ("coco,yolo", "export=yolo: no such format; formats are coco, grit, label_studio, mdetr, odvg"),
        ("", "export=: no such format"),
        ("supervision", r"these are objects in Python: see grounding\.export\.to_supervision"),
    ],
)
def test_unknown_formats_are_refused_with_a_list_of_those_there_are(formats, message):
    with pytest.raises(ValueError, match=message):
        Exports(formats)


def test_no_regions_are_refused():
    with pytest.raises(ValueError, match="export_count must be from 1"):
        Exports("coco", count=0)
