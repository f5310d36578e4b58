"""The settings of the commands, composed as on their command lines."""

from hydra import compose, initialize_config_dir

from eval.settings import DoctorSettings, EvalSettings, LeaderboardSettings, ProbabilitySettings, RegionSettings
from grounding.command_line import register_settings
from grounding.config import CONFIG_DIR, CompareSettings, DemoSettings, ExplainSettings, GroundSettings, OnnxSettings
from proposals.settings import ProposeSettings
from train.settings import TrainSettings

# Overrides for a grounder that takes a fraction of a second for a photo: c-MWP on small photos, boxes over gradients.
QUICK = ("attention=cmwp", "model.short_side=256", "proposals=edge_boxes", "proposals.edges=gradient")
SETTINGS = {
    "ground": GroundSettings,
    "explain": ExplainSettings,
    "compare": CompareSettings,
    "onnx": OnnxSettings,
    "demo": DemoSettings,
    "propose": ProposeSettings,
    "train": TrainSettings,
    "eval": EvalSettings,
    "regions": RegionSettings,
    "probability": ProbabilitySettings,
    "doctor": DoctorSettings,
    "leaderboard": LeaderboardSettings,
}


def composed(*overrides, config="ground", **options):
    """The settings of a command with these overrides."""
    register_settings(f"{config}_settings", SETTINGS[config])
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return compose(config, overrides=list(overrides), **options)
