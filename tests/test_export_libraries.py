"""Round trips through the libraries that exports are for: out of groundings, and back by the library's own reader.

Those that need more than the dev extra are slow: the exports extra, and export_libraries.txt beside this file.
"""

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow
import pytest
import torch
from exported import CAPTIONS, NAMES, SIZE, groundings, rows
from PIL import Image
from pyarrow import parquet

from grounding.batch.parts import as_columns, schema
from grounding.export import (
    label_studio_config,
    to_coco,
    to_fiftyone,
    to_grit,
    to_label_studio,
    to_mdetr,
    to_odvg,
    to_supervision,
)
from grounding.export.photos import read_photos, to_xywh

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

OPTIONS = {"count": 2, "guesses": True}


def library(name, install):
    return pytest.importorskip(name, reason=f"needs {name}: {install}")


def expected(results=None, names=NAMES):
    """For each photo, its exported phrases with their regions, read from the groundings themselves."""
    return [photo.objects() for photo in read_photos(results or groundings(), names, **OPTIONS) if not photo.error]


def with_photos(folder):
    """The paths of two photos of the right size, with odd names."""
    paths = [folder / name.replace("/", "_") for name in NAMES]
    for path in paths:
        Image.new("RGB", SIZE[::-1], "tan").save(path)
    return paths


def test_pycocotools_evaluates_results_as_perfect_against_themselves():
    mask = library("pycocotools.mask", 'pip install "phrase-grounding[dev]"')
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    exported = json.loads(json.dumps(vars(to_coco(groundings()[:1], NAMES[:1], **OPTIONS))))
    truth = COCO()
    truth.dataset = {
        **{name: exported[name] for name in ("images", "categories")},
        "annotations": [
            {**result, "id": number, "iscrowd": 0, "area": int(mask.area(result["segmentation"]))}
            for number, result in enumerate(exported["results"], 1)
        ],
    }
    truth.createIndex()
    found = truth.loadRes(exported["results"])
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == 1.0
    names = {one["id"]: one["name"] for one in found.loadCats(found.getCatIds())}
    for annotation, (phrase, region) in zip(found.loadAnns(found.getAnnIds()), expected()[0], strict=True):
        assert names[annotation["category_id"]] == phrase.label
        assert (tuple(annotation["bbox"]), annotation["score"]) == (to_xywh(region.box), region.score)
        assert torch.equal(torch.from_numpy(found.annToMask(annotation)).bool(), region.mask(SIZE))


def test_pycocotools_reads_the_results_of_rows():
    library("pycocotools", 'pip install "phrase-grounding[dev]"')
    from pycocotools.coco import COCO

    exported = to_coco(rows(), **OPTIONS)
    dataset = COCO()
    dataset.dataset = exported.dataset()
    dataset.createIndex()
    found = dataset.loadRes(exported.results)
    assert sorted(found.getImgIds()) == [7, 8]
    assert len(found.getAnnIds(imgIds=[7])) == len(expected()[0])


@pytest.mark.slow
def test_supervision_has_boxes_masks_labels_and_scores_and_draws_them():
    sv = library("supervision", 'pip install "phrase-grounding[exports]"')
    outlined, boxed, failed = to_supervision([*groundings(), ValueError("broken")], [*NAMES, "broken.jpg"], **OPTIONS)
    for detections, objects in zip((outlined, boxed), expected(), strict=True):
        assert detections.xyxy.tolist() == [pytest.approx(region.box) for _, region in objects]
        assert detections.confidence.tolist() == pytest.approx([region.score for _, region in objects])
        assert detections["class_name"].tolist() == [phrase.label for phrase, _ in objects]
        assert detections["ranked_by"].tolist() == [phrase.ranked_by for phrase, _ in objects]
    for mask, (_, region) in zip(outlined.mask, expected()[0], strict=True):
        assert torch.equal(torch.from_numpy(mask), region.mask(SIZE))
    assert boxed.mask is None
    assert len(failed) == 0
    assert outlined[outlined.confidence > 0.6].mask.shape == (2, *SIZE)
    assert len(sv.Detections.merge([boxed, boxed, failed])) == 2 * len(boxed)
    ids = {
        name: number for one in (outlined, boxed) for name, number in zip(one["class_name"], one.class_id, strict=True)
    }
    assert sorted(ids.values()) == list(range(len(ids)))
    photo = np.zeros((*SIZE, 3), np.uint8)
    for annotator in (sv.BoxAnnotator(), sv.MaskAnnotator(), sv.LabelAnnotator()):
        assert annotator.annotate(photo.copy(), outlined).any()


