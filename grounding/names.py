"""The paper's names for attention methods, by the names of their options in ``conf/attention``."""

METHODS = {"grad": "Grad", "deconv": "Deconv", "lrp": "LRP", "cam": "CAM", "mwp": "MWP", "cmwp": "c-MWP"}
