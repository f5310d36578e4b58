"""``python -m eval.leaderboard``: write the page of our results and of what others have published."""

import logging
from pathlib import Path
from typing import Any

import hydra

from eval.settings import LeaderboardSettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR
from grounding.files import write_file
from grounding.messages import printable

log = logging.getLogger("leaderboard")


def main() -> None:
    """The command line."""
    run_command(run, "leaderboard_settings", LeaderboardSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="leaderboard", version_base="1.3")
def run(settings: Any) -> None:
    """Write the page; what goes wrong is logged."""
    attempt(lambda: write_page(settings), log, if_interrupted="nothing was written")


def write_page(settings: Any) -> bool:
    """Write the page of all saved results; True.

    Raises:
        ValueError: a setting is empty, there is no result, or a file is none.
        OSError: the page cannot be written.
    """
    from eval.leaderboard import leaderboard, read_results

    for name in ("results", "output"):
        if not settings[name].strip():
            raise ValueError(f"{name}= is empty")
    results = read_results(settings.results)
    output = Path(settings.output).expanduser()
    if not output.absolute().parent.is_dir():
        raise ValueError(f"output={settings.output}: no folder {output.parent}")
    write_file(output, leaderboard(results).encode())
    log.info("%s: %d result%s", printable(output), len(results), "s" * (len(results) != 1))
    return True


if __name__ == "__main__":
    main()
