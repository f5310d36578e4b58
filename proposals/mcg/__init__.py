"""Multiscale combinatorial grouping (MCG, Pont-Tuset et al. 2017), and SCG, which has a single scale.

edges at each scale --hierarchy--> trees over one partition --candidates--> groups of regions
--outlines, duplicates--> distinct groups with features --ranking--> segments, best first
"""

from proposals.mcg.method import LONGEST_SIDE, MCG, MCG_CANDIDATES, SCG, find_hierarchies, to_segments

__all__ = ["LONGEST_SIDE", "MCG", "MCG_CANDIDATES", "SCG", "find_hierarchies", "to_segments"]
