"""Region proposals: regions of a photo that may be objects, best first, whatever the words."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proposals.edge_boxes import EdgeBoxes
    from proposals.mcg import MCG, SCG
    from proposals.published import Published
    from proposals.store import Stored

__all__ = ["MCG", "SCG", "EdgeBoxes", "Published", "Stored"]

_HOMES = {"EdgeBoxes": "edge_boxes", "MCG": "mcg", "SCG": "mcg", "Published": "published", "Stored": "store"}


def __getattr__(name: str) -> Any:
    # torch and numba take seconds to import; `python -m proposals --help` needs neither.
    if name in _HOMES:
        return getattr(import_module(f"proposals.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
