import json

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from grounding import Grounder
from grounding.records import Segments
from grounding.scoring import AreaExponents, enlarge, score, segment_sums

# Where we see them: boxes drawn by hand, xyxy in pixels.
SEEN = [
    ("chelsea", "a tabby cat", (0, 0, 400, 300)),
    ("coffee", "a cup of coffee", (150, 10, 450, 290)),
    ("rocket", "a rocket", (305, 125, 345, 400)),
    ("astronaut", "a space shuttle", (370, 30, 455, 280)),
]


@pytest.mark.parametrize(("photo", "caption", "box"), SEEN)
def test_the_strongest_attention_lies_on_the_thing(grounder, examples, photo, caption, box):
    (grounding,) = grounder([examples[photo]], [caption])
    phrase = grounding.phrases[0]
    y, x = divmod(int(enlarge(phrase.attention, grounding.size).argmax()), grounding.size[1])
    assert box[0] <= x < box[2]
    assert box[1] <= y < box[3]


@pytest.mark.parametrize(("photo", "caption", "box"), SEEN)
def test_one_of_the_best_boxes_is_about_right(grounder, examples, photo, caption, box):
    (grounding,) = grounder([examples[photo]], [caption])
    overlap = box_iou(grounding.phrases[0].regions.boxes, torch.tensor([box]).float())
    assert overlap.max() > 0.5


def test_segments_are_tighter_than_boxes_over_gradients(examples):
    """Shows the figures with ``-s``: mean IoU over the boxes drawn by hand, of the best of ten and of the first."""
    best = {}
    for name, chosen in {
        "EdgeBoxes, gradients": ("proposals=edge_boxes", "proposals.edges=gradient"),
        "EdgeBoxes": ("proposals=edge_boxes",),
        "MCG": ("proposals=mcg",),
    }.items():
        grounder = Grounder.load(None, *chosen)
        groundings = grounder([examples[photo] for photo, _, _ in SEEN], [caption for _, caption, _ in SEEN])
        overlaps = torch.stack(
            [
                box_iou(grounding.phrases[0].regions.boxes, torch.tensor([box]).float())[:, 0]
                for grounding, (_, _, box) in zip(groundings, SEEN, strict=True)
            ]
        )
        best[name] = overlaps.max(1).values.mean()
        each = ", ".join(
            f"{photo} {overlap:.2f}" for (photo, _, _), overlap in zip(SEEN, overlaps.amax(1), strict=True)
        )
        print(f"\n{name}: best of ten {best[name]:.3f} ({each}); first {overlaps[:, 0].mean():.3f}")
    assert best["MCG"] > best["EdgeBoxes, gradients"]


def test_segments_are_scored_by_their_outlines(grounder, examples, monkeypatch):
    superpixels = torch.arange(300)[:, None] // 100 * 3 + torch.arange(450) // 150  # nine fields of a smaller copy
    members = (torch.tensor([0, 1, 3, 12]), torch.tensor([4, 0, 1, *range(9)]))
    boxes = torch.tensor([[200.0, 133.0, 400.0, 267.0], [0.0, 0.0, 400.0, 133.0], [0.0, 0.0, 600.0, 400.0]])
    segments = Segments(boxes, torch.ones(3), superpixels, members)
    monkeypatch.setattr(grounder, "propose", lambda image: segments)
    (grounding,) = grounder([examples["coffee"]], ["A cup"])
    phrase = grounding.phrases[0]
    inside, area = segment_sums(enlarge(phrase.attention, (300, 450)), superpixels, *members)
    expected = score(inside, area, area_exponent=grounder.scoring.area_exponents.segments)
    torch.testing.assert_close(phrase.regions.scores, expected.sort(descending=True).values)
    assert torch.equal(phrase.regions.boxes, boxes[expected.argsort(descending=True)])


def test_several_captions_and_photos_at_once_equal_one_at_a_time(grounder, examples):
    photos = [examples["coffee"], examples["chelsea"], examples["coffee"][:, ::-1].copy()]
    captions = [["A cup on a table.", "A spoon"], "A cat", "A cup"]
    together = grounder(photos, captions)
    for photo, caption, grounding in zip(photos, captions, together, strict=True):
        (alone,) = grounder([photo], [caption])
        for first, second in zip(grounding.phrases, alone.phrases, strict=True):
            torch.testing.assert_close(first.attention, second.attention, atol=1e-6, rtol=1e-3)
            assert first.text == second.text
    assert [(p.caption, p.text) for p in together[0].phrases] == [(0, "A cup"), (0, "a table"), (1, "A spoon")]
    for phrase in together[0].phrases:
        assert together[0].captions[phrase.caption][slice(*phrase.span)] == phrase.text


def test_regions_are_best_first_within_the_photo_and_as_many_as_asked(grounder, examples):
    (grounding,) = grounder([examples["coffee"]], ["A cup and a spoon"])
    for phrase in grounding.phrases:
        regions = phrase.regions
        assert 1 <= len(regions) <= 10
        assert (regions.scores.diff() <= 0).all()
        assert (regions.boxes[:, :2] >= 0).all()
        assert (regions.boxes[:, 2] <= 600).all()
        assert (regions.boxes[:, 3] <= 400).all()
        assert phrase.attention.dtype == torch.float32
        assert (phrase.attention >= 0).all()