@pytest.mark.slow
def test_label_studio_takes_the_tasks_and_converts_them_back(tmp_path):
    library("label_studio_sdk", "pip install --no-deps -r tests/export_libraries.txt")
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    tasks = json.loads(json.dumps(to_label_studio(groundings(), NAMES, **OPTIONS)))
    config = label_studio_config(tasks)
    interface = LabelInterface(config)
    interface.validate()
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
    for number, task in enumerate(tasks, 1):  # as people leave them who correct nothing
        (prediction,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"], "was_cancelled": False}]}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    Converter(config, str(tmp_path), download_resources=False).convert_to_coco(
        str(tmp_path / "tasks.json"), str(tmp_path / "coco"), output_image_dir=str(tmp_path), is_dir=False
    )
    converted = json.loads((tmp_path / "coco" / "result.json").read_text("utf-8"))
    names = {one["id"]: one["name"] for one in converted["categories"]}
    objects = [pair for photo in expected() for pair in photo]
    for annotation, (phrase, region) in zip(converted["annotations"], objects, strict=True):
        assert annotation["bbox"] == pytest.approx(to_xywh(region.box), abs=1e-6)
        assert names[annotation["category_id"]] == phrase.label


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory):
    """FiftyOne, whose database is in a folder of its own."""
    os.environ["FIFTYONE_DATABASE_DIR"] = str(tmp_path_factory.mktemp("database"))
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    os.environ["FIFTYONE_DATABASE_VALIDATION"] = "0"
    return library("fiftyone", "pip install --no-deps -r tests/export_libraries.txt")


@pytest.mark.slow
def test_fiftyone_restores_whole_masks_from_those_that_are_cropped(fiftyone, tmp_path):
    paths = with_photos(tmp_path)
    samples = to_fiftyone([*groundings(), ValueError("broken")], [*paths, "broken.jpg"], **OPTIONS)
    assert [sample.filepath for sample in samples] == [str(path) for path in paths]
    for sample, objects in zip(samples, expected(), strict=True):
        assert sample.captions == list(CAPTIONS)
        for detection, (phrase, region) in zip(sample.phrases.detections, objects, strict=True):
            left, top, width, height = detection.bounding_box
            box = [left * SIZE[1], top * SIZE[0], (left + width) * SIZE[1], (top + height) * SIZE[0]]
            assert box == pytest.approx(region.box, abs=1e-9)
            assert (detection.label, detection.confidence) == (phrase.label, region.score)
            if (mask := region.mask(SIZE)) is None:
                assert detection.mask is None
                continue
            x1, y1, x2, y2 = map(int, region.box)
            assert np.array_equal(detection.mask, mask[y1:y2, x1:x2].numpy())
            restored = torch.from_numpy(detection.to_segmentation(frame_size=SIZE[::-1]).mask) > 0
            # FiftyOne cuts its relative edges down to whole pixels, so that a box may lose one of them.
            assert (restored & mask).sum() / (restored | mask).sum() > 0.9
        attention = [phrase.attention for phrase in groundings()[0].phrases if phrase.attention is not None]
        for number, expected_map in enumerate(attention, 1):
            heat_map = sample[f"attention_{number}"]
            assert np.array_equal(heat_map.map, expected_map.numpy())
            assert heat_map.range == [0.0, float(expected_map.max())]
    assert "attention_1" not in to_fiftyone(rows(), [*paths, "broken.jpg"])[0].field_names


