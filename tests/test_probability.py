"""The probability that the best box of a phrase is right: evidence, calibrations and rejected phrases."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_flickr30k import propose_boxes, small_classifier

from grounding import Grounder
from grounding.attention import ExcitationBackprop, Mixture
from grounding.maps import PhraseWords, WordAttention
from grounding.models import Pooling
from grounding.pooling import log_mean_exp
from grounding.presence import Presence
from grounding.probability import (
    EVIDENCE,
    SHIPPED,
    Calibrated,
    Calibration,
    Weights,
    measure_evidence,
    read_calibrations,
)
from grounding.records import Regions
from grounding.scoring import AreaExponents, Scoring

DOG = PhraseWords(("dog",), kind="being")
REGIONS = Regions(
    torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 18.0], [20.0, 20.0, 40.0, 40.0]]),
    torch.tensor([4.0, 3.0, 1.0], dtype=torch.float64),
)


def weights(bias=0.0, **given):
    return Weights(bias, dict.fromkeys(EVIDENCE, 0.0) | given)


def calibration(right, present=None):
    return Calibration({}, {}, right, present or weights())


def grounder_with(found, **scoring):
    attention = WordAttention(small_classifier(), ExcitationBackprop, device="cpu")
    calibrated = None if found is None else Calibrated(found, Presence(attention.classifier, attention.device))
    return Grounder(attention, propose_boxes, Scoring(AreaExponents(0.3, 0.3), **scoring), calibrated)


def test_evidence_of_a_map_that_is_easy_to_measure():
    attention = torch.zeros(4, 4)
    attention[0, 0], attention[3, 3] = 3.0, 1.0  # the first cell lies in the best box, the last one in the third
    evidence = measure_evidence(DOG, attention, REGIONS, (40, 40), [2.0, -1.0], 0.5)
    assert evidence == pytest.approx(
        dict.fromkeys(EVIDENCE, 0.0)
        | {
            "known": 1.0,
            "presence": 0.5,
            "least_presence": -1.0,
            "inside": 0.75,
            "area": math.log(0.25),
            "margin": math.log(4),  # the second region is a variant of the first
            "agreement": (0.9 + 0.0) / 2,
            "spread": -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(16),
            "reached": math.log(0.5),
            "being": 1.0,
        }
    )


@pytest.mark.parametrize("attention", [None, torch.zeros(3, 3)])
def test_a_guess_has_no_evidence_of_attention(attention):
    words = PhraseWords((), ("xyzzy", "quux"), kind="scene")
    evidence = measure_evidence(words, attention, REGIONS, (40, 40), [], None)
    assert evidence == dict.fromkeys(EVIDENCE, 0.0) | {"skipped": 2.0, "scene": 1.0}


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 6), st.integers(1, 6))
def test_evidence_is_finite_and_scaling_a_map_changes_none_but_the_scores(seed, count, height, width):
    torch.manual_seed(seed)
    corners = torch.rand(count, 2, 2, dtype=torch.float64).sort(1).values.flatten(1)
    scores = torch.rand(count, dtype=torch.float64).sort(descending=True).values
    regions = Regions(corners * 50, scores)
    attention = torch.rand(height, width) + 0.01
    evidence = measure_evidence(DOG, attention, regions, (50, 50), [0.5], None)
    assert all(math.isfinite(value) for value in evidence.values())
    assert 0 <= evidence["inside"] <= 1 + 1e-9
    assert -1e-9 <= evidence["spread"] <= 1 + 1e-9
    assert measure_evidence(DOG, attention * 7, regions, (50, 50), [0.5], None) == pytest.approx(evidence)


@given(st.floats(-800, 800), st.floats(0, 800))
def test_probabilities_rise_with_evidence_of_positive_weight(bias, more):
    found = weights(bias, presence=1.0)
    nothing = dict.fromkeys(EVIDENCE, 0.0)
    low, high = found.probability(nothing), found.probability(nothing | {"presence": more})
    assert 0 <= low <= high <= 1
    assert low == pytest.approx(torch.sigmoid(torch.tensor(bias, dtype=torch.float64)).item())


def test_presence_is_the_classifier_as_it_was_trained():
    classifier = small_classifier()
    image = torch.rand(3, 40, 40)
    prepared = classifier.prepare(image)
    average = Presence(classifier, torch.device("cpu"))(prepared)
    with torch.no_grad():
        torch.testing.assert_close(average.float(), classifier.network(prepared[None])[0].softmax(0))
        places = classifier.network[-1](classifier.network[:4](prepared[None]).movedim(1, 3)).movedim(3, 1)
    # five labels at places, and three classes of which each photo has one
    at_places = replace(classifier, pooling=Pooling("lse", 2.0), exclusive=3)
    expected = torch.cat([log_mean_exp(places[:, :5], 2.0)[0].sigmoid(), places[:, 5:].mean((2, 3))[0].softmax(0)])
    torch.testing.assert_close(Presence(at_places, torch.device("cpu"))(prepared).float(), expected)


@pytest.mark.parametrize("pooling", [Pooling(), Pooling("lse", 2.0)])
def test_presence_is_the_same_from_what_attention_has_seen(pooling):
    classifier = replace(small_classifier(), pooling=pooling)
    presence = Presence(classifier, torch.device("cpu"))
    prepared = classifier.prepare(torch.rand(3, 40, 60))
    for scales in ({"whole": 1.0, "fine": 1.5}, {"fine": 1.5}):
        parts = dict.fromkeys(scales, partial(ExcitationBackprop, signed="clamp"))
        attend = Mixture(classifier.network, classifier.layer, parts=parts, scales=scales)
        (attended,) = attend.attend_with_mass(prepared[None], [torch.tensor([0, 3])])
        assert (attended.last_map is not None) == ("whole" in scales)
        if attended.last_map is not None:
            assert attended.last_map.shape[0] == classifier.network[-1].in_features
            seen = presence(torch.zeros_like(prepared), attended.last_map)  # the photo itself is not looked at again
            torch.testing.assert_close(seen, presence(prepared), rtol=0, atol=1e-6)


def test_log_odds_of_a_word():
    classifier = small_classifier()
    vocabulary = replace(classifier.vocabulary, units={"dog": (0, 1), "cat": (6, 7), "red": (2,)})
    presence = Presence(replace(classifier, vocabulary=vocabulary, exclusive=3), torch.device("cpu"))
    units = torch.tensor([0.2, 0.8, 1.0, 0, 0, 0.5, 0.3, 0.2], dtype=torch.float64)
    assert presence.log_odds(units, "dog") == pytest.approx(math.log(4))  # the more probable label
    assert presence.log_odds(units, "cat") == pytest.approx(0.0)  # of two classes, one or the other
    assert math.isfinite(presence.log_odds(units, "red"))


@pytest.mark.parametrize("least", ["least_probability", "least_presence"])
def test_phrases_have_probabilities_and_the_improbable_are_rejected(examples, least):
    found = calibration(weights(-0.5, presence=3.0), weights(-0.5, presence=2.0))
    phrases = ["a man", "a dog", "a suit", "xyzzy"]
    (plain,) = grounder_with(None)([examples["coffee"]], phrases=[phrases])
    (told,) = grounder_with(found)([examples["coffee"]], phrases=[phrases])
    values = [phrase.probability if least == "least_probability" else phrase.presence for phrase in told.phrases]
    threshold = sum(sorted(values)[1:3]) / 2
    (judged,) = grounder_with(found, **{least: threshold})([examples["coffee"]], phrases=[phrases])
    for before, after, rejecting, value in zip(plain.phrases, told.phrases, judged.phrases, values, strict=True):
        assert (before.probability, before.presence, before.is_rejected) == (None, None, False)
        assert not after.is_rejected
        assert rejecting.is_rejected == (value < threshold)
        assert torch.equal(before.regions.boxes, rejecting.regions.boxes)  # a probability changes no region
        assert torch.equal(before.regions.scores, rejecting.regions.scores)
    found_values = judged.to_dict()["phrases"]
    assert [(each["probability"], each["presence"]) for each in found_values] == [
        (phrase.probability, phrase.presence) for phrase in told.phrases
    ]
    assert sum(each["rejected"] for each in found_values) == 2
    assert told.phrases[3].probability == pytest.approx(1 / (1 + math.exp(0.5)))  # a guess has the bias alone


def test_probabilities_do_not_depend_on_how_many_regions_are_kept(examples):
    found = calibration(weights(margin=1.0, agreement=1.0))
    many, one = (
        grounder_with(found, count=count)([examples["coffee"]], phrases=[["a man"]])[0].phrases[0] for count in (10, 1)
    )
    assert len(many.regions) > len(one.regions) == 1
    assert many.probability == one.probability


def test_rejecting_needs_a_calibration():
    with pytest.raises(ValueError, match="least_probability and least_presence must be 0: with these settings"):
        grounder_with(None, least_probability=0.5)
    with pytest.raises(ValueError, match="least_probability must be from 0 to 1, got 50"):
        grounder_with(calibration(weights()), least_probability=50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no calibrations"),
        ('[{"bias": 0}]', "no calibrations"),
        (
            json.dumps([{"fitted_for": {}, "fitted_on": {}, "right": {"bias": 0, "weights": {"area": 1}}}]),
            "finite weights",
        ),
    ],
)
def test_damaged_calibrations_are_refused(tmp_path, text, message):
    (tmp_path / "calibrations.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_calibrations(tmp_path / "calibrations.json")
    with pytest.raises(ValueError, match="no calibrations"):
        read_calibrations(tmp_path / "missing.json")


def test_the_default_settings_are_calibrated_and_others_are_not(grounder, quick_grounder):
    """A change of the default model, attention or scoring needs another fit: python -m eval.probability."""
    assert grounder.calibrated is not None
    assert quick_grounder.calibrated is None
    assert read_calibrations(SHIPPED)


@pytest.mark.slow
def test_a_thing_of_the_photo_is_more_probable_than_another(grounder, examples):
    """An example of what docs/scores.md measures."""
    for photo, there in (("chelsea", "a tabby cat"), ("coffee", "a cup of coffee")):
        (grounding,) = grounder([examples[photo]], phrases=[[there, "a surfboard", "a snowy mountain"]])
        own, *others = (phrase.presence for phrase in grounding.phrases)
        assert own > max(others)
