"""``python -m eval.probability``: questions to photos, fitted weights, and what they are worth."""

import json
from dataclasses import replace

import numpy as np
import pytest
from command_settings import composed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_flickr30k import propose_boxes, small_classifier, small_grounder, write_photos

from eval.flickr30k import annotated_photos, instances
from eval.probability import fitting
from eval.probability.__main__ import calibrate
from eval.probability.asking import absent_phrases, ask_all, other_photo
from eval.probability.fitting import Answers, auroc, calibration_error, fit_present, fit_right, held_out, reliability
from eval.probability.measuring import HeldOut, gather, measure
from eval.probability.picture import draw_reliability
from grounding.attention import ExcitationBackprop
from grounding.probability import EVIDENCE, read_calibrations
from grounding.quoting import quote_free_text


@pytest.fixture
def photos(tmp_path, examples):
    write_photos(tmp_path, examples)
    return annotated_photos(tmp_path / "photos", tmp_path / "entities").photos


def random_answers(seed, photos=12, phrases=16):
    """Answers of which the probability to be right is a logistic function of the first evidence."""
    random = np.random.default_rng(seed)
    count = photos * phrases
    evidence = random.normal(size=(count, len(EVIDENCE)))
    is_own = np.arange(count) % 2 == 0
    return Answers(
        evidence=evidence,
        scores=random.normal(size=count),
        is_right=is_own & (random.random(count) < 1 / (1 + np.exp(-3 * evidence[:, 0]))),
        is_own=is_own,
        is_doubtful=~is_own & (random.random(count) < 0.2),
        photos=np.repeat(np.arange(photos), phrases),
    )


@given(st.integers(2, 300))
def test_each_photo_is_asked_for_phrases_of_one_other(count):
    others = [other_photo(index, count) for index in range(count)]
    assert sorted(others) == list(range(count))
    assert all(other != index for index, other in enumerate(others))


def test_a_photo_is_asked_for_its_own_phrases_and_for_absent_ones(photos, tmp_path):
    first, second = ask_all(photos, small_grounder(ExcitationBackprop), tmp_path / "kept")
    assert [question.phrase.text for question in first if question.is_own] == [
        "A man", "an orange suit", "short hair", "The man"
    ]  # fmt: skip
    assert [question.phrase.text for question in first if not question.is_own] == ["A tabby cat", "the xyzzy"]
    assert [question.phrase.text for question in second if question.is_own] == ["A tabby cat", "the xyzzy"]
    assert {*EVIDENCE} == set(first[0].evidence)
    assert [question.evidence["known"] for question in second if question.is_own] == [1, 0]  # the xyzzy is a guess


def test_answers_are_kept(photos, tmp_path):
    grounder = small_grounder(ExcitationBackprop)
    asked = list(ask_all(photos, grounder, tmp_path / "kept"))
    grounder.propose = None  # nothing is asked twice
    again = list(ask_all(photos, grounder, tmp_path / "kept"))
    assert [[each.evidence for each in photo] for photo in again] == [
        [each.evidence for each in photo] for photo in asked
    ]


def test_phrases_with_a_word_of_the_captions_are_not_absent(photos):
    own = instances(photos[0])
    texts = ["A red suit", "men", "The xyzzy", "a cat of it"]
    phrases = [replace(own[0], text=text) for text in texts]
    assert [phrase.text for phrase in absent_phrases(photos[0], phrases)] == ["The xyzzy", "a cat of it"]


def test_one_photo_has_no_other(photos, tmp_path):
    with pytest.raises(ValueError, match="one photo alone"):
        next(ask_all(photos[:1], small_grounder(ExcitationBackprop), tmp_path))


@pytest.mark.parametrize("fit_rows", [fit_right, fit_present])
def test_a_photo_has_no_part_in_its_own_probabilities(fit_rows):
    answers = random_answers(0)
    here = answers.photos == 3
    changed = replace(
        answers,
        is_right=np.where(here, answers.is_own & ~answers.is_right, answers.is_right),
        scores=answers.scores + here,
    )
    before, after = held_out(answers, fit_rows), held_out(changed, fit_rows)
    np.testing.assert_array_equal(before[here], after[here])
    if fit_rows is fit_right:
        assert (before != after).any()


def test_fitted_weights_find_the_evidence_that_counts():
    answers = random_answers(1, photos=60, phrases=60)
    found = fit_right(answers, answers.photos >= 0)
    assert found.weights[EVIDENCE[0]] == pytest.approx(3, abs=0.5)
    assert all(abs(found.weights[name]) < 0.3 for name in EVIDENCE[1:])
    one = dict(zip(EVIDENCE, answers.evidence[5].tolist(), strict=True))
    assert fitting.probabilities(found, answers.evidence)[5] == pytest.approx(found.probability(one))


