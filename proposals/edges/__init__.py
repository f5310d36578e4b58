"""Edges of a photo, their strength and orientation: the input of EdgeBoxes and of MCG's hierarchies."""

from proposals.edges.detector import EdgeDetector
from proposals.edges.maps import Edges, Floats, Pixels, gradient_edges, orientation_of, shrink, thin

__all__ = ["EdgeDetector", "Edges", "Floats", "Pixels", "gradient_edges", "orientation_of", "shrink", "thin"]
