"""The settings of ``python -m eval``, ``python -m eval.doctor`` and ``python -m eval.leaderboard``."""

from dataclasses import dataclass
from typing import Any


@dataclass
class EvalSettings:
    """What ``python -m eval`` takes."""

    data: Any
    model: Any
    attention: Any
    proposals: Any
    presets: Any
    gammas: list[float]
    choose_by: str
    calibration: str
    overlap: float
    worn: float
    first: int
    export: bool
    output: str
    device: str
    gamma: float | None = None
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
