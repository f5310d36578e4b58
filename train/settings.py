"""The settings of ``python -m train``."""

from dataclasses import dataclass
from typing import Any


@dataclass
class TrainSettings:
    """The settings of ``python -m train``; ``model``, ``data`` and ``validation`` are for the tag classifier."""

    task: Any = None
    model: Any = None
    data: Any = None
    validation: Any = None
