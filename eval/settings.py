"""The settings of ``python -m eval`` and of the commands below it: regions, probability, doctor and leaderboard."""

from dataclasses import dataclass
from typing import Any


@dataclass
class EvalScoringSettings:
    """Settings of scoring and suppression. For None, γ is chosen, and other settings are the attention's own."""

    area_exponent: Any  # None, a number, or a number each for segments and boxes
    area_exponent_by_kind: Any  # what kinds of things add to γ; None for that of the attention option
    overlap: float
    clothing_weight: float | None
    understand: str = "exact"  # how far to go for unknown words, one of `grounding.understanding.LEVELS`


@dataclass
class EvalSettings:
    """Settings of ``python -m eval``."""

    data: Any
    model: Any
    attention: Any
    proposals: Any
    presets: Any
    scoring: EvalScoringSettings
    gammas: list[float]
    choose_by: str
    calibration: str
    first: int
    export: bool
    output: str
    device: str
    predictions: str | None = None
    name: str | None = None


@dataclass
class RegionPointingSettings:
    """How points are judged."""

    tolerance: float
    difficult: str | None


@dataclass
class DominantSettings:
    """How boxes are drawn around attention."""

    alpha: Any  # a number, "chosen", or None for no boxes
    held_out: str | None


@dataclass
class RegionSettings:
    """Settings of ``python -m eval.regions``."""

    model: Any
    attention: Any
    scoring: EvalScoringSettings
    objects: str
    pointing: RegionPointingSettings
    dominant: DominantSettings
    square: bool
    output: str
    device: str
    data: Any = None
    proposals: Any = None
    name: str | None = None


@dataclass
class ProbabilitySettings:
    """Settings of ``python -m eval.probability``."""

    data: Any
    model: Any
    attention: Any
    proposals: Any
    scoring: EvalScoringSettings
    output: str
    device: str
    name: str | None = None


@dataclass
class DoctorSettings:
    """Settings of ``python -m eval.doctor``."""

    data: Any = None
    workers: int | None = None


@dataclass
class LeaderboardSettings:
    """Settings of ``python -m eval.leaderboard``."""

    results: str
    output: str
    tables: str | None
    regions: str | None
    readme: str | None
