"""How often a single point for a phrase, or for an entity, lies in its box.

Without tolerance: a box holds its first pixels and not its ends. What has no point, or one that is NaN, is missed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eval.flickr30k import TYPES
from eval.metrics import bootstrap, check_pairs, share_of_photo, shares, union_box
from eval.protocols import PointingProtocol
from eval.records import Instance, Prediction


@dataclass(frozen=True, eq=False)
class Entity:
    """A thing in a photo, and which instances speak of it."""

    instance: Instance  # the first of them, with the types of all
    members: tuple[int, ...]  # their indices, ascending


def entities(instances: Sequence[Instance]) -> tuple[Entity, ...]:
    """The entities of instances, those of the same chain in a photo, in order of appearance.

    In the WWbL family an entity has one score, by the mean of the maps of its members; with ``unit=entity``,
    `score_pointing` takes the ``instance`` of each entity and a prediction from that mean.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for index, instance in enumerate(instances):
        members.setdefault((instance.photo, instance.chain), []).append(index)
    return tuple(
        Entity(
            replace(
                instances[indices[0]],
                types=tuple(dict.fromkeys(name for index in indices for name in instances[index].types)),
            ),
            tuple(indices),
        )
        for indices in members.values()
    )


def is_large_enough(instance: Instance, protocol: PointingProtocol) -> bool:
    """Whether an instance counts; just the least area is enough for a union box, and too little for a first one."""
    if protocol.least_area_of == "union":
        return share_of_photo(union_box(instance.boxes), instance.size) >= protocol.least_area
    return share_of_photo(instance.boxes[0], instance.size) > protocol.least_area


def points_at(instance: Instance, prediction: Prediction, protocol: PointingProtocol) -> bool:
    """Whether the point of a prediction lies in the instance's box, or in one of its boxes."""
    if protocol.point == "map":
        point = prediction.point
    elif len(prediction.regions):
        left, top, right, bottom = prediction.regions.boxes[0].tolist()
        point = ((left + right) / 2, (top + bottom) / 2)
    else:
        point = None
    if point is None:
        return False
    x, y = point
    boxes = union_box(instance.boxes)[None] if protocol.target == "union" else instance.boxes
    return any(x1 <= x < x2 and y1 <= y < y2 for x1, y1, x2, y2 in boxes.tolist())  # false for NaN


def score_pointing(
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    protocol: PointingProtocol,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The accuracy of pointing by a protocol, overall and of each type, as plain values.

    Args:
        instances: phrases that own boxes; with ``unit=entity``, those of `entities`.
        predictions: of each of them.
        protocol: the rules.
        rounds: of the bootstrap over photos; 0 for no interval.
        seed: of the bootstrap.

    Raises:
        ValueError: instances and predictions do not fit, or an entity comes twice.
    """
    check_pairs(instances, predictions)
    if protocol.unit == "entity" and any(len(entity.members) > 1 for entity in entities(instances)):
        raise ValueError("preset.unit is entity: expected an instance for each entity, got several of one")
    pairs = [pair for pair in zip(instances, predictions, strict=True) if is_large_enough(pair[0], protocol)]
    kept = [instance for instance, _ in pairs]
    hits = np.array([points_at(*pair, protocol) for pair in pairs], np.float64).reshape(-1, 1)
    once = np.ones(len(kept))
    photos = [instance.photo for instance in kept]
    types = {}
    for name in TYPES:
        is_of_type = np.array([name in instance.types for instance in kept], bool)
        (accuracy,) = shares(hits[is_of_type], once[is_of_type])
        types[name] = {"instances": int(is_of_type.sum()), "accuracy": accuracy}
    (accuracy,), (interval,) = shares(hits, once), bootstrap(photos, hits, once, rounds=rounds, seed=seed)
    scores = {"instances": len(kept), "photos": len(set(photos)), "accuracy": accuracy, "interval": interval}
    return {"kind": "pointing", "settings": asdict(protocol), "all": {**scores, "types": types}}
