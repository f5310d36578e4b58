"""The kind of error of a first box: the right thing with the wrong extent, another thing, or neither."""

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor

from eval.records import Entity, Instance, group_entities

CORRECT: Final = 0.5  # least IoU of a correct box with a true one
MOSTLY: Final = 0.5  # least share of a box that lies in another one, for it to lie mostly inside

Outcome = Literal["correct", "wrong_instance", "too_small", "too_large", "elsewhere"]


def outcome(first: Tensor | None, truth: Tensor, others: Tensor) -> Outcome:
    """Say whether the first box is correct, and otherwise which error it makes; the first case that applies counts.

    1. ``correct``: its IoU with a true box is .5 or more.
    2. ``wrong_instance``: its IoU with a box of another thing is .5 or more.
    3. ``too_small``: it is smaller than the true box, and at least half of its area lies in the true box.
    4. ``too_large``: it is larger than the true box, and at least half of the true box lies in it.
    5. ``elsewhere``: anything else, a missing box and one without area included.

    Of several true boxes, 3 and 4 compare it with the one that it overlaps best, the first of equals.

    Shapes:
        first: (4,), or None where there is no box.
        truth: (G, 4), at least one; any of them will do.
        others: (M, 4), boxes of other things that it can be taken for.

    >>> truth, others = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[20.0, 0, 30, 10]])
    >>> boxes = torch.tensor([[0.0, 0, 10, 9], [21, 0, 30, 10], [0, 0, 4, 4], [0, 0, 15, 20], [8, 0, 18, 10]])
    >>> [outcome(box, truth, others) for box in boxes]
    ['correct', 'wrong_instance', 'too_small', 'too_large', 'elsewhere']
    """
    if first is None:
        return "elsewhere"
    box = first.tolist()
    true_box = max(truth.tolist(), key=lambda one: _iou(box, one))
    if _iou(box, true_box) >= CORRECT:
        return "correct"
    if any(_iou(box, other) >= CORRECT for other in others.tolist()):
        return "wrong_instance"
    area, true_area, shared = _area(box), _area(true_box), _shared_area(box, true_box)
    if 0 < area < true_area and shared >= MOSTLY * area:
        return "too_small"
    if 0 < true_area < area and shared >= MOSTLY * true_area:
        return "too_large"
    return "elsewhere"


def other_boxes(instances: Sequence[Instance]) -> list[Tensor]:
    """For each instance, the boxes (M, 4) that it can be taken for: those of other entities of its photo and type.

    A box that is also the instance's own, such as that of one man for "two men", is left out.
    """
    by_photo: dict[str, list[Entity]] = {}
    for entity in group_entities(instances):
        by_photo.setdefault(entity.instance.photo, []).append(entity)
    found: dict[int, Tensor] = {}
    for entities in by_photo.values():
        for entity in entities:
            own = entity.instance
            boxes = [
                other.instance.boxes
                for other in entities
                if other is not entity and not set(other.instance.types).isdisjoint(own.types)
            ]
            others = torch.cat([own.boxes[:0], *boxes])
            is_own = (others[:, None] == own.boxes).all(2).any(1)
            found |= dict.fromkeys(entity.members, others[~is_own])
    return [found[index] for index in range(len(instances))]


def _area(box: Sequence[float]) -> float:
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1)


def _shared_area(box: Sequence[float], other: Sequence[float]) -> float:
    (x1, y1, x2, y2), (other_x1, other_y1, other_x2, other_y2) = box, other
    width, height = min(x2, other_x2) - max(x1, other_x1), min(y2, other_y2) - max(y1, other_y1)
    return max(width, 0.0) * max(height, 0.0)


def _iou(box: Sequence[float], other: Sequence[float]) -> float:
    shared = _shared_area(box, other)
    union = _area(box) + _area(other) - shared
    return shared / union if union > 0 else 0.0
