"""Top-down attention: where in a photo a network sees a word."""

from grounding.attention.excitation import ExcitationBackprop

__all__ = ["ExcitationBackprop"]
