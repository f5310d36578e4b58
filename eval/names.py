"""Names that results and tables use: the default model, and the paper's names for proposals."""

DEFAULT_MODEL = "efficientnet_lite2_places"  # results of other models name them
PROPOSALS = {"mcg": "MCG", "edge_boxes": "EB"}
