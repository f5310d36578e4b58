import json
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from grounding import Grounder
from grounding.config import compose_grounder
from grounding.records import Regions, Segments
from grounding.scoring import AreaExponents, enlarge, rank_regions, score, segment_sums
from proposals import EdgeBoxes

# Boxes drawn by hand around what each caption of `example_groundings` names first, xyxy in pixels.
DRAWN = [
    ("chelsea", (0, 0, 400, 300)),
    ("coffee", (150, 10, 450, 290)),
    ("rocket", (305, 125, 345, 400)),
    ("astronaut", (370, 30, 455, 280)),
]


def fixed(image):
    """Proposals that need no computing."""
    height, width = image.shape[-2:]
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], [0.2, 0.3, 0.6, 0.8]])
    return Regions(boxes * torch.tensor([width, height, width, height]), torch.linspace(1, 0.2, 5))


@pytest.mark.parametrize(("photo", "box"), DRAWN)
def test_the_strongest_attention_lies_on_the_thing(example_groundings, photo, box):
    grounding = example_groundings[photo]
    y, x = divmod(int(enlarge(grounding.phrases[0].attention, grounding.size).argmax()), grounding.size[1])
    assert box[0] <= x < box[2]
    assert box[1] <= y < box[3]


@pytest.mark.parametrize(("photo", "box"), DRAWN)
def test_one_of_the_best_boxes_is_about_right(example_groundings, photo, box):
    overlap = box_iou(example_groundings[photo].phrases[0].regions.boxes.float(), torch.tensor([box]).float())
    assert overlap.max() > 0.5


def test_segments_are_tighter_than_boxes_over_gradients(example_groundings, grounder, examples):
    """The best of ten regions of each photo overlaps the box drawn by hand more, on average over the photos."""
    propose = EdgeBoxes(edges="gradient")
    overlaps = {"segments": [], "boxes": []}
    for photo, box in DRAWN:
        grounding = example_groundings[photo]
        phrase = grounding.phrases[0]
        proposals = propose(examples[photo])
        exponents = [grounder.scoring.area_exponents.for_phrase("being", proposals)]
        (ranking,) = rank_regions(
            phrase.attention, proposals, grounding.size, area_exponents=exponents, overlap=grounder.scoring.overlap
        )
        for kind, regions in (("segments", phrase.regions), ("boxes", ranking.regions[:10])):
            overlaps[kind].append(box_iou(regions.boxes.float(), torch.tensor([box]).float()).max())
    assert torch.stack(overlaps["segments"]).mean() > torch.stack(overlaps["boxes"]).mean()


def test_segments_are_scored_by_their_outlines(quick_grounder, examples):
    superpixels = torch.arange(300)[:, None] // 100 * 3 + torch.arange(450) // 150  # nine fields of a smaller copy
    members = (torch.tensor([0, 1, 3, 12]), torch.tensor([4, 0, 1, *range(9)]))
    boxes = torch.tensor([[200.0, 133.0, 400.0, 267.0], [0.0, 0.0, 400.0, 133.0], [0.0, 0.0, 600.0, 400.0]])
    segments = Segments(boxes, torch.ones(3), superpixels, members)
    grounder = Grounder(quick_grounder.attention, lambda image: segments, quick_grounder.scoring)
    (grounding,) = grounder([examples["coffee"]], ["A cup"])
    phrase = grounding.phrases[0]
    inside, area = segment_sums(enlarge(phrase.attention, (300, 450)), superpixels, *members)
    expected = score(inside, area, area_exponent=grounder.scoring.area_exponents.segments)
    torch.testing.assert_close(phrase.regions.scores, expected.sort(descending=True).values)
    assert torch.equal(phrase.regions.boxes, boxes[expected.argsort(descending=True)])


def test_several_captions_and_photos_at_once_equal_one_at_a_time(quick_grounder, examples):
    grounder = Grounder(quick_grounder.attention, fixed, quick_grounder.scoring)
    photos = [examples["coffee"], examples["chelsea"], examples["coffee"][:, ::-1].copy()]
    captions = [["A cup on a table.", "A spoon"], "A cat", "A cup"]
    together = grounder(photos, captions)
    for photo, caption, grounding in zip(photos, captions, together, strict=True):
        (alone,) = grounder([photo], [caption])
        for first, second in zip(grounding.phrases, alone.phrases, strict=True):
            torch.testing.assert_close(first.attention, second.attention, atol=1e-6, rtol=1e-3)
            torch.testing.assert_close(first.regions.scores, second.regions.scores, atol=1e-6, rtol=1e-3)
            assert first.text == second.text
    assert [(p.caption, p.text) for p in together[0].phrases] == [(0, "A cup"), (0, "a table"), (1, "A spoon")]
    for phrase in together[0].phrases:
        assert together[0].captions[phrase.caption][slice(*phrase.span)] == phrase.text


