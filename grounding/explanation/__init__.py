"""Explain a classifier: which classes it sees in a photo, and where the evidence for each of them is."""

from grounding.explanation.explainer import Explainer, explain
from grounding.explanation.records import Explanation

__all__ = ["Explainer", "Explanation", "explain"]
