"""Top-down attention: where in a photo a network sees a word."""

from grounding.attention.activation_map import CAM
from grounding.attention.excitation import ExcitationBackprop
from grounding.attention.fixed import Centre, ProposalOrder
from grounding.attention.gradients import Deconv, Grad
from grounding.attention.mixture import Mixture
from grounding.attention.relevance import LRP

__all__ = ["CAM", "LRP", "Centre", "Deconv", "ExcitationBackprop", "Grad", "Mixture", "ProposalOrder"]
