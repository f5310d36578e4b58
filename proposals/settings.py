"""The settings of ``python -m proposals``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ProposeSettings:
    """The settings of ``python -m proposals``; misspelt or mistyped ones fail before anything is computed."""

    proposals: Any  # the method, a group of settings
    output: str  # the store
    data: Any = None  # photos of a data set, a group of settings
    image: list[str] = field(default_factory=list)  # photos, folders and globs
    workers: int | None = None  # processes; None for one on each core
    draw: int = 0  # regions in a picture of each photo; 0 for no pictures
