"""Top-down attention: where in a photo a network sees a word."""

from grounding.attention.activation_map import CAM
from grounding.attention.attended import Attended, MassTracking
from grounding.attention.contrast import Contrast
from grounding.attention.deterministic import DeterministicWTA
from grounding.attention.excitation import ExcitationBackprop
from grounding.attention.fixed import Centre, ProposalOrder
from grounding.attention.gradients import Deconv, Grad
from grounding.attention.mixture import Mixture
from grounding.attention.relevance import LRP

__all__ = [
    "CAM",
    "LRP",
    "Attended",
    "Centre",
    "Contrast",
    "Deconv",
    "DeterministicWTA",
    "ExcitationBackprop",
    "Grad",
    "MassTracking",
    "Mixture",
    "ProposalOrder",
]