def test_a_phrase_of_unknown_words_has_the_proposals_own_order(grounder, examples):
    (grounding,) = grounder([examples["coffee"]], ["An ineffable quiddity beside a cup"])
    unknown, cup = grounding.phrases
    assert unknown.words == ()
    assert unknown.skipped_words == ("ineffable", "quiddity")
    assert unknown.attention is None
    assert not unknown.is_attended
    own = grounder.propose(examples["coffee"])
    assert torch.equal(unknown.regions.boxes[0], own.boxes[0])
    assert cup.is_attended


def test_phrases_skip_the_parser(grounder, examples):
    (grounding,) = grounder([examples["coffee"]], phrases=[["cup", "the ineffable spoon"]])
    assert [phrase.text for phrase in grounding.phrases] == ["cup", "the ineffable spoon"]
    assert grounding.phrases[1].words == ("spoon",)
    assert grounding.phrases[1].span == (0, 19)


def test_the_result_is_plain_values(grounder, examples):
    (grounding,) = grounder([examples["chelsea"]], ["A cat beside an ineffable quiddity"])
    values = json.loads(json.dumps(grounding.to_dict(), allow_nan=False))
    assert values["size"] == [300, 451]
    assert values["phrases"][0]["ranked_by"] == "attention"
    assert values["phrases"][1]["ranked_by"] == "proposals"
    assert len(values["phrases"][0]["boxes"]) == len(values["phrases"][0]["scores"])


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3, 3), (40, 2000)])
def test_odd_sizes_are_grounded(grounder, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (grounding,) = grounder([pixels], ["A cat"])
    assert len(grounding.phrases[0].regions) >= 1
    assert (grounding.phrases[0].regions.boxes >= 0).all()


def test_a_photo_without_edges_has_itself_as_region(grounder):
    (grounding,) = grounder([np.zeros((60, 80, 3), np.uint8)], ["A cat"])
    assert grounding.phrases[0].regions.boxes.tolist() == [[0, 0, 80, 60]]


def test_a_caption_without_noun_has_no_phrases(grounder, examples):
    (grounding,) = grounder([examples["chelsea"]], ["Yes."])
    assert grounding.phrases == ()


def test_no_photos_give_no_groundings(grounder):
    assert grounder([], []) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.zeros((9, 9, 3), np.uint8)], []), "1 images, but captions or phrases for 0"),
        (([np.zeros((9, 9, 3), np.uint8)], [""]), "the caption is empty"),
        (([np.zeros((9, 9, 3), np.uint8)], [[]]), "no caption for the image"),
        (([np.zeros((9, 9, 3), np.uint8)],), "captions or phrases, one of the two"),
        (("photo.jpg", "A cat"), "are lists"),
        ((["nowhere.jpg"], ["A cat"]), r"nowhere\.jpg: no such file"),
    ],
)
def test_bad_input_is_refused_with_what_would_be_right(grounder, arguments, message):
    with pytest.raises(ValueError, match=message):
        grounder(*arguments)


def test_every_attention_brings_its_own_scoring():
    default, paper = Grounder.load(), Grounder.load(None, "attention=cmwp")
    assert default.scoring.clothing_weight > 0
    assert paper.scoring.clothing_weight == 0
    assert default.scoring.area_exponents != paper.scoring.area_exponents
    given = Grounder.load(None, "attention=cmwp", "scoring.area_exponent=0.5", "scoring.clothing_weight=0.5").scoring
    assert (given.area_exponents, given.clothing_weight) == (AreaExponents(0.5, 0.5), 0.5)


def test_settings_are_those_of_the_command_line():
    grounder = Grounder.load(None, "attention=mwp", "scoring.area_exponent=0.25", "proposals.count=7")
    assert not grounder.attention.method.contrastive
    assert grounder.scoring.area_exponents == AreaExponents(0.25, 0.25)
    assert grounder.propose.count == 7


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("nonet", (), "nonet"),
        (None, ("scoring.count=0",), "at least 1"),
        (None, ("scoring.clothing_weight=-1",), "from 0 to 10"),
        (None, ("scoring.area_exponent={segments: 0.5}",), "one each for segments and boxes"),
        (None, ("scoring.area_exponent=some",), "area_exponent must be from 0 to 10"),
        (None, ("model.short_side=0",), "short_side"),
        (None, ("model.window=2.5",), "window"),
        (None, ("proposals.count=abc",), "count must be"),
        (None, ("scoring.area_exponent=nan",), "area_exponent"),
        ("torchvision", (), "model.name|Missing"),
        (None, ("scoring.overlap=7",), "from 0 to 1"),
        (None, ("attention.signed=maybe",), "signed must be one of"),
        (None, ("model.layer=nowhere",), "no layer 'nowhere'"),
        (None, ("device=abacus",), "abacus"),
        (None, ("scoring.cuont=3",), "cuont"),
    ],
)
def test_settings_that_make_no_sense_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        Grounder.load(model, *settings)
