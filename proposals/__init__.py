"""Region proposals: where in a photo something may be, best first, before any word is said."""

from proposals.edge_boxes import EdgeBoxes

__all__ = ["EdgeBoxes"]
