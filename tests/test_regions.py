"""``python -m eval.regions``: readers on tiny data, the scores, the result and the page."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from command_settings import composed
from example_results import measured
from PIL import Image
from small_flickr30k import WORDS, propose_boxes, small_classifier, small_grounder

from eval.regions.__main__ import evaluate, read_photos
from eval.regions.measuring import Answer, measure
from eval.regions.objects import voc_table_photos
from eval.regions.photos import (
    LabelledPhotos,
    NamedObject,
    ObjectPhoto,
    ade20k_photos,
    boxed_photos,
    choose_objects,
    clothing_photos,
)
from eval.regions.result import (
    NameScores,
    RegionBoxes,
    RegionData,
    RegionManifest,
    RegionPointing,
    RegionResult,
    read_region_results,
    save_region_result,
)
from eval.regions.scores import score_boxes, score_pointing
from eval.regions.tables import other_photos
from eval.result import FirstBoxErrors, Recall
from eval.tables.section import section_markdown
from grounding.attention import Centre
from grounding.quoting import quote_free_text
from grounding.records import Regions

SIZE = (30, 40)  # (height, width) of all photos here


def write_photo(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path, *corners, size=SIZE):
    """A mask with a class in each of these boxes: (class, x1, y1, x2, y2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = np.zeros(size, np.uint8)
    for value, x1, y1, x2, y2 in corners:
        classes[y1:y2, x1:x2] = value
    Image.fromarray(classes).save(path)


@pytest.fixture
def ade20k(tmp_path):
    for name in ("a", "b"):
        write_photo(tmp_path / "images" / f"{name}.jpg")
    write_mask(tmp_path / "masks" / "a.png", (1, 0, 0, 40, 10), (3, 0, 20, 40, 30), (4, 0, 20, 5, 30))
    write_mask(tmp_path / "masks" / "b.png", (2, 10, 10, 30, 20))
    names = "1,.1,1,1,1,sky\n2,.1,1,1,1,coffee;table;cocktail;table\n3,.1,1,1,1,screen;silver;screen\n"
    (tmp_path / "object150_info.csv").write_text(f"Idx,Ratio,Train,Val,Stuff,Name\n{names}4,.1,1,1,0,screen\n")
    return tmp_path


@pytest.fixture
def boxed(tmp_path):
    """Three photos, each with a box of a word that the small classifier knows, or does not."""
    photos = {}
    things = {"1": ("a man", [10, 5, 30, 25]), "2": ("a cat", [0, 0, 9, 9]), "3": ("xyzzy", [0, 0, 40, 30])}
    for name, (phrase, box) in things.items():
        write_photo(tmp_path / "photos" / f"{name}.jpg")
        photos[f"{name}.jpg"] = {"phrase": phrase, "width": 40, "height": 30, "box": box}
    (tmp_path / "things.json").write_text(json.dumps({"about": "drawn", "photos": photos}))
    return tmp_path


def test_masks_of_ade20k_have_the_first_of_their_names_and_equal_names_are_one_region(ade20k):
    photos = ade20k_photos(str(ade20k))
    assert (photos.title, photos.names, photos.have_boxes) == ("ADE20K", ["a.jpg", "b.jpg"], False)
    first, second = (photo.read_regions(SIZE) for photo in photos.photos)
    assert {name: int(mask.sum()) for name, mask in first.items()} == {"sky": 400, "screen": 400}
    assert {name: int(mask.sum()) for name, mask in second.items()} == {"coffee table": 200}
    assert second["coffee table"][10, 10]
    assert not second["coffee table"][10, 30]


def test_masks_of_clothing_leave_out_background_and_skin(tmp_path):
    write_photo(tmp_path / "images" / "a.jpg")
    write_mask(tmp_path / "masks" / "a.png", (1, 0, 0, 20, 10), (2, 0, 20, 40, 30))
    (tmp_path / "label_list.json").write_text('["null", "skin", "t-shirt"]')
    (photo,) = clothing_photos(str(tmp_path)).photos
    assert list(photo.read_regions(SIZE)) == ["t-shirt"]


def test_boxes_of_voc_are_counted_from_0_and_end_after_their_last_pixel(tmp_path):
    for name in ("a", "b"):
        write_photo(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "boxes.csv").write_text(
        "image,width,height,class,xmin,ymin,xmax,ymax,difficult\n"
        "a.jpg,40,30,diningtable,1,1,40,30,0\na.jpg,40,30,cat,3,3,4,4,0\n"
        "a.jpg,40,30,cat,5,5,6,6,0\na.jpg,40,30,dog,5,5,6,6,1\nb.jpg,40,30,dog,5,5,6,6,1\n"
    )
    photos = choose_objects(voc_table_photos(str(tmp_path), title="animals"), "clear")
    assert (photos.title, photos.names, photos.have_boxes) == ("animals", ["a.jpg"], True)
    regions = {name: boxes.tolist() for name, boxes in photos.photos[0].read_regions(SIZE).items()}
    assert regions == {"dining table": [[0, 0, 40, 30]], "cat": [[2, 2, 4, 4], [4, 4, 6, 6]]}


def test_a_json_of_boxes_names_the_data(boxed):
    photos = boxed_photos(str(boxed / "photos"), str(boxed / "things.json"))
    assert (photos.title, photos.names) == ("things", ["1.jpg", "2.jpg", "3.jpg"])
    assert photos.photos[0].read_regions(SIZE)["a man"].tolist() == [[10, 5, 30, 25]]
    with pytest.raises(ValueError, match=r"90 are missing"):  # of the package's own list
        boxed_photos(str(boxed / "photos"), None)


def test_damaged_data_are_named(ade20k, boxed):
    with pytest.raises(ValueError, match=r"a\.png: annotated at \(height, width\) \(30, 40\), but the photo has"):
        ade20k_photos(str(ade20k)).photos[0].read_regions((40, 30))
    (ade20k / "masks" / "a.png").write_bytes(b"PNG")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read"):
        ade20k_photos(str(ade20k)).photos[0].read_regions(SIZE)
    (ade20k / "images" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg: no such photo; 1 of 2 are missing"):
        ade20k_photos(str(ade20k))
    (ade20k / "object150_info.csv").write_text("Idx\n1\n")
    with pytest.raises(ValueError, match=r"object150_info\.csv: expected the columns Idx and Name"):
        ade20k_photos(str(ade20k))
    with pytest.raises(ValueError, match=r"label_list\.json: No such file"):
        clothing_photos(str(ade20k))
    with pytest.raises(ValueError, match=r"boxes\.csv: no such file"):
        voc_table_photos(str(ade20k), title="VOC")
    for content, message in (
        ("{", "not JSON"),
        ("[]", "expected photos, each with its phrase"),
        ('{"photos": {}}', "no photo with a named region"),
        ('{"photos": {"1.jpg": {"phrase": "a", "width": 1, "height": 1, "box": [3, 0, 2, 1]}}}', "expected boxes x1"),
    ):
        (boxed / "things.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            boxed_photos(str(boxed / "photos"), str(boxed / "things.json"))


def test_the_centre_of_attention_points_into_what_is_at_the_centre(boxed):
    photos = boxed_photos(str(boxed / "photos"), str(boxed / "things.json"))
    (man,), (cat,), (unknown,) = measure(small_grounder(Centre), photos, with_boxes=True, kept=boxed / "kept")
    assert (man.is_hit, cat.is_hit, unknown.is_hit) == (True, False, False)
    assert (man.is_centre_hit, cat.is_centre_hit, unknown.is_centre_hit) == (True, False, True)
    assert (man.is_known, cat.is_known, unknown.is_known) == (True, True, False)
    assert unknown.judged.rank == 1  # the proposals' own order: the whole photo
    assert cat.judged.rank is None


def test_the_box_of_another_name_in_the_photo_is_a_wrong_instance(tmp_path):
    write_photo(tmp_path / "a.jpg")
    objects = (NamedObject("cat", (0, 0, 20, 30)), NamedObject("dog", (20, 0, 40, 30)))
    photos = LabelledPhotos(tmp_path, ["a.jpg"], photos=(ObjectPhoto(tmp_path / "a.jpg", SIZE, objects),))
    dog = torch.tensor([[20.0, 0, 40, 30]])
    grounder = small_grounder(Centre, propose=lambda image: Regions(dog, torch.ones(1)))
    ((cat, dog),) = measure(grounder, photos, with_boxes=True, kept=tmp_path / "kept")
    assert (cat.judged.outcome, dog.judged.outcome) == ("wrong_instance", "correct")


def answer(photo, name, is_hit, is_centre_hit=False):
    return Answer(photo=photo, name=name, is_known=True, is_hit=is_hit, is_centre_hit=is_centre_hit)


def test_accuracy_is_over_pairs_and_over_names():
    answers = [
        answer("1", "cat", True, True),
        answer("2", "cat", True),
        answer("3", "cat", False),
        answer("3", "dog", False),
    ]
    scores = score_pointing(answers)
    assert scores.accuracy.share == 2 / 4
    assert scores.name_mean.share == pytest.approx((2 / 3 + 0) / 2)
    assert scores.centre == 1 / 4
    assert scores.centre_name_mean == pytest.approx((1 / 3 + 0) / 2)
    low, high = scores.accuracy.interval
    assert 0 <= low <= scores.accuracy.share <= high <= 1
    assert {name: (one.pairs, one.accuracy) for name, one in scores.names.items()} == {"cat": (3, 2 / 3), "dog": (1, 0)}
    assert score_pointing(answers, rounds=0).accuracy.interval is None
    assert score_boxes(answers) is None


def example(name="best", data="subjects", *, proposals="mcg", unknown=("xyzzy",)):
    names = {text: NameScores(pairs=2, accuracy=0.5, is_known=text not in unknown) for text in ("a can", "xyzzy")}
    errors = FirstBoxErrors(
        wrong_instance=measured(0.05), too_small=measured(0.2), too_large=measured(0.15), elsewhere=measured(0.1)
    )
    recall = Recall(at_1=measured(0.5), at_5=measured(0.6), at_10=measured(0.7), bound=measured(0.9))
    boxes = RegionBoxes(recall=recall, recall_at_1_iou_75=measured(0.3), mean_iou=measured(0.45), errors=errors)
    return RegionResult(
        name=name,
        manifest=RegionManifest(
            command=f"python -m eval.regions data={data}",
            commit="abc1234",
            date="2026-11-25",
            versions={},
            identity="0123456789abcdef",
            data=RegionData(name=data, photos=3, pairs=4, digest="d"),
            model="tags",
            attention="best",
            proposals=proposals,
            settings={},
        ),
        pointing=RegionPointing(
            accuracy=measured(0.8), name_mean=measured(0.7), centre=0.4, centre_name_mean=0.3, names=names
        ),
        boxes=None if proposals is None else boxes,
    )


def test_a_result_survives_its_file(tmp_path):
    results = [example(), example(data="VOC2012 animal subset", proposals=None)]
    names = [save_region_result(result, tmp_path).name for result in results]
    assert names == ["best_subjects_mcg_012345.json", "best_VOC2012_animal_subset_012345.json"]
    assert Counter(map(repr, read_region_results(tmp_path))) == Counter(map(repr, results))
    (tmp_path / names[0]).write_text('{"format": 2}')
    with pytest.raises(
        ValueError, match=r"subjects.*: expected a result of format 1, got 2; run python -m eval\.regions"
    ):
        read_region_results(tmp_path)


def test_the_page_has_a_row_for_each_method_and_a_table_for_each_set_of_boxes():
    results = [example(), example("c-MWP"), example(data="ADE20K", proposals=None, unknown=())]
    page = section_markdown(other_photos(results))
    assert "| best | 80.0 (78.0–82.0) | 70.0 | 80.0 (78.0–82.0) | 70.0 |" in page
    assert "| c-MWP | – | – | 80.0 (78.0–82.0) | 70.0 |" in page
    assert "| the photo's centre | 40.0 | 30.0 | 40.0 | 30.0 |" in page
    assert "| c-MWP | 50.0 (48.0–52.0) | 60.0 | 70.0 | 30.0 | 45.0 | 5.0 | 20.0 | 15.0 | 10.0 |" in page
    assert "* subjects: not known, and missed, 2 pairs: xyzzy (best; c-MWP)." in page
    assert page.count("not known") == 1
    assert "`python -m eval.regions data=ADE20K`, commit abc1234, 2026-11-25" in page
    with pytest.raises(ValueError, match="2 results of best on subjects"):
        other_photos([*results, example()])


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command's body with a small classifier; the result that it saved, and the folder of the run."""
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: small_classifier())
    monkeypatch.setattr("proposals.MCG", lambda **settings: propose_boxes)

    def run(*words, data, proposals="mcg"):
        chosen = [] if proposals is None else [f"proposals={proposals}"]
        words = (f"data={data}", *words, *chosen, f"output={tmp_path / 'out'}")
        settings = composed(*quote_free_text(list(words)), config="regions")
        choices = {"data": data, "model": "checkpoint", "attention": "cmwp", "proposals": proposals}
        assert evaluate(settings, choices, words, tmp_path)
        (result,) = read_region_results(tmp_path / "out" / "results")
        return result, (tmp_path / "answers.csv").read_text().splitlines()

    return run


def test_boxes_are_pointed_at_and_ranked(command, boxed, capsys):
    words = (f"data.path={boxed / 'photos'}", f"data.boxes={boxed / 'things.json'}")
    result, lines = command(*words, data="subjects")
    manifest = result.manifest
    assert (result.name, manifest.proposals, manifest.attention) == ("c-MWP", "mcg", "cmwp")
    assert (
        manifest.command
        == "python -m eval.regions data=subjects data.path=photos data.boxes=things.json proposals=mcg output=out"
    )
    assert (manifest.data.name, manifest.data.photos, manifest.data.pairs) == ("things", 3, 3)
    assert manifest.settings["area_exponents"] == composed("attention=cmwp").attention.scoring.area_exponent
    assert result.pointing.unknown == ("xyzzy",)
    assert result.boxes.recall.at_1.share in (1 / 3, 2 / 3, 1)
    assert lines[0] == "photo,name,known,hit,centre,difficult,rank,iou,outcome"
    assert lines[3] == "3.jpg,xyzzy,0,0,1,0,1,1.0000,correct"
    assert "names not known: xyzzy" in capsys.readouterr().out


def test_masks_are_only_pointed_at(command, ade20k):
    result, lines = command(f"data.path={ade20k}", data="ade20k")
    assert (result.boxes, result.manifest.proposals, result.manifest.settings["proposals"]) == (None, None, None)
    assert result.manifest.settings["area_exponents"] is None
    assert lines[1] == "a.jpg,sky,0,0,0,0,,,"
    assert "sky" not in WORDS


def test_other_data_have_no_named_regions(tmp_path):
    write_photo(tmp_path / "a.jpg")
    settings = composed("data=folder", f"data.path={tmp_path}", config="regions")
    with pytest.raises(ValueError, match="no named regions: choose data=ade20k"):
        read_photos(settings)
    with pytest.raises(ValueError, match="no data: choose one"):
        read_photos(composed(config="regions"))


def test_boxes_are_ranked_only_where_proposals_are_chosen(command, boxed):
    words = (f"data.path={boxed / 'photos'}", f"data.boxes={boxed / 'things.json'}")
    result, _ = command(*words, data="subjects", proposals=None)
    assert (result.boxes, result.manifest.proposals) == (None, None)
