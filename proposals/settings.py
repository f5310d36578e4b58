"""The settings of ``python -m proposals``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ProposeSettings:
    """What ``python -m proposals`` takes."""

    proposals: Any
    output: str
    data: Any = None
    image: list[str] = field(default_factory=list)
    workers: int | None = None
    draw: int = 0
