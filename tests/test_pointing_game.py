"""The pointing game and dominant objects: readers of objects, difficult pairs, boxes around attention, and the page."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_settings import composed
from example_results import measured
from hypothesis import given
from hypothesis import strategies as st
from object_photos import SIZE, write_photo, write_xml
from PIL import Image
from small_flickr30k import small_classifier, small_grounder

import grounding
from eval.leaderboard.results_page import results_page
from eval.predicting import known_words
from eval.regions.__main__ import evaluate
from eval.regions.difficult import difficult_names, read_difficult
from eval.regions.dominant import (
    choose_alpha,
    overlaps_by_alpha,
    read_held_out,
    score_dominant,
)
from eval.regions.measuring import Rules, measure
from eval.regions.objects import coco_photos, imagenet_photos, voc_photos
from eval.regions.paper_tables import dominant_objects, pointing_game
from eval.regions.photos import LabelledPhotos, NamedObject, ObjectPhoto, ade20k_photos, choose_objects
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
from eval.regions.scores import Plan
from grounding.attention import Centre
from grounding.categories import category_phrases
from grounding.peaks import bright_box
from grounding.quoting import quote_free_text
from grounding.vocabulary import read_vocabulary

UNKNOWN = ["carrot", "donut", "fork", "giraffe", "hydrant", "scissors", "suitcase", "toothbrush"]  # to the default


@pytest.fixture
def voc(tmp_path):
    """Photo 1: a cat, and a dog that is difficult; 2: a cat and a difficult one; 3: a sofa, difficult."""
    folder = tmp_path / "VOC2007"
    for name in "123":
        write_photo(folder / "JPEGImages" / f"{name}.jpg")
    write_xml(folder / "Annotations" / "1.xml", ("cat", 0, 1, 1, 10, 10), ("dog", 1, 11, 11, 20, 20))
    write_xml(folder / "Annotations" / "2.xml", ("cat", 0, 1, 1, 40, 30), ("cat", 1, 5, 5, 6, 6))
    write_xml(folder / "Annotations" / "3.xml", ("sofa", 1, 1, 1, 10, 10))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("1\n2\n3\n")
    return folder


@pytest.fixture
def coco(tmp_path):
    """Photo a: two mice under one outline each, and a crowd of people; b: no object; c: a crowd of people alone."""
    for name in "abc":
        write_photo(tmp_path / "val" / f"{name}.png")
    images = [{"id": i, "file_name": f"{name}.png", "height": 30, "width": 40} for i, name in enumerate("abc")]
    crowd = {"segmentation": {"counts": [30 * 39, 30], "size": [30, 40]}, "bbox": [39, 0, 1, 30], "iscrowd": 1}
    objects = [
        {"image_id": 0, "category_id": 74, "bbox": [2, 2, 4, 4], "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]},
        {"image_id": 0, "category_id": 74, "bbox": [10, 2, 4, 4], "segmentation": [[10, 2, 14, 2, 14, 6, 10, 6]]},
        {"image_id": 0, "category_id": 1, **crowd},
        {"image_id": 2, "category_id": 1, **crowd},
    ]
    categories = [{"id": 74, "name": "mouse"}, {"id": 1, "name": "person"}]
    content = {"images": images, "annotations": objects, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def regions(photos):
    return {
        name: {key: region.tolist() for key, region in photo.read_regions(SIZE).items()}
        for name, photo in zip(photos.names, photos.photos, strict=True)
    }


def test_difficult_objects_of_voc_count_only_beside_others_of_their_category(voc):
    photos = voc_photos(str(voc), "test")
    assert (photos.title, len(photos.categories), photos.have_boxes) == ("VOC2007 test", 20, True)
    cat = [[0, 0, 40, 30]]
    assert regions(choose_objects(photos, "clear")) == {"1.jpg": {"cat": [[0, 0, 10, 10]]}, "2.jpg": {"cat": cat}}
    everything = regions(choose_objects(photos, "all"))
    assert everything == {"1.jpg": {"cat": [[0, 0, 10, 10]]}, "2.jpg": {"cat": [*cat, [4, 4, 6, 6]]}}
    with pytest.raises(ValueError, match="no photo is left with objects=single"):
        choose_objects(photos, "single")  # the one in photo 3 is difficult
    with pytest.raises(ValueError, match="objects must be clear, all or single, got 'some'"):
        choose_objects(photos, "some")


def test_masks_of_coco_hold_all_of_a_category_and_crowds_with_all(coco):
    photos = coco_photos(str(coco / "val"), str(coco / "instances.json"), "COCO")
    assert (photos.categories, photos.have_boxes) == (("person", "computer mouse"), False)
    clear, everything = choose_objects(photos, "clear"), choose_objects(photos, "all")
    assert (clear.names, everything.names) == (["a.png"], ["a.png", "c.png"])
    found = everything.photos[0].read_regions(SIZE)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"computer mouse": 32, "person": 30}
    assert found["computer mouse"][2:6, 10:14].all()
    assert found["person"][:, 39].all()


def test_classes_of_imagenet_have_the_first_of_their_names(tmp_path):
    write_photo(tmp_path / "val" / "n01440764" / "a_1.JPEG")
    write_photo(tmp_path / "val" / "a_2.JPEG")
    write_xml(tmp_path / "xml" / "a_1.xml", ("n01440764", 0, 1, 1, 40, 30), photo="a_1")
    write_xml(tmp_path / "xml" / "a_2.xml", ("n01443537", 0, 2, 2, 3, 3), ("n01443537", 0, 5, 5, 6, 6), photo="a_2")
    photos = imagenet_photos(str(tmp_path / "val"), str(tmp_path / "xml"))
    assert photos.names == ["n01440764/a_1.JPEG", "a_2.JPEG"]
    assert [list(photo.read_regions(SIZE)) for photo in photos.photos] == [["tench"], ["goldfish"]]
    assert choose_objects(photos, "single").names == ["n01440764/a_1.JPEG"]
    with pytest.raises(ValueError, match=r"no annotation \(\.xml\) in it"):
        imagenet_photos(str(tmp_path / "val"), str(tmp_path / "val"))


@pytest.mark.parametrize(
    ("objects", "photo", "message"),
    [
        (
            [("cat", 0, 1, 1, 9, 9)],
            "2.jpg",
            r"1\.xml: not an annotation of its photo: it belongs to another photo, 2\.jpg",
        ),
        ([], None, "it has no object"),
        ([(" ", 0, 1, 1, 9, 9)], None, "a category without a name"),
        ([("cat", 0, 1, 1, 41, 9)], None, "box 1 1 41 9 is not within 40×30 pixels"),
    ],
)
def test_annotations_that_do_not_fit_are_named(voc, objects, photo, message):
    write_xml(voc / "Annotations" / "1.xml", *objects, photo=photo)
    with pytest.raises(ValueError, match=message):
        voc_photos(str(voc), "test")


def test_other_damaged_files_are_named(voc, coco):
    with pytest.raises(ValueError, match=r"val\.txt: No such file"):
        voc_photos(str(voc), "val")
    (voc / "Annotations" / "1.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"1\.xml: not an annotation of its photo: no element"):
        voc_photos(str(voc), "test")
    (photo, *_) = coco_photos(str(coco / "val"), str(coco / "instances.json"), "COCO").photos
    with pytest.raises(ValueError, match=r"a\.png: annotated at \(height, width\) \(30, 40\), but the photo has"):
        photo.read_regions((40, 30))
    instances = json.loads((coco / "instances.json").read_text())
    instances["annotations"][2]["segmentation"]["counts"] = [3]
    (coco / "instances.json").write_text(json.dumps(instances))
    (photo, *_) = coco_photos(str(coco / "val"), str(coco / "instances.json"), "COCO").photos
    with pytest.raises(ValueError, match=r"a\.png: run lengths of 3 pixels, but the photo has 40×30"):
        photo.read_regions(SIZE)


def test_masks_of_classes_have_no_single_objects(tmp_path):
    write_photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "masks" / "a.png")
    (tmp_path / "object150_info.csv").write_text("Idx,Name\n1,sky\n")
    photos = ade20k_photos(str(tmp_path))
    assert choose_objects(photos, "all") == photos
    with pytest.raises(ValueError, match="objects=single needs objects, but these are masks of classes"):
        choose_objects(photos, "single")


def test_the_default_knows_a_word_for_every_category_but_a_few():
    voc, coco = category_phrases("voc"), category_phrases("coco")
    assert (len(voc), len(coco)) == (20, 80)
    assert (len(set(voc.values())), len(set(coco.values()))) == (20, 80)  # no two categories are one region
    table = Path(grounding.__file__).parent / "weights" / "efficientnet_lite2_places" / "vocabulary.tsv"
    vocabulary = read_vocabulary(str(table))
    unknown = [phrase for phrase in sorted({*voc.values(), *coco.values()}) if not known_words(phrase, vocabulary)]
    assert unknown == UNKNOWN


def test_difficult_names_are_small_and_have_company():
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:10, :30] = True  # just a quarter
    boxes = torch.tensor([[0.0, 0, 15, 10], [0, 0, 15, 10]])  # a quarter together, though they cover half of that
    small = torch.tensor([[0.0, 0, 15, 19]])
    assert difficult_names({"cat": small}, SIZE) == frozenset()
    assert difficult_names({"cat": small, "sky": mask, "dog": boxes}, SIZE) == {"cat"}
    mask[0, 0] = False
    assert difficult_names({"cat": small, "sky": mask}, SIZE) == {"cat", "sky"}


def test_a_list_of_difficult_pairs_is_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1\t0\t1\n2\t1\t1\n")
    photos = LabelledPhotos(tmp_path, ["folder/1.jpg", "2.jpg"], categories=("cat", "dog"))
    difficult = read_difficult(str(path), photos)
    assert difficult.names("folder/1.jpg") == {"dog"}
    assert difficult.names("2.jpg") == {"cat", "dog"}
    with pytest.raises(ValueError, match=r"list\.txt: no line for 1 of 2 photos, such as 3\.jpg"):
        read_difficult(str(path), replace(photos, names=["1.jpg", "3.jpg"]))
    with pytest.raises(ValueError, match="line 1: expected a photo and 3 times 0 or 1"):
        read_difficult(str(path), replace(photos, categories=("cat", "dog", "cow")))
    with pytest.raises(ValueError, match="a list of difficult pairs needs data=voc"):
        read_difficult(str(path), replace(photos, categories=()))
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read"):
        read_difficult(str(tmp_path / "none.txt"), photos)


def one_photo(folder, *objects):
    write_photo(folder / "a.png")
    return LabelledPhotos(folder, ["a.png"], photos=(ObjectPhoto(folder / "a.png", SIZE, objects),))


def test_points_within_the_tolerance_hit(tmp_path):
    """The centre, the pixel (15, 20), is 10 pixels right of the man's last column, and 10 below the cat's last row."""
    photos = one_photo(tmp_path, NamedObject("a man", (0, 10, 11, 20)), NamedObject("a cat", (20, 0, 21, 6)))
    for tolerance, is_hit in ((10, False), (10.5, True)):
        ((man, cat),) = measure(small_grounder(Centre), photos, with_boxes=False, rules=Rules(tolerance=tolerance))
        assert (man.is_centre_hit, cat.is_centre_hit) == (is_hit, is_hit)
        assert (man.is_difficult, cat.is_difficult) == (True, True)
    for tolerance, is_hit in ((0, False), (12, True)):  # the greatest attention is at the centre, but for a pixel
        ((man, cat),) = measure(small_grounder(Centre), photos, with_boxes=False, rules=Rules(tolerance=tolerance))
        assert (man.is_hit, cat.is_hit) == (is_hit, is_hit)
    with pytest.raises(ValueError, match=r"pointing\.tolerance must be a number of pixels, at least 0, got -1"):
        Rules(tolerance=-1)


def test_nan_points_nowhere_and_bounds_nothing(tmp_path, monkeypatch):
    photos = one_photo(tmp_path, NamedObject("a man", (0, 0, 40, 30)))
    nan = torch.full((3, 4), math.nan)
    monkeypatch.setattr("eval.regions.measuring.attend_phrases", lambda attention, image, texts: [nan] * len(texts))
    ((man,),) = measure(small_grounder(Centre), photos, with_boxes=False, rules=Rules(tolerance=15, has_alphas=True))
    assert not man.is_hit
    assert man.overlaps == (0.0,) * len(ALPHAS)


def test_photos_are_squeezed_to_squares_where_that_is_wanted(tmp_path, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        "eval.regions.measuring.attend_phrases",
        lambda attention, image, texts: shapes.append(tuple(image.shape)) or [torch.ones(2, 2)],
    )
    for square in (False, True):
        list(
            measure(
                small_grounder(Centre),
                one_photo(tmp_path, NamedObject("a man", (0, 0, 40, 30))),
                with_boxes=False,
                rules=Rules(square=square),
            )
        )
    assert shapes == [(3, 30, 40), (3, 30, 30)]


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(-1, 5))
def test_the_tightest_box_holds_all_bright_pixels_and_has_one_at_each_edge(values, threshold):
    image = torch.tensor(values, dtype=torch.float32)
    bright = [(y, x) for y in range(image.shape[0]) for x in range(image.shape[1]) if image[y, x] > threshold]
    expected = [0, 0, 0, 0]
    if bright:
        rows, columns = zip(*bright, strict=True)
        expected = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
    assert bright_box(image, threshold).tolist() == expected


def test_boxes_around_attention_shrink_with_alpha():
    """A map of 8×8 with 4 in one cell, 1 in its column, 0 elsewhere; its mean is 11/64."""
    attention = torch.zeros(8, 8)
    attention[:, 2] = 1
    attention[3, 2] = 4
    column, cell = torch.tensor([[2.0, 0, 3, 8]]), torch.tensor([[2.0, 3, 3, 4]])
    found = dict(zip(ALPHAS, overlaps_by_alpha(attention, column, (8, 8)), strict=True))
    assert [found[alpha] for alpha in (0.0, 5.5, 6.0, 10.0)] == pytest.approx([1, 1, 1 / 8, 1 / 8])
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[3, 2] = True
    assert overlaps_by_alpha(attention, mask, (8, 8)) == overlaps_by_alpha(attention, cell, (8, 8))
    assert overlaps_by_alpha(attention, torch.cat([column, cell]), (8, 8)) == pytest.approx((1.0,) * len(ALPHAS))
    assert overlaps_by_alpha(None, column, (8, 8)) == (0.0,) * len(ALPHAS)


def test_alpha_is_chosen_where_the_error_is_least():
    first, second = [0.6] * 5 + [0.4] * 16, [0.4] * 3 + [0.5] * 18
    assert choose_alpha([first, second]) == 1.5  # the first of 1.5 and 2, where both are correct
    scores = score_dominant(["a", "b"], [first, second], alpha=0.0, chosen_on=7)
    assert (scores.error.share, scores.chosen_on) == (0.5, 7)
    assert scores.error.interval == (0, 1)
    assert (scores.errors["0"], scores.errors["1.5"], scores.errors["10"]) == (0.5, 0, 0.5)
    with pytest.raises(ValueError, match=r"dominant\.alpha=chosen needs dominant\.held_out=LIST"):
        Plan(Rules(), alpha="chosen")
    with pytest.raises(ValueError, match=r"dominant\.alpha must be chosen, or 0, 0\.5, … or 10, got 0\.7"):
        Plan(Rules(), alpha=0.7)


def test_a_list_of_photos_held_out_has_some_of_them(tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_text("b.jpg\nc\n")
    assert read_held_out(str(path), ["a.jpg", "b.jpg", "c.jpg"]) == {"b.jpg", "c.jpg"}
    for names in (["a.jpg"], ["b.jpg"]):
        with pytest.raises(ValueError, match=r"expected some of the 1 photos, found (none|1) of them"):
            read_held_out(str(path), names)
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read"):
        read_held_out(str(tmp_path / "none.txt"), ["a.jpg"])


@pytest.fixture
def table(tmp_path):
    """Three photos of VOC's table, two of them of one object."""
    for name in "abc":
        write_photo(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "boxes.csv").write_text(
        "image,width,height,class,xmin,ymin,xmax,ymax,difficult\n"
        "a.jpg,40,30,cat,1,1,40,30,0\nb.jpg,40,30,dog,30,1,40,9,0\n"
        "c.jpg,40,30,cat,1,1,40,30,0\nc.jpg,40,30,dog,1,1,3,3,0\n"
    )
    return tmp_path


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command's body with a small classifier; the result that it saved."""
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: small_classifier())

    def run(*words):
        settings = composed(*quote_free_text([*words, f"output={tmp_path / 'out'}"]), config="regions")
        choices = {"data": "voc_animals", "model": "checkpoint", "attention": "cmwp", "proposals": None}
        assert evaluate(settings, choices, words, tmp_path)
        (result,) = read_region_results(tmp_path / "out")
        return result

    return run


