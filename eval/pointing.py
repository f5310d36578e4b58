"""Pointing accuracy: how often a single point for a phrase, or for an entity, lies in its box.

There is no tolerance: a box contains its first pixels and not its ends. An instance without a point, or with one that
is NaN, is missed.
"""

from collections.abc import Sequence

import numpy as np

from eval.flickr30k import TYPES
from eval.judging import check_pairs, share_of_photo, union_box
from eval.metrics import bootstrap, shares
from eval.protocols import PointingProtocol
from eval.records import Instance, Prediction, group_entities
from eval.result import Measured, PointingScores, TypeAccuracy
from eval.words import is_hit


def is_large_enough(instance: Instance, protocol: PointingProtocol) -> bool:
    """Whether an instance counts: exactly the least area is enough for a union box, and too little for a first one."""
    if protocol.least_area_of == "union":
        return share_of_photo(union_box(instance.boxes), instance.size) >= protocol.least_area
    return share_of_photo(instance.boxes[0], instance.size) > protocol.least_area


def points_at(instance: Instance, prediction: Prediction, protocol: PointingProtocol) -> bool:
    """Whether the point of a prediction lies in the instance's box, or in one of its boxes."""
    if protocol.point == "map":
        return _is_inside(prediction.point, instance, protocol.target)
    if not len(prediction.regions):
        return False
    left, top, right, bottom = prediction.regions.boxes[0].tolist()
    return _is_inside(((left + right) / 2, (top + bottom) / 2), instance, protocol.target)


def is_at_centre(instance: Instance, target: str) -> bool:
    """Whether the centre of the photo lies in the ``union`` box of an instance, or in ``any`` of its boxes."""
    height, width = instance.size
    return _is_inside((width / 2, height / 2), instance, target)


def score_pointing(
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    protocol: PointingProtocol,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> PointingScores:
    """The accuracy of pointing by a protocol, overall and of each type.

    Args:
        instances: phrases that own boxes; with ``unit=entity``, those of `group_entities`.
        predictions: the prediction for each of them.
        protocol: the rules.
        rounds: number of bootstrap samples of the photos; 0 for no interval.
        seed: the seed of the bootstrap.

    Raises:
        ValueError: instances and predictions do not fit, or an entity comes twice.
    """
    check_pairs(instances, predictions)
    if protocol.unit == "entity" and any(len(entity.members) > 1 for entity in group_entities(instances)):
        raise ValueError("preset.unit is entity: expected an instance for each entity, got several of one")
    pairs = [
        (instance, prediction)
        for instance, prediction in zip(instances, predictions, strict=True)
        if is_large_enough(instance, protocol)
    ]
    kept = [instance for instance, _ in pairs]
    hits = np.array([points_at(*pair, protocol) for pair in pairs], np.float64).reshape(-1, 1)
    centre = np.array([is_at_centre(instance, protocol.target) for instance in kept], np.float64).reshape(-1, 1)
    once = np.ones(len(kept))
    photos = [instance.photo for instance in kept]
    types = {}
    for name in TYPES:
        is_of_type = np.array([name in instance.types for instance in kept], bool)
        (accuracy,) = shares(hits[is_of_type], once[is_of_type])
        types[name] = TypeAccuracy(instances=int(is_of_type.sum()), accuracy=accuracy)
    (accuracy,), (interval,) = shares(hits, once), bootstrap(photos, hits, once, rounds=rounds, seed=seed)
    return PointingScores(
        protocol=protocol,
        instances=len(kept),
        photos=len(set(photos)),
        accuracy=Measured(accuracy, interval),
        centre=shares(centre, once)[0],
        types=types,
    )


def _is_inside(point: tuple[float, float] | None, instance: Instance, target: str) -> bool:
    if point is None:
        return False
    x, y = point
    return is_hit((y, x), union_box(instance.boxes)[None] if target == "union" else instance.boxes)