def test_presence_is_fitted_for_even_odds():
    """Without any evidence that tells them apart, a phrase is of the photo with probability one half."""
    answers = random_answers(2)
    own = np.arange(len(answers.photos)) % 4 > 0  # three of four
    found = fit_present(
        replace(answers, evidence=np.zeros_like(answers.evidence), is_own=own, is_doubtful=~(own | True)),
        answers.photos >= 0,
    )
    assert found.bias == pytest.approx(0, abs=1e-3)


@given(st.integers(0, 2**31), st.integers(2, 40))
def test_auroc_agrees_with_pairs(seed, count):
    random = np.random.default_rng(seed)
    scores, is_positive = random.integers(0, 6, count) / 5, np.arange(count) % 2 == 0
    pairs = [(p > n) + (p == n) / 2 for p in scores[is_positive] for n in scores[~is_positive]]
    assert auroc(scores, is_positive) == pytest.approx(np.mean(pairs))


@given(st.integers(0, 2**31), st.integers(1, 60))
def test_calibration_error_agrees_with_loops(seed, count):
    random = np.random.default_rng(seed)
    values, is_true = random.random(count), random.random(count) < 0.4
    expected = 0.0
    for place in range(fitting.BINS):
        members = [i for i in range(count) if place / fitting.BINS <= values[i] < (place + 1) / fitting.BINS]
        if members:
            gap = abs(sum(values[i] for i in members) - sum(is_true[i] for i in members))
            expected += gap / count
    assert calibration_error(reliability(values, is_true)) == pytest.approx(expected)
    assert calibration_error(reliability(values, is_true, np.full(count, 0.3))) == pytest.approx(expected)


def test_figures_and_their_picture():
    answers = random_answers(3)
    found = HeldOut(held_out(answers, fit_right), held_out(answers, fit_present))
    figures = measure(answers, found)
    json.dumps(figures, allow_nan=False)
    assert figures["right"] == answers.is_right[answers.is_own].mean()
    value, low, high = figures["auroc_right"]["probability"]
    assert low <= value <= high
    assert value > 0.8 > figures["auroc_right"]["score"][0]
    kept = [each["own_kept"] for each in figures["least_presence"]]
    assert kept == sorted(kept, reverse=True)
    picture = np.asarray(draw_reliability(figures, answers.is_own, found))
    assert (picture < 250).any()


def test_the_command_writes_a_calibration_that_can_be_read(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("grounding.checkpoint.load_checkpoint", lambda **settings: small_classifier())
    monkeypatch.setattr("proposals.MCG", lambda **settings: propose_boxes)
    monkeypatch.setattr("eval.probability.measuring._is_right", lambda question: len(question.phrase.text) > 9)
    words = [f"data.path={tmp_path / 'photos'}", f"data.entities={tmp_path / 'entities'}", f"output={tmp_path / 'out'}"]
    choices = {"data": "flickr30k", "model": "checkpoint", "attention": "best", "proposals": "mcg"}
    assert calibrate(composed(*quote_free_text(words), config="probability"), choices, words)
    (calibration,) = read_calibrations(tmp_path / "out" / "calibrations.json")
    assert calibration.fitted_for["proposals"]["_target_"] == "proposals.MCG"
    assert calibration.fitted_on["photos"] == 2
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert (figures["phrases"], figures["phrases_of_other_photos"], figures["right"]) == (6, 6, 0.5)
    with Image.open(tmp_path / "out" / "reliability.png") as picture:
        assert picture.width > 500


def test_photos_of_the_test_split_are_refused(photos, tmp_path):
    (tmp_path / "entities" / "test.txt").write_text("2\n")
    words = [f"data.path={tmp_path / 'photos'}", f"data.entities={tmp_path / 'entities'}", f"output={tmp_path / 'out'}"]
    with pytest.raises(ValueError, match="use photos of val, not of the test split"):
        calibrate(composed(*quote_free_text(words), config="probability"), {}, words)


def test_claims_that_are_always_true_cannot_be_fitted(photos, tmp_path):
    answers = random_answers(4)
    with pytest.raises(ValueError, match="answers that are right and others that are wrong"):
        fit_right(replace(answers, is_right=answers.is_own), answers.photos >= 0)
    with pytest.raises(ValueError, match="no phrase"):
        gather([[], []])