@pytest.mark.slow
def test_fiftyone_keeps_samples_and_coco_results_in_its_database(fiftyone, tmp_path):
    from fiftyone.utils.coco import add_coco_labels

    paths = with_photos(tmp_path)
    try:
        dataset = fiftyone.Dataset()
    except Exception as error:  # of many types, where there is no mongod that runs here
        pytest.skip(f"FiftyOne has no database here: {error}")
    dataset.add_samples(to_fiftyone(groundings(), paths, **OPTIONS))
    exported = to_coco(groundings(), paths, **OPTIONS)
    ids = {image["file_name"]: image["id"] for image in exported.images}
    for sample in dataset:
        sample["coco_id"] = ids[sample.filepath]
        sample.save()
    for field, kind in (("coco", "detections"), ("outlines", "segmentations")):
        add_coco_labels(dataset, field, exported.results, exported.categories, kind, coco_id_field="coco_id")
    for sample, objects in zip(dataset, expected(), strict=True):
        assert [one.label for one in sample.phrases.detections] == [phrase.label for phrase, _ in objects]
        for ours, theirs in zip(sample.phrases.detections, sample.coco.detections, strict=True):
            assert (ours.label, ours.confidence) == (theirs.label, theirs.confidence)
            assert theirs.bounding_box == pytest.approx(ours.bounding_box)
    outlined = dataset.first()
    for ours, theirs in zip(outlined.phrases.detections, outlined.outlines.detections, strict=True):
        assert np.array_equal(ours.mask, theirs.mask)


@pytest.mark.slow
def test_torchvision_reads_what_mdetr_reads_through_it(tmp_path):
    library("pycocotools", 'pip install "phrase-grounding[dev]"')
    from torchvision.datasets import CocoDetection

    paths = with_photos(tmp_path)
    (tmp_path / "mdetr.json").write_text(json.dumps(to_mdetr(groundings(), paths, **OPTIONS)), encoding="utf-8")
    dataset = CocoDetection(str(tmp_path), str(tmp_path / "mdetr.json"))
    assert len(dataset) == 4  # two photos with two captions each
    found = []
    for number, image_id in enumerate(dataset.ids):
        picture, targets = dataset[number]
        (image,) = dataset.coco.loadImgs(image_id)
        assert picture.size == (image["width"], image["height"]) == SIZE[::-1]
        assert (image["caption"], image["original_img_id"]) == (CAPTIONS[image["sentence_id"]], 1 + number // 2)
        for target in targets:
            ((start, end),) = target["tokens_positive"]
            mask = dataset.coco.annToMask(target) if "segmentation" in target else None
            found.append((image["caption"][start:end], tuple(target["bbox"]), mask))
    objects = [pair for photo in expected() for pair in photo]
    for (text, box, mask), (phrase, region) in zip(found, objects, strict=True):
        assert (text, box) == (phrase.text, to_xywh(region.box))
        outline = region.mask(SIZE)
        assert (mask is None) == (outline is None)
        assert outline is None or torch.equal(torch.from_numpy(mask).bool(), outline)


@pytest.mark.slow
def test_the_spans_of_mdetr_find_the_tokens_of_a_fast_tokenizer():
    """MDETR and Grounding DINO look up the first and the last character of a span as below."""
    tokenizers = library("tokenizers", 'pip install "phrase-grounding[exports]"')
    words = {word for caption in CAPTIONS for word in caption.replace('"', ' " ').replace(",", " , ").split()}
    vocabulary = {word: number for number, word in enumerate(sorted(words))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=","))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    exported = to_mdetr(groundings(), NAMES, **OPTIONS)
    captions = {image["id"]: image["caption"] for image in exported["images"]}
    for annotation in exported["annotations"]:
        caption = captions[annotation["image_id"]]
        ((start, end),) = annotation["tokens_positive"]
        encoded = tokenizer.encode(caption)
        first, last = encoded.char_to_token(start), encoded.char_to_token(end - 1)
        assert caption[start:end].split() == encoded.tokens[first : last + 1]


