"""Networks for the pointing game: tags of photos with objects, and the way from there to pointing."""

import json

import pytest
import torch
from command_settings import composed
from object_photos import write_coco, write_voc, write_xml

from eval.predicting import known_words
from eval.regions.__main__ import evaluate
from eval.regions.result import read_region_results
from grounding.categories import category_phrases
from grounding.checkpoint import load_checkpoint
from grounding.images import load_image
from grounding.quoting import quote_free_text
from grounding.vocabulary import Vocabulary
from train.__main__ import train
from train.objects import read_coco_tags, read_voc_tags
from train.vocabulary import build_vocabulary

VOC, COCO = (tuple(category_phrases(data)) for data in ("voc", "coco"))
SMALL = ("batch_size=4", "crop=64", "resize=[64,72]", "views=2", "workers=0", "epochs=20", "stop_at_plateau=null")


def thing(category, *, is_difficult=0):
    return (category, is_difficult, 1, 1, 30, 20)


def read_tags(data, folder, photos):
    """The tags that are read of photos, whose categories are given."""
    if data == "voc":
        write_voc(folder, [[thing(name) for name in categories] for categories in photos])
        return read_voc_tags(str(folder), "trainval")
    write_coco(folder, photos)
    return read_coco_tags(str(folder), str(folder / "instances.json"))


@pytest.mark.parametrize("lemmatise", [False, True])
@pytest.mark.parametrize(("data", "categories"), [("voc", VOC), ("coco", COCO)])
def test_every_category_asks_for_its_own_unit_alone(data, categories, lemmatise, tmp_path):
    tags = read_tags(data, tmp_path, [[category] for category in categories])
    words = build_vocabulary((photo.tags for photo in tags.photos), size=1000, least=1, lemmatise=lemmatise).words
    vocabulary = Vocabulary({word: (unit,) for unit, word in enumerate(words)}, len(words))
    phrases = category_phrases(data)
    asked = {category: known_words(phrases[category], vocabulary) for category in categories}
    assert asked == {category: photo.tags for category, photo in zip(categories, tags.photos, strict=True)}
    assert sorted(vocabulary.units[word] for (word,) in asked.values()) == [(unit,) for unit in range(len(categories))]


def test_all_objects_of_voc_are_tags_difficult_ones_too(tmp_path):
    write_voc(tmp_path, [[thing("cat"), thing("pottedplant"), thing("cat")], [thing("tvmonitor", is_difficult=1)]])
    tags = read_voc_tags(str(tmp_path), "trainval")
    assert [(photo.name, photo.tags) for photo in tags.photos] == [
        ("1.jpg", ("cat", "pot plant")),
        ("2.jpg", ("tv monitor",)),
    ]
    assert tags.path(0).is_file()


def test_a_photo_of_coco_without_objects_has_no_tag_and_an_unlisted_category_its_own_name(tmp_path):
    write_coco(tmp_path, [["mouse", "red pandas"], [], ["skis"]])
    (tmp_path / "3.png").unlink()
    tags = read_coco_tags(str(tmp_path), str(tmp_path / "instances.json"))
    assert [(photo.name, photo.tags) for photo in tags.photos] == [
        ("1.png", ("computer mouse", "red panda")),
        ("2.png", ()),
    ]
    assert tags.missing == ("3.png",)


def test_photos_of_voc_that_do_not_fit_are_named(tmp_path):
    write_voc(tmp_path, [[thing("cat")]])
    with pytest.raises(ValueError, match=r"val\.txt: No such file"):
        read_voc_tags(str(tmp_path), "val")
    annotation = tmp_path / "Annotations" / "1.xml"
    for objects, photo, message in (
        ([], None, r"1\.xml: not an annotation of its photo: it has no object"),
        ([thing("cat")], "2.jpg", r"1\.xml: not an annotation of its photo: it belongs to another photo, 2\.jpg"),
        ([thing(" ")], None, r"1\.jpg: a category without a name"),
        ([thing("of")], None, r"1\.jpg: the category 'of' has no word to ask for it by"),
    ):
        write_xml(annotation, *objects, photo=photo)
        with pytest.raises(ValueError, match=message):
            read_voc_tags(str(tmp_path), "trainval")
    write_xml(annotation, thing("cat"))
    (tmp_path / "JPEGImages" / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"trainval\.txt: none of its 1 photos is there, such as .*1\.jpg"):
        read_voc_tags(str(tmp_path), "trainval")


def test_files_that_are_not_cocos_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"instances\.json: No such file"):
        read_coco_tags(str(tmp_path), str(tmp_path / "instances.json"))
    write_coco(tmp_path, [[]])
    with pytest.raises(ValueError, match=r"instances\.json: none of its 1 photos has a tag"):
        read_coco_tags(str(tmp_path), str(tmp_path / "instances.json"))
    (tmp_path / "instances.json").write_text(json.dumps({"photos": []}))
    with pytest.raises(ValueError, match=r"instances\.json: these are not instances as COCO writes them"):
        read_coco_tags(str(tmp_path), str(tmp_path / "instances.json"))


def settings_of(config, *words):
    return composed(*quote_free_text(list(words)), config=config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "experiment", "categories"),
    [
        ("voc", "pointing_voc07", ("pottedplant", "tvmonitor", "dog")),
        ("coco", "pointing_coco", ("hot dog", "skis", "traffic light")),
    ],
)
def test_a_network_learns_categories_and_is_asked_to_point_at_each_by_its_unit(data, experiment, categories, tmp_path):
    """Every third photo has the same category, and the same colour."""
    photos, network, phrases = tmp_path / "photos", tmp_path / "network", category_phrases(data)
    tags = read_tags(data, photos, [[categories[number % 3]] for number in range(1, 19)])
    place = {"path": photos} | ({"split": "trainval"} if data == "voc" else {"annotations": photos / "instances.json"})
    words = [f"experiment={experiment}", f"data@validation=tagged_{data}", f"task.output={network}", "task.device=cpu"]
    words += [f"{part}.{name}={value}" for part in ("data", "validation") for name, value in place.items()]
    words += ["model=efficientnet_lite2_imagenet", "model.short_side=64", *(f"task.training.{word}" for word in SMALL)]
    assert train(settings_of("train", *words))

    classifier = load_checkpoint(checkpoint=network)
    assert classifier.vocabulary.size == 3
    for index in range(3):
        (word,) = known_words(phrases[categories[(index + 1) % 3]], classifier.vocabulary)
        with torch.no_grad():
            responses = classifier.network(classifier.prepare(load_image(tags.path(index)))[None])[0]
        assert classifier.vocabulary.units[word] == (int(responses.argmax()),)

    words = ["experiment=pointing_game", f"data={data}", *(f"data.{name}={value}" for name, value in place.items())]
    words += [f"model.checkpoint={network}", "model.short_side=64", f"output={tmp_path / 'results'}"]
    choices = {"data": data, "model": "checkpoint", "attention": "cmwp", "proposals": None}
    assert evaluate(settings_of("regions", *words), choices, words, tmp_path)
    (result,) = read_region_results(tmp_path / "results" / "results")
    names = result.pointing.names
    assert {name: scores.pairs for name, scores in names.items()} == {phrases[one]: 6 for one in categories}
    assert all(scores.is_known for scores in names.values())