def test_the_pointing_game_scores_all_and_difficult_pairs(command, table, capsys):
    (table / "list.txt").write_text("\n".join(f"{name}{'	1' * 20}" for name in "abc"))
    words = ("experiment=pointing_game", "data=voc_animals", f"data.path={table}")
    result = command(*words)
    assert (result.manifest.data.pairs, result.pointing.tolerance, result.dominant) == (4, 15, None)
    assert {name: scores.pairs for name, scores in result.difficult.names.items()} == {"dog": 1}
    assert result.pointing.names["cat"].accuracy == 1.0
    assert "difficult pairs, pointing" in capsys.readouterr().out
    (table / "out").rename(table / "first")
    result = command(*words, f"pointing.difficult={table / 'list.txt'}")
    assert result.difficult.accuracy.share == result.pointing.accuracy.share
    assert result.manifest.settings["difficult"] == "list.txt"


def test_dominant_objects_are_scored_on_photos_that_are_not_held_out(command, table, capsys):
    (table / "held_out.txt").write_text("a\n")
    words = ("experiment=dominant_objects", "data=voc_animals", f"data.path={table}")
    result = command(*words, f"dominant.held_out={table / 'held_out.txt'}")
    assert (result.manifest.data.name, result.manifest.data.pairs) == ("VOC2012 animal subset, single objects", 1)
    assert result.dominant.chosen_on == 1
    assert result.dominant.error.share == result.dominant.errors[f"{result.dominant.alpha:g}"]
    assert "localisation error" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"dominant\.alpha=chosen needs"):
        command(*words)


