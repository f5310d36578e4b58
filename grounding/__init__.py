"""Ground the noun phrases of captions in photos, with words learned from tags and top-down attention."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grounding.pipeline import Grounder

__all__ = ["Grounder"]


def __getattr__(name: str) -> Any:
    # torch and spaCy take seconds to import; `python -m grounding --help` needs neither.
    if name == "Grounder":
        from grounding.pipeline import Grounder

        return Grounder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