def test_no_photo_is_held_at_full_size_once_it_is_read(quick_grounder):
    """Photos of 89 megapixels that wait for the network would otherwise take a gigabyte each."""
    full_size = {}  # by the ratio of their sides, which the network's size keeps
    alive = []

    def ratio(image):
        return round(image.shape[2] / image.shape[1])

    def propose(image):
        full_size[ratio(image)] = weakref.ref(image)
        return fixed(image)

    class Attention:
        vocabulary = quick_grounder.attention.vocabulary
        prepare = quick_grounder.attention.prepare
        device = quick_grounder.attention.device

        def __call__(self, prepared, words):
            alive.extend(full_size[ratio(photo)]() is not None for photo in prepared)
            assert all(photo._base is None for photo in prepared)  # copies; views would keep the full size alive
            return quick_grounder.attention(prepared, words)

    photos = [np.full((40, 40 * times, 3), times, np.uint8) for times in (1, 2, 3)]
    grounder = Grounder(Attention(), propose, quick_grounder.scoring)
    assert len(grounder(photos, ["A cat"] * len(photos))) == len(full_size) == 3
    assert alive == [False] * 3


def test_on_a_gpu_photos_go_through_the_network_together_and_a_bad_one_does_not_harm_the_others(quick_grounder):
    """The device says that it is a GPU, and is none."""
    together = []

    class Attention:
        vocabulary = quick_grounder.attention.vocabulary
        prepare = quick_grounder.attention.prepare
        device = SimpleNamespace(type="cuda")

        def __call__(self, prepared, words):
            together.append(len(prepared))
            if any(photo.shape[2] > 2 * photo.shape[1] for photo in prepared):
                raise ValueError("too wide")
            return quick_grounder.attention(prepared, words)

    photos = [np.full((40, 40 * (3 if number == 5 else 1), 3), number, np.uint8) for number in range(10)]
    grounder = Grounder(Attention(), fixed, quick_grounder.scoring)
    results = list(grounder.ground_each([*photos, "nowhere.jpg"], ["A cat"] * 11))
    assert together == [8, *[1] * 8, 2]
    assert [str(result) for result in results if isinstance(result, Exception)] == [
        "too wide",
        "nowhere.jpg: no such file",
    ]
    for photo, result in zip(photos, results, strict=False):
        if not isinstance(result, Exception):
            (alone,) = Grounder(quick_grounder.attention, fixed, quick_grounder.scoring)([photo], ["A cat"])
            assert torch.equal(result.phrases[0].attention, alone.phrases[0].attention)


def test_regions_are_best_first_within_the_photo_and_as_many_as_asked(quick_grounder, examples):
    (grounding,) = quick_grounder([examples["coffee"]], ["A cup and a spoon"])
    for phrase in grounding.phrases:
        regions = phrase.regions
        assert len(regions) == quick_grounder.scoring.count == 10
        assert (regions.scores.diff() <= 0).all()
        assert (regions.boxes[:, :2] >= 0).all()
        assert (regions.boxes[:, 2] <= 600).all()
        assert (regions.boxes[:, 3] <= 400).all()
        assert phrase.attention.dtype == torch.float32
        assert (phrase.attention >= 0).all()


