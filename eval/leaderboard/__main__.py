"""``python -m eval.leaderboard``: write the pages of our results and of published ones."""

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

NOT_WRITTEN = (None, "null")  # paths are quoted, and so is null


def main() -> None:
    """The command line."""
    run_command(run, "leaderboard_settings", LeaderboardSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="leaderboard", version_base="1.3")
def run(settings: Any) -> None:
    """Write the pages; errors are logged."""
    attempt(lambda: write_pages(settings), log, if_interrupted="nothing was written")


def write_pages(settings: Any) -> bool:
    """Write the pages of all saved results; True.

    Raises:
        ValueError: a setting is empty, there is no result, a file is not a result, or README.md lacks its markers.
        OSError: a page cannot be written.
    """
    from eval.leaderboard.page import leaderboard
    from eval.leaderboard.readme import readme_block, replace_block
    from eval.leaderboard.results_page import results_page
    from eval.regions.result import read_region_results
    from eval.result import read_results

    for name in ("results", "output", "tables", "regions", "readme"):
        if settings[name] is not None and not settings[name].strip():
            raise ValueError(f"{name}= is empty")
    results = read_results(settings.results)
    has_regions = settings.regions not in NOT_WRITTEN and Path(settings.regions).expanduser().is_dir()
    region_results = read_region_results(settings.regions) if has_regions else []
    pages = {_page_path("output", settings.output): leaderboard(results, region_results)}
    if settings.tables not in NOT_WRITTEN:
        pages[_page_path("tables", settings.tables)] = results_page(results, region_results)
    if settings.readme not in NOT_WRITTEN:
        readme = _page_path("readme", settings.readme)
        try:
            pages[readme] = replace_block(readme.read_text(encoding="utf-8"), readme_block(results))
        except ValueError as error:
            raise ValueError(f"{settings.readme}: {error}; readme=null leaves it alone") from None
    for path, content in pages.items():  # only once all of them are made
        write_file(path, content.encode())
        log.info("%s: %d result%s", printable(path), len(results), "s" * (len(results) != 1))
    return True


def _page_path(name: str, setting: str) -> Path:
    path = Path(setting).expanduser()
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{name}={setting}: no folder {path.parent}")
    return path


if __name__ == "__main__":
    main()
