"""The paper's names for the options of ``attention=`` and ``proposals=``."""

METHODS = {"grad": "Grad", "deconv": "Deconv", "lrp": "LRP", "cam": "CAM", "mwp": "MWP", "cmwp": "c-MWP"}
PROPOSALS = {"mcg": "MCG", "edge_boxes": "EB"}
