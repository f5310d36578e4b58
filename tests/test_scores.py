"""The scores of every preset, and counts over phrases."""

from dataclasses import replace

import pytest
from judged_cases import ANY, ZHANG, found, thing

from eval.protocols import PointingProtocol, Rules
from eval.records import Predictions
from eval.result import Coverage, Reached
from eval.scores import count_known, score_presets, summarise_reached

MAP = PointingProtocol(unit="phrase", target="any", point="map", least_area=0.0, least_area_of="union")
PRESETS = {
    "zhang18": ZHANG,
    "mdetr_any": ANY,
    "map": MAP,
    "box": replace(MAP, point="box"),
    "entity": replace(MAP, unit="entity"),
}
RULES = Rules(presets=PRESETS, choose_by="zhang18", calibration="mass", gammas=(0.25,))
BOX = (0, 0, 10, 10)
THINGS = (thing(BOX, chain="1"), thing((50, 50, 60, 60), chain="2"))
HIT = replace(found(BOX, scores=[1]), mass=0.1, point=(5, 5))
MISS = replace(found(BOX, scores=[2]), mass=1.0, point=(5, 5))


def test_every_preset_scores_what_attention_predicts():
    scores = score_presets(THINGS, Predictions({0.25: [HIT, MISS]}, [HIT, MISS]), 0.25, RULES)
    assert list(scores.presets) == list(PRESETS)
    assert scores.presets["entity"].accuracy.share == scores.presets["map"].accuracy.share == 0.5
    assert [judged.rank for judged in scores.judged] == [1, None]


def test_calibration_is_that_of_the_rules_and_raw_scores_are_kept_beside():
    scores = score_presets(THINGS, Predictions({0.25: [HIT, MISS]}, [HIT, MISS]), 0.25, RULES).presets["zhang18"].all
    assert scores.precision.group == pytest.approx(6 / 11)  # 1 / .1 before 2 / 1
    assert scores.raw_precision.group == pytest.approx(3 / 11)


@pytest.mark.parametrize(
    ("predictions", "gamma"),
    [
        (Predictions({None: [HIT, MISS]}), None),  # a file
        (Predictions({0.25: [replace(HIT, mass=0.0), replace(MISS, mass=0.0)]}, [HIT, MISS]), 0.25),
    ],
)
def test_without_attention_only_boxes_are_scored(predictions, gamma):
    assert list(score_presets(THINGS, predictions, gamma, RULES).presets) == ["zhang18", "mdetr_any", "box"]


def test_known_phrases_and_the_probability_that_reached_the_layer_are_counted():
    known = [replace(HIT, is_known=True, reached=share) for share in (0.1, 0.4)]
    predictions = [*known, replace(HIT, is_known=False), replace(HIT, is_known=True)]
    assert count_known(predictions) == Coverage(phrases=4, known=3)
    assert summarise_reached(predictions) == Reached(phrases=2, mean=0.25, least=0.1, greatest=0.4)
    rounded = summarise_reached([replace(HIT, reached=1 + 6e-8)])
    assert rounded == Reached(phrases=1, mean=1.0, least=1.0, greatest=1.0)
    assert count_known([HIT, MISS]) is None
    assert summarise_reached([HIT, MISS]) is None
