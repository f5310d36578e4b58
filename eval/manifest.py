"""What a result says of its origin: how to run it again, and on what it was measured."""

import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.names import METHODS, PROPOSALS
from grounding.quoting import PATHS

PACKAGES = ("phrase-grounding", "torch", "timm", "spacy")


def origin(overrides: Sequence[str]) -> dict[str, Any]:
    """The command, the commit of the code, today's date and the versions of what it is made of.

    Of paths on the command line only the last name is told.
    """
    return {
        "command": " ".join(("python -m eval", *map(_without_folders, overrides))),
        "commit": _commit(),
        "date": date.today().isoformat(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _without_folders(override: str) -> str:
    name, _, value = override.partition("=")
    return f"{name}={Path(value.strip(chr(39))).name}" if name in PATHS else override


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of a checkout, with a + where files differ from it; None in an installed package."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        ran = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
        return ran.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
        return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def name_of_proposals(choice: str, settings: Mapping[str, Any], stored: Mapping[str, Any] | None) -> str:
    """What made the proposals, such as ``mcg``, with their number where it is not 500; stored ones are what they were.

    Args:
        choice: of ``proposals=``.
        settings: of the proposals.
        stored: settings of the proposals in a file, where they are stored.
    """
    if stored is not None:
        names = {"proposals.MCG": "mcg", "proposals.EdgeBoxes": "edge_boxes"}
        choice = names.get(str(stored.get("_target_")), "stored")
        if choice == "mcg" and list(stored.get("scales", ())) == [1.0]:
            choice = "scg"
        counts = [int(count) for count in (stored.get("count"), settings.get("count")) if count]
        settings = {"count": min(counts, default=None)}
    count = settings.get("count")
    return choice if count in (None, 500) or choice.endswith(str(count)) else f"{choice}_{count}"


def title(attention: str, proposals: str, *differences: str) -> str:
    """The name of a result as in the paper's tables, such as "c-MWP (MCG)"; without attention, "MCG_base".

    What differs from the usual settings comes first, such as "worn 0.6", so that none of the paper's names is left.
    """
    of_proposals = PROPOSALS.get(proposals, proposals)
    usual = (
        f"{of_proposals}_base"
        if attention == "proposal_order"
        else f"{METHODS.get(attention, attention)} ({of_proposals})"
    )
    return ", ".join((*differences, usual))
