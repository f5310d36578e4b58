"""Where a result comes from: its command, commit and versions, and the names of its method and proposals."""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.names import PROPOSALS, TYPED
from grounding.names import METHODS
from grounding.quoting import PATHS

PACKAGES = ("phrase-grounding", "torch", "timm", "spacy")


def command_of(overrides: Sequence[str], *, module: str = "eval") -> str:
    """The command of a run; of paths on the command line only the last name is told."""
    return " ".join((f"python -m {module}", *map(_without_folders, overrides)))


def commit() -> str | None:
    """The commit of a checkout, with a + where files differ from it; None in an installed package.

    An installed package may lie in a folder of another repository, whose commit says nothing about it.
    """

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        ran = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
        return ran.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
        return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on most."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _without_folders(override: str) -> str:
    name, _, value = override.partition("=")
    return f"{name}={Path(value.strip(chr(39))).name}" if name in PATHS else override


def name_of_proposals(choice: str, settings: Mapping[str, Any], stored: Mapping[str, Any] | None) -> str:
    """The name of the proposals, such as ``mcg``, with their number where it is not 500.

    Stored proposals have the name of the method that computed them.

    Args:
        choice: option of ``proposals=``.
        settings: the settings of the proposals.
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


def title(attention: str, proposals: str | None, *differences: str, typed: Sequence[str] = ()) -> str:
    """The name of a result as in the paper's tables, such as "c-MWP (MCG)"; without attention, "MCG_base".

    Without proposals, it is the name of the attention alone, and what was typed follows it.

    Differences from the usual settings come first, so that the name is none of the paper's any more.

    >>> title("cmwp", "mcg")
    'c-MWP (MCG)'
    >>> title("cmwp", "edge_boxes", "googlenet", "clothing 0.6")
    'googlenet, clothing 0.6, c-MWP (EB)'
    >>> title("cmwp", None, "googlenet", typed=["maxpool3"])
    'googlenet, c-MWP, maxpool3'
    """
    if proposals is None:
        return ", ".join((*differences, METHODS.get(attention, attention), *typed))
    paper_proposals = PROPOSALS.get(proposals, proposals)
    if attention == "proposal_order":
        usual = f"{paper_proposals}_base"
    else:
        usual = f"{METHODS.get(attention, attention)} ({paper_proposals})"
    return ", ".join((*differences, *typed, usual))


def typed_settings(overrides: Sequence[str], *, without: Sequence[str] = ()) -> list[str]:
    """The settings of `TYPED` among what was typed, as the name of a result tells them.

    Args:
        overrides: the settings as they were typed.
        without: settings that take no part.

    >>> typed_settings(["attention=cmwp", "model.layer=maxpool3", "model.window=null"])
    ['maxpool3', 'no window']
    """
    typed = {name.lstrip("+"): value.strip("'") for name, _, value in (each.partition("=") for each in overrides)}
    return [
        "no window" if value == "null" else TYPED[name].format(value)
        for name, value in typed.items()
        if name in TYPED and name not in without
        if value != "null" or name == "model.window"  # elsewhere, null is the usual
    ]
