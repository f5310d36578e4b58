"""The call of transformers' zero-shot object detection, and the real pipeline beside it."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_flickr30k import WORDS, propose_boxes, small_classifier

from grounding import Grounder
from grounding.attention import ExcitationBackprop
from grounding.maps import WordAttention
from grounding.presence import Presence
from grounding.probability import EVIDENCE, Calibrated, Calibration, Weights
from grounding.scoring import AreaExponents, Scoring


def weights(**given):
    return Weights(-1.0, dict.fromkeys(EVIDENCE, 0.0) | given)


@pytest.fixture(scope="module")
def small():
    attention = WordAttention(small_classifier(), ExcitationBackprop, device="cpu")
    calibration = Calibration({}, {}, weights(inside=2.0, known=1.0), weights(presence=3.0))
    calibrated = Calibrated(calibration, Presence(attention.classifier, attention.device))
    return Grounder(attention, propose_boxes, Scoring(AreaExponents(0.3, 0.3)), calibrated)


@pytest.fixture(scope="module")
def photos(examples):
    return [examples["coffee"], Image.fromarray(examples["chelsea"]).resize((90, 60))]


def test_labels_are_answered_as_phrases_are(small, photos):
    labels = ["a man", "a dog", "a suit"]
    answers = small(photos[0], candidate_labels=labels, threshold=0.0)
    (grounding,) = small([photos[0]], phrases=[labels])
    expected = {phrase.text: phrase for phrase in grounding.phrases}
    scores = {label: phrase.presence * phrase.probability for label, phrase in expected.items()}
    assert [answer["label"] for answer in answers] == sorted(labels, key=lambda label: -scores[label])
    for answer in answers:
        phrase = expected[answer["label"]]
        assert answer["score"] == scores[answer["label"]]
        assert list(answer["box"].values()) == [round(edge) for edge in phrase.regions.boxes[0].tolist()]


def test_one_photo_has_a_list_and_several_a_list_of_lists(small, photos):
    together = small(photos, candidate_labels=["a man", "a cat"], threshold=0.0)
    assert together == [small(photo, candidate_labels=["a man", "a cat"], threshold=0.0) for photo in photos]
    assert small([photos[0]], candidate_labels="a man", threshold=0.0) == [
        small(photos[0], candidate_labels=["a man"], threshold=0.0)
    ]


def test_each_photo_may_have_labels_of_its_own(small, photos):
    first, second = small(photos, candidate_labels=[["a man"], ["a cat", "a dog"]], threshold=0.0)
    assert [answer["label"] for answer in first] == ["a man"]
    assert {answer["label"] for answer in second} == {"a cat", "a dog"}


def test_commas_divide_labels_in_a_text(small, photos):
    listed = small(photos[0], candidate_labels=["a man", "a cat"], threshold=0.0)
    assert small(photos[0], candidate_labels="a man, a cat", threshold=0.0) == listed


def test_threshold_and_top_k_keep_the_best(small, photos):
    answers = small(photos[0], candidate_labels=list(WORDS), threshold=0.0)
    scores = [answer["score"] for answer in answers]
    assert len(answers) == len(WORDS)
    assert scores == sorted(scores, reverse=True)
    assert small(photos[0], candidate_labels=list(WORDS), threshold=scores[2]) == answers[:3]
    assert small(photos[0], candidate_labels=list(WORDS), threshold=0.0, top_k=2) == answers[:2]
    assert small(photos[0], candidate_labels=list(WORDS), threshold=1.0) == []


def test_a_bare_label_is_a_thing(small, photos):
    bare, whole = (small(photos[0], candidate_labels=[label], threshold=0.0) for label in ("suit", "a suit"))
    assert [answer["box"] for answer in bare] == [answer["box"] for answer in whole]


@pytest.mark.parametrize("option", [{"threshold": 0.5}, {"top_k": 3}])
def test_options_of_labels_without_labels_are_refused(small, photos, option):
    with pytest.raises(ValueError, match="threshold and top_k are for candidate_labels"):
        small(photos[:1], ["a man"], **option)


def test_a_label_that_is_given_twice_is_answered_twice(small, photos):
    once = small(photos[0], candidate_labels=["a dog"], threshold=0.0)
    assert small(photos[0], candidate_labels=["a dog", "a dog"], threshold=0.0) == once * 2


@pytest.mark.slow
def test_five_hundred_labels(small, photos):
    labels = [f"{word} {number}" for number in range(100) for word in WORDS[:5]]
    answers = small(photos[1], candidate_labels=labels, threshold=0.0)
    assert {answer["label"] for answer in answers} == set(labels)
    assert all(0 <= answer["score"] <= 1 for answer in answers)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "no candidate_labels"),
        (["a dog", 7], {}, "texts that are not empty, got 7"),
        (["a dog", " "], {}, "not empty, got ' '"),
        ("a dog,", {}, "not empty, got ''"),
        (7, {}, "a list of texts, got int"),
        ([["a dog"]], {}, r"texts that are not empty, got \['a dog'\]"),  # lists of lists are for lists of photos
        (["a dog"], {"threshold": 30}, "from 0 to 1, got 30"),
        (["a dog"], {"threshold": float("nan")}, "from 0 to 1, got nan"),
        (["a dog"], {"top_k": 0}, "top_k is a number of answers"),
    ],
)
def test_wrong_labels_are_refused(small, photos, labels, options, message):
    with pytest.raises(ValueError, match=message):
        small(photos[0], candidate_labels=labels, **options)


def test_lists_of_labels_must_be_as_many_as_photos(small, photos):
    with pytest.raises(ValueError, match="2 images, but lists of candidate_labels for 1"):
        small(photos, candidate_labels=[["a dog"]])
    assert small([], candidate_labels=["a dog"]) == []


def test_labels_need_a_calibration_and_no_captions(small, photos):
    uncalibrated = Grounder(small.attention, small.propose, small.scoring)
    with pytest.raises(ValueError, match="give phrases instead of candidate_labels"):
        uncalibrated(photos[0], candidate_labels=["a dog"])
    with pytest.raises(ValueError, match="one of the three"):
        small(photos, ["A dog", "A dog"], candidate_labels=["a dog"])


@pytest.mark.slow
def test_the_form_is_that_of_the_real_pipeline(small):
    """The real pipeline with a small OWL-ViT of random weights and our grounder answer in the same form."""
    pytest.importorskip("transformers", reason="needs the exports extra: pip install -e '.[exports]'")
    detector = small_owl_vit()
    photo = Image.fromarray(np.full((40, 60, 3), 128, np.uint8))
    for images, labels in (
        (photo, ["a cup", "a spoon"]),
        ([photo, photo], ["a cup", "a spoon"]),
        ([photo, photo], [["a cup"], ["a spoon", "a cup"]]),
        (photo, "a cup,a spoon"),
        (photo, ["a cup", "a cup"]),
    ):
        theirs = detector(images, candidate_labels=labels, threshold=0.0, top_k=2)
        ours = small(images, candidate_labels=labels, threshold=0.0, top_k=2)
        assert form(ours) == form(theirs)
    assert small(photo, candidate_labels=["a cup"], threshold=1.0) == detector(
        photo, candidate_labels=["a cup"], threshold=1.0
    )


def form(answers):
    """The types of all values, without the number of answers: detectors find several boxes for a label."""
    if isinstance(answers, list):
        return [form(answer) for answer in answers][: None if isinstance(answers[0], list) else 1]
    return {name: form(value) if isinstance(value, dict) else type(value) for name, value in answers.items()}


def small_owl_vit():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, PreTrainedTokenizerFast
    from transformers.pipelines import ZeroShotObjectDetectionPipeline

    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "a": 2, "cup": 3, "spoon": 4}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = OwlViTConfig(
        text_config={"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **size},
        vision_config={"image_size": 32, "patch_size": 16, **size},
        projection_dim=16,
    )
    sides = {"height": 32, "width": 32}
    return ZeroShotObjectDetectionPipeline(
        model=OwlViTForObjectDetection(config).eval(),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<pad>"),
        image_processor=OwlViTImageProcessor(size=sides, crop_size=sides),
    )