@pytest.fixture
def odvg_dataset(monkeypatch):
    """The loader of mmdetection. Its compiled operations, which it imports but does not call, are left out."""
    library("mmdet", "pip install --no-deps -r tests/export_libraries.txt")

    class NoOperations(ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return None

    monkeypatch.setitem(sys.modules, "mmcv._ext", NoOperations("mmcv._ext"))
    from mmdet.datasets.odvg import ODVGDataset

    return ODVGDataset


@pytest.mark.slow
@pytest.mark.parametrize("results", [groundings(), rows()], ids=["groundings", "rows"])
def test_mmdetection_loads_odvg(odvg_dataset, tmp_path, results):
    entries = to_odvg(results, None if len(results) == 3 else NAMES, **OPTIONS)
    path = tmp_path / "odvg.jsonl"
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8")
    dataset = odvg_dataset(ann_file=str(path), data_prefix={"img": ""}, pipeline=[], return_classes=True)
    assert len(dataset) == 4
    found = []
    for number in range(len(dataset)):
        values = dataset.get_data_info(number)
        assert (values["height"], values["width"]) == SIZE
        assert (values["img_path"], values["text"]) == (NAMES[number // 2], CAPTIONS[number % 2])
        for instance in values["instances"]:
            phrase = values["phrases"][instance["bbox_label"]]
            ((start, end),) = phrase["tokens_positive"]
            assert values["text"][start:end] == phrase["phrase"]
            found.append((phrase["phrase"], tuple(instance["bbox"])))
    assert found == [(phrase.text, region.box) for photo in expected() for phrase, region in photo]


@pytest.mark.slow
def test_kosmos_2_writes_and_reads_the_noun_chunks_of_grit():
    """The processor's text with places, and its reader back; both know places to 1/32 of the photo."""
    library("transformers", 'pip install "phrase-grounding[exports]"')
    from transformers.models.kosmos2.processing_kosmos2 import (
        Kosmos2Processor,
        clean_text_and_extract_entities_with_bboxes,
    )

    processor = Kosmos2Processor.__new__(Kosmos2Processor)  # its tokenizer is a file that is not here
    processor.boi_token, processor.eoi_token, processor.num_patch_index_tokens = "<image>", "</image>", 32 * 32
    for entry in to_grit(groundings(), NAMES, guesses=True):
        text, chunks = entry["caption"], sorted(entry["noun_chunks"], reverse=True)
        for start, end, *_ in chunks:  # from the last, so that the characters before it stay where they are
            text = f"{text[:start]}<phrase>{text[start:end]}</phrase>{text[end:]}"
        boxes = [tuple(chunk[2:6]) for chunk in reversed(chunks)]
        encoded = processor.preprocess_examples(text, bboxes=boxes, num_image_tokens=0)
        as_decoded = re.sub(r"\s*(</?object>|<patch_index_\d+>)", r"\1", encoded)  # its tokens take no space
        caption, entities = clean_text_and_extract_entities_with_bboxes(as_decoded)
        assert caption == entry["caption"]
        for (phrase, span, (box,)), (start, end, x1, y1, x2, y2, _) in zip(entities, reversed(chunks), strict=True):
            assert (phrase, span) == (caption[start:end], (start, end))
            assert box == pytest.approx((x1, y1, x2, y2), abs=1 / 32)


@pytest.mark.slow
def test_grit_has_the_columns_of_its_card_in_arrow():
    """Written from the card of the data set, since no library reads it: numbers from 0 to 1, of a list in a list."""
    datasets = library("datasets", 'pip install "phrase-grounding[archives]"')
    table = datasets.Dataset.from_list(json.loads(json.dumps(to_grit(groundings(), NAMES, **OPTIONS))))
    (chunks, _, _, _) = table["noun_chunks"]
    assert np.array(chunks).shape == (4, 7)
    assert all(0 <= edge <= 1 for chunk in chunks for edge in chunk[2:6])


def test_a_library_that_is_missing_is_named(monkeypatch):
    for name, export in (("supervision", to_supervision), ("fiftyone", to_fiftyone)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=f"pip install {name}"):
            export(groundings(), NAMES)


@pytest.mark.slow
def test_the_examples_of_the_page_run(fiftyone, monkeypatch, tmp_path, examples, grounder):
    for name in ("pycocotools", "supervision"):
        library(name, 'pip install "phrase-grounding[dev,exports]"')
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grounding.pipeline.Grounder.load", lambda: grounder)
    for name, file in (("chelsea", "cat.jpg"), ("coffee", "cup.jpg")):
        Image.fromarray(examples[name]).resize((240, 180)).save(file)
    table = pyarrow.Table.from_pylist(list(map(as_columns, rows())), schema=schema(has_text_ids=False))
    parquet.write_table(table, "regions.parquet")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    assert names["detections"].xyxy.shape == (2, 4)
    assert len(names["entries"]) == 2
    assert len(names["results"].getAnnIds()) == 3
    assert (tmp_path / "saved" / "cat" / "manifest.json").exists()
