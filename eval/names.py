"""Names that results and tables use: the default model, and the paper's names for attention and proposals."""

DEFAULT_MODEL = "efficientnet_lite2_places"  # results of other models name them
METHODS = {"grad": "Grad", "deconv": "Deconv", "lrp": "LRP", "cam": "CAM", "mwp": "MWP", "cmwp": "c-MWP"}
PROPOSALS = {"mcg": "MCG", "edge_boxes": "EB"}
