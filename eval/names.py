"""Names that results and tables use: of the default model, of proposals, of settings, and of experiments."""

DEFAULT_MODEL = "efficientnet_lite2_places"  # results of other models name them
PROPOSALS = {"mcg": "MCG", "edge_boxes": "EB"}
# Settings that are part of a result's name once they are typed, or swept over, as what they are called there.
TYPED = {
    "model.name": "{}",
    "model.layer": "{}",
    "model.window": "window {}",
    "model.short_side": "{} pixels",
    "model.output_stride": "output stride {}",
    "attention.at": "at {}",
    "attention.signed": "{}",
    "attention.confidence": "{}",
    "attention.blur": "blur {}",
    "attention.renormalise": "renormalise {}",
    "attention.rule": "{}",
    "attention.alpha": "α {}",
    "attention.epsilon": "ε {}",
    "pointing.tolerance": "tolerance {}",
    "dominant.alpha": "α {} × mean",
}
# Experiments that measure on photos with named regions, and the table or figure of the paper that each repeats.
# ``python -m eval`` hands them over to ``python -m eval.regions``.
REGION_EXPERIMENTS = {"pointing_game": "table1", "dominant_objects": "table5"} | {
    name: name for name in ("table1", "table2", "table3", "table4", "table5", "figure6", "figure7")
}
