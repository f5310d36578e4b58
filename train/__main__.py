"""``python -m train``: train the networks and forests that the other commands use."""

import logging
from pathlib import Path
from typing import Any

import hydra

from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.messages import printable
from train.settings import TrainSettings

log = logging.getLogger("train")


def main() -> None:
    """The command line."""
    run_command(run, "train_settings", TrainSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="train", version_base="1.3")
def run(settings: Any) -> None:
    """Run the task that the settings name; an error is logged, and a sweep continues with its next run."""
    attempt(
        lambda: train(settings),
        log,
        if_interrupted="the same command resumes a run of tags or edges from its last saved state",
    )


def train(settings: Any) -> bool:
    """Run a task, log the path of its result, and return True.

    Raises:
        ValueError: a setting is wrong, or data are missing.
        OSError: the result cannot be written.
    """
    import torch

    task = plain_settings("task", settings.task)
    # A network without pretrained weights draws random ones before its task is called.
    torch.manual_seed(task.get("training", {}).get("seed", 0))
    written: Path = build_part(task)
    log.info("written: %s", printable(written))
    return True


if __name__ == "__main__":
    main()
