from dataclasses import replace
from math import nan

import pytest
import torch

from eval.flickr30k import TYPES
from eval.pointing import is_at_centre, is_large_enough, points_at, score_pointing
from eval.protocols import PointingProtocol
from eval.records import Instance, Prediction, group_entities
from eval.result import Measured, TypeAccuracy
from grounding.records import Regions

GROUNDING = PointingProtocol(unit="phrase", target="any", point="map", least_area=0.05, least_area_of="union")
ENTITY = replace(GROUNDING, unit="entity", target="union", least_area_of="first")
INFO = replace(GROUNDING, point="box", least_area=0.0)


def thing(*boxes, photo="1", chain="7", types=("people",)):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instance(photo, (100, 100), 0, 0, "a man", (0, 5), chain, types, boxes, "man", True)


def pointed(point, *boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Prediction(Regions(boxes, torch.arange(len(boxes), 0, -1).float()), 1.0, point)


@pytest.mark.parametrize(
    ("point", "is_hit"),
    [
        ((10, 20), True),  # the first pixels
        ((29, 49), True),  # the last
        ((30, 30), False),  # x2
        ((20, 50), False),  # y2
        ((9, 30), False),
        ((20, 19), False),
        ((29.999, 49.999), True),
        ((29.99999999, 30), True),  # which single precision would call 30
        ((nan, 30), False),
        ((20, nan), False),
        (None, False),
    ],
)
def test_a_box_holds_its_first_pixels_and_not_its_ends(point, is_hit):
    assert points_at(thing((10, 20, 30, 50)), pointed(point, (10, 20, 30, 50)), GROUNDING) is is_hit


def test_between_two_boxes_only_their_union_is_hit():
    two = thing((0, 0, 10, 10), (40, 0, 50, 10))
    assert points_at(two, pointed((25, 5)), ENTITY)
    assert not points_at(two, pointed((25, 5)), GROUNDING)
    assert points_at(two, pointed((45, 5)), GROUNDING)


def test_the_centre_of_the_best_box_points_too():
    truth = thing((0, 0, 10, 10))
    prediction = pointed((5, 5), (0, 0, 20, 20), (0, 0, 10, 10))
    assert not points_at(truth, prediction, INFO)  # its centre is the corner
    assert points_at(truth, pointed(None, (0, 0, 19, 19)), INFO)
    assert not points_at(truth, pointed((5, 5)), INFO)  # no box


@pytest.mark.parametrize(
    ("boxes", "by_union", "by_first"),
    [
        ([(0, 0, 50, 10)], True, False),  # exactly 5 %
        ([(0, 0, 50, 9.99)], False, False),
        ([(0, 0, 50, 10.01)], True, True),
        ([(0, 0, 5, 5), (50, 50, 60, 60)], True, False),  # only the union is large
        ([(0, 0, 30, 30), (50, 50, 60, 60)], True, True),
    ],
)
def test_small_things_are_dropped_by_their_union_or_their_first_box(boxes, by_union, by_first):
    assert is_large_enough(thing(*boxes), GROUNDING) is by_union
    assert is_large_enough(thing(*boxes), ENTITY) is by_first
    assert is_large_enough(thing(*boxes), INFO)


def test_dropped_phrases_do_not_count():
    instances = [thing((0, 0, 50, 50)), thing((0, 0, 50, 50), photo="2"), thing((0, 0, 5, 5), photo="3")]
    predictions = [pointed((1, 1)), pointed((99, 99)), pointed((1, 1))]
    scores = score_pointing(instances, predictions, GROUNDING)
    assert scores.protocol == GROUNDING
    assert (scores.instances, scores.photos) == (2, 2)
    assert scores.accuracy == Measured(0.5, (0, 1))
    none = score_pointing(instances[2:], predictions[2:], GROUNDING)
    assert (none.instances, none.accuracy, none.centre) == (0, Measured(None), None)
    assert score_pointing(instances[:1], predictions[:1], GROUNDING).accuracy.interval is None


def test_the_centre_of_the_photo_is_scored_on_the_same_instances():
    instances = [thing((0, 0, 51, 51)), thing((0, 0, 50, 50), photo="2"), thing((49, 49, 52, 52), photo="3")]
    scores = score_pointing(instances, [pointed((1, 1))] * 3, GROUNDING)
    assert (scores.instances, scores.centre) == (2, 0.5)
    two = thing((0, 0, 40, 100), (60, 0, 100, 100))
    assert is_at_centre(two, "union")
    assert not is_at_centre(two, "any")


def test_types_have_accuracies_of_their_own_and_a_phrase_of_two_counts_once_overall():
    instances = [thing((0, 0, 50, 50), types=("scene", "people")), thing((0, 0, 50, 50), types=("people",))]
    scores = score_pointing(instances, [pointed((1, 1)), pointed(None)], GROUNDING)
    assert scores.accuracy.share == 0.5
    assert tuple(scores.types) == TYPES
    assert scores.types["people"] == TypeAccuracy(instances=2, accuracy=0.5)
    assert scores.types["scene"] == TypeAccuracy(instances=1, accuracy=1.0)
    assert scores.types["animals"] == TypeAccuracy(instances=0, accuracy=None)


def test_phrases_of_a_photo_with_the_same_chain_are_one_entity():
    box = (0, 0, 50, 50)
    instances = [
        thing(box, chain="7"),
        thing(box, chain="8"),
        thing(box, chain="7", photo="2"),
        thing(box, chain="7", types=("other", "people")),
    ]
    found = group_entities(instances)
    assert [entity.members for entity in found] == [(0, 3), (1,), (2,)]
    assert [(entity.instance.photo, entity.instance.chain) for entity in found] == [("1", "7"), ("1", "8"), ("2", "7")]
    assert found[0].instance.types == ("people", "other")
    assert group_entities([]) == ()
    scores = score_pointing([entity.instance for entity in found], [pointed((1, 1))] * 3, ENTITY)
    assert scores.instances == 3


def test_what_does_not_fit_is_said():
    phrases = [thing((0, 0, 50, 50))] * 2
    with pytest.raises(ValueError, match=r"preset\.unit is entity: expected an instance for each entity"):
        score_pointing(phrases, [pointed(None)] * 2, ENTITY)
    assert score_pointing(phrases, [pointed(None)] * 2, GROUNDING).accuracy.share == 0
    with pytest.raises(ValueError, match="2 instances and 1 predictions"):
        score_pointing(phrases, [pointed(None)], GROUNDING)
