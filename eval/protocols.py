"""Protocols: the rules that a score follows. Scores by different rules cannot be compared; each names its *preset*.

The values of the presets, and whose rules they are, are in ``conf/preset``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CALIBRATIONS = ("raw", "mass", "rank")  # of scores, see `eval.judging.calibrate`


@dataclass(frozen=True, kw_only=True)
class BoxProtocol:
    """The rules by which ranked boxes are judged: a box is correct at an IoU of .5 or more.

    Args:
        truth: ``union``: the smallest box around all boxes of a phrase is the one to find; ``any``: any of its boxes
            will do.
        iou: ``inclusive``: a box ends with the last pixel in it, so that widths are x2 - x1 + 1 on disk, as in the
            evaluator of Plummer et al.; our boxes, 0-based with exclusive ends, have these very widths.
            ``continuous``: the true corners are taken as they stand on disk, 1-based and without that + 1, as in
            MDETR's evaluator; from ours, x1 and y1 are moved by one pixel. Predicted boxes are taken as they are.
        suppression: the evaluator drops a box that overlaps a better one by more than this IoU, before it ranks;
            None: it takes all boxes. The upper bound is that of all boxes in either case.
        parsed_only: phrases that the parser did not find have no predictions, but still count.
        per_type: a phrase counts once for each of its types in recall over all phrases, not once.
        small: an instance is small where its union box covers less than this share of the photo.

    Raises:
        ValueError: a setting makes no sense.
    """

    truth: str
    iou: str
    suppression: float | None
    parsed_only: bool
    per_type: bool
    small: float

    def __post_init__(self) -> None:
        _check_choice("truth", self.truth, "union", "any")
        _check_choice("iou", self.iou, "inclusive", "continuous")
        if self.suppression is not None:
            _check_share("suppression", self.suppression, "null or ")
        _check_bool("parsed_only", self.parsed_only)
        _check_bool("per_type", self.per_type)
        _check_share("small", self.small)


@dataclass(frozen=True, kw_only=True)
class PointingProtocol:
    """The rules by which a single point is judged: it is correct inside a true box, without tolerance.

    Args:
        unit: the unit that is counted: a ``phrase``, or an ``entity`` (all phrases of a photo that mean one thing).
        target: the ``union`` box, or ``any`` of the boxes.
        point: the greatest attention on the ``map``, or the centre of the best ``box``.
        least_area: share of the photo; smaller instances are dropped.
        least_area_of: the box that must have this area: the ``union`` box (dropped where it covers less, as in
            MultiGrounding), or the ``first`` box (dropped where it covers no more, as in WWbL).

    Raises:
        ValueError: a setting makes no sense.
    """

    unit: str
    target: str
    point: str
    least_area: float
    least_area_of: str

    def __post_init__(self) -> None:
        _check_choice("unit", self.unit, "phrase", "entity")
        _check_choice("target", self.target, "union", "any")
        _check_choice("point", self.point, "map", "box")
        _check_share("least_area", self.least_area)
        _check_choice("least_area_of", self.least_area_of, "union", "first")


Protocol = BoxProtocol | PointingProtocol


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules by which predictions are scored.

    Args:
        presets: protocols by name; every score is measured by each of them.
        choose_by: the preset of boxes by which γ is chosen, and whose details are written.
        calibration: makes the scores of different phrases comparable for average precision; one of `CALIBRATIONS`.
        gammas: the grid from which γ is chosen.

    Raises:
        ValueError: a value makes no sense.
    """

    presets: Mapping[str, Protocol]
    choose_by: str
    calibration: str
    gammas: tuple[float, ...]

    def __post_init__(self) -> None:
        boxes = [name for name, preset in self.presets.items() if isinstance(preset, BoxProtocol)]
        if self.choose_by not in boxes:
            raise ValueError(
                f"choose_by must be one of the presets of boxes ({', '.join(boxes)}), got {self.choose_by}"
            )
        if self.calibration not in CALIBRATIONS:
            raise ValueError(f"calibration must be one of {', '.join(CALIBRATIONS)}, got {self.calibration!r}")
        for gamma in self.gammas:
            if not 0 <= gamma <= 10:
                raise ValueError(f"gammas: γ must be from 0 to 10, got {gamma}")
        if not self.gammas:
            raise ValueError("gammas= is empty: give some γ to choose from")

    @property
    def chooser(self) -> BoxProtocol:
        """The preset by which γ is chosen."""
        preset = self.presets[self.choose_by]
        assert isinstance(preset, BoxProtocol)
        return preset


def _check_choice(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"preset.{name} must be {' or '.join(choices)}, got {value!r}")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"preset.{name} must be true or false, got {value!r}")


def _check_share(name: str, value: object, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"preset.{name} must be {otherwise}from 0 to 1, got {value!r}")