def test_known_phrases_have_the_same_result_whatever_is_understood(quick_grounder, examples):
    phrases = ["a cup", "an astronaut", "a red spoon", "a grey zeppelin", "a violinist"]
    exact, understood = (
        Grounder(quick_grounder.attention, fixed, replace(quick_grounder.scoring, understand=level))(
            [examples["coffee"]], phrases=[phrases]
        )[0].phrases
        for level in ("exact", "wordnet")
    )
    assert [dict(phrase.understood) for phrase in exact] == [{}] * 5
    assert understood[1].understood == {"astronaut": ("person",)}
    assert understood[1].is_attended
    for index in (0, 2):
        assert understood[index].understood == {}
        torch.testing.assert_close(exact[index].attention, understood[index].attention, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(exact[index].regions.scores, understood[index].regions.scores, rtol=1e-4, atol=0)


def test_a_phrase_of_unknown_words_has_the_order_of_the_proposals(quick_grounder, examples):
    grounder = Grounder(quick_grounder.attention, fixed, quick_grounder.scoring)
    (grounding,) = grounder([examples["coffee"]], ["An ineffable quiddity beside a cup"])
    unknown, cup = grounding.phrases
    assert unknown.words == ()
    assert unknown.skipped_words == ("ineffable", "quiddity")
    assert unknown.attention is None
    assert not unknown.is_attended
    proposed = fixed(torch.zeros(3, 400, 600))
    assert torch.equal(unknown.regions.boxes, proposed.boxes)
    assert torch.equal(unknown.regions.scores, proposed.scores.double())
    assert cup.is_attended


def test_phrases_skip_the_parser(quick_grounder, examples):
    (grounding,) = quick_grounder([examples["coffee"]], phrases=[["cup", "the ineffable spoon"]])
    assert [phrase.text for phrase in grounding.phrases] == ["cup", "the ineffable spoon"]
    assert grounding.phrases[1].words == ("spoon",)
    assert grounding.phrases[1].span == (0, 19)


def test_the_result_is_plain_values(example_groundings):
    values = json.loads(json.dumps(example_groundings["coffee"].to_dict(), allow_nan=False))
    assert values["size"] == [400, 600]
    assert [phrase["ranked_by"] for phrase in values["phrases"]] == ["attention", "attention", "proposals", "attention"]
    assert len(values["phrases"][0]["boxes"]) == len(values["phrases"][0]["scores"])


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 400), (40, 2000)])
def test_odd_sizes_are_grounded(grounder, quick_grounder, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for each in (grounder, quick_grounder) if max(size) < 400 else (quick_grounder,):
        (grounding,) = each([pixels], ["A cat"])
        assert len(grounding.phrases[0].regions) >= 1
        assert (grounding.phrases[0].regions.boxes >= 0).all()


def test_a_photo_without_edges_is_its_own_region(quick_grounder):
    (grounding,) = quick_grounder([np.zeros((60, 80, 3), np.uint8)], ["A cat"])
    assert grounding.phrases[0].regions.boxes.tolist() == [[0, 0, 80, 60]]


def test_a_caption_without_noun_has_no_phrases(grounder, examples):
    scoring = replace(grounder.scoring, clothing_weight=0.6)  # phrases and their clothing are looked for
    (grounding,) = Grounder(grounder.attention, fixed, scoring)([examples["chelsea"]], ["Yes."])
    assert grounding.phrases == ()


def test_no_photos_give_no_groundings(quick_grounder):
    assert quick_grounder([], []) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.zeros((9, 9, 3), np.uint8)], []), "1 images, but captions or phrases for 0"),
        (([np.zeros((9, 9, 3), np.uint8)], [""]), "the caption is empty"),
        (([np.zeros((9, 9, 3), np.uint8)], [[]]), "no caption for the image"),
        (([np.zeros((9, 9, 3), np.uint8)],), "candidate_labels, one of the three"),
        (("photo.jpg", "A cat"), "are lists"),
        ((["nowhere.jpg"], ["A cat"]), r"nowhere\.jpg: no such file"),
    ],
)
def test_bad_input_is_refused_with_what_would_be_right(quick_grounder, arguments, message):
    with pytest.raises(ValueError, match=message):
        quick_grounder(*arguments)


def test_every_attention_brings_its_own_scoring():
    default, paper = compose_grounder([]), compose_grounder(["attention=mwp"])
    assert default.area_exponent_by_kind
    assert not paper.area_exponent_by_kind
    assert default.area_exponents != paper.area_exponents
    given = compose_grounder(["attention=cmwp", "scoring.area_exponent=0.5", "scoring.clothing_weight=0.5"])
    assert (given.area_exponents, given.clothing_weight) == ({"segments": 0.5, "boxes": 0.5}, 0.5)


def test_settings_are_those_of_the_command_line():
    grounder = Grounder.load(None, "attention=mwp", "scoring.area_exponent=0.25", "proposals.count=7")
    assert not grounder.attention.method.contrastive
    assert grounder.scoring.area_exponents == AreaExponents(0.25, 0.25)
    assert grounder.scoring.clothing_weight == 0
    assert grounder.propose.count == 7


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("nonet", (), "nonet"),
        (None, ("attention=centre", "scoring.count=0"), "at least 1"),
        (None, ("attention=centre", "scoring.clothing_weight=-1"), "from 0 to 10"),
        (None, ("scoring.area_exponent={segments: 0.5}",), "one each for segments and boxes"),
        (None, ("attention=centre", "scoring.area_exponent=some"), "area_exponent must be from 0 to 10"),
        (None, ("attention=centre", "scoring.area_exponent_by_kind={giant: 1}"), "no kind 'giant'; kinds are being"),
        (None, ("attention=centre", "scoring.area_exponent_by_kind={part: much}"), "by_kind.part must be from"),
        (None, ("attention=centre", "scoring.area_exponent_by_kind=0.2"), "for each kind of thing, such as"),
        (None, ("model.short_side=0",), "short_side"),
        (None, ("model.window=2.5",), "window"),
        (None, ("attention=centre", "proposals.count=abc"), "count must be"),
        (None, ("attention=centre", "scoring.area_exponent=nan"), "area_exponent"),
        ("torchvision", (), "model.name|Missing"),
        (None, ("attention=centre", "scoring.overlap=7"), "from 0 to 1"),
        (None, ("attention=cmwp", "attention.signed=maybe"), "signed must be one of"),
        (None, ("attention.parts.fine.signed=maybe",), "signed must be one of"),
        (None, ("model.layer=nowhere",), "no layer 'nowhere'"),
        (None, ("device=abacus",), "abacus"),
        (None, ("scoring.cuont=3",), "cuont"),
    ],
)
def test_settings_that_make_no_sense_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        Grounder.load(model, *settings)
