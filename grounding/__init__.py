"""Ground the noun phrases of captions in photos, with words learned from tags and top-down attention.

`explain` shows where any classifier sees the evidence for its classes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grounding.explanation.explainer import explain
    from grounding.pipeline import Grounder

__all__ = ["Grounder", "explain"]


def __getattr__(name: str) -> Any:
    # torch and spaCy take seconds to import; `python -m grounding --help` needs neither.
    if name == "Grounder":
        from grounding.pipeline import Grounder

        return Grounder
    if name == "explain":
        from grounding.explanation.explainer import explain

        return explain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