def example(name="c-MWP", data="COCO", *, dominant=None, tolerance=15.0):
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
        attention="cmwp",
        proposals=None,
        settings={},
    )
    difficult = replace(pointing, name_mean=measured(0.6), centre_name_mean=0.2)
    return RegionResult(name=name, manifest=manifest, pointing=pointing, difficult=difficult, dominant=dominant)


def test_the_page_has_the_game_and_dominant_objects_beside_what_was_published():
    errors = {f"{alpha:g}": 0.5 for alpha in ALPHAS}
    dominant = DominantObjects(alpha=1.5, chosen_on=33, error=measured(0.4), errors=errors)
    results = [example(), example("MWP", "VOC"), example("MWP", "singles", dominant=dominant), example(tolerance=0.0)]
    game, objects = pointing_game(results[:2]), dominant_objects(results[2:3])
    assert "lies less than 15 pixels from" in game
    assert "| c-MWP | 70.0 (68.0–72.0) | 60.0 (58.0–62.0) | – | – |" in game
    assert "| the photo's centre | 30.0 | 20.0 | 30.0 | 20.0 |" in game
    assert "| c-MWP | 78.7/61.7 | 80.0/66.8 | 85.1/72.3 | 89.2/81.3 |" in game
    assert "| extremal perturbation | 88.0/76.1 | – | 51.5/45.9 | – |" in game
    assert "| MWP | singles | 4 | 1.5 | 33 | 40.0 (38.0–42.0) |" in objects
    assert "| Feedback Net (Cao et al. 2015, from their paper) | – | 38.8 |" in objects
    page = results_page([], results)
    assert [page.count(title) for title in ("## Other photos", "## Pointing game", "## Dominant objects")] == [1, 1, 1]
    with pytest.raises(ValueError, match="2 results of c-MWP on COCO"):
        pointing_game([example(), example()])
