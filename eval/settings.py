"""The settings of ``python -m eval``, ``python -m eval.doctor`` and ``python -m eval.leaderboard``."""

from dataclasses import dataclass
from typing import Any


@dataclass
class EvalScoringSettings:
    """How regions are scored and thinned out; what is None is chosen, or the attention method's own."""

    area_exponent: Any  # None, a number, or a number each for segments and boxes
    overlap: float
    clothing_weight: float | None


@dataclass
class EvalSettings:
    """What ``python -m eval`` takes."""

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
class DoctorSettings:
    """What ``python -m eval.doctor`` takes."""

    data: Any = None
    workers: int | None = None


@dataclass
class LeaderboardSettings:
    """What ``python -m eval.leaderboard`` takes."""

    results: str
    output: str
    tables: str | None
    readme: str | None
