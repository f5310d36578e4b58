"""``python -m eval.doctor``: check a download of Flickr30k and Flickr30k Entities."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from eval.settings import DoctorSettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, plain_settings
from grounding.files import write_file
from grounding.messages import printable

if TYPE_CHECKING:
    from eval.doctor.checks import Finding
    from eval.doctor.survey import Facts, Places

log = logging.getLogger("doctor")

TARGET = "eval.flickr30k.annotated_photos"  # of data=flickr30k


def main() -> None:
    """The command line."""
    run_command(run, "doctor_settings", DoctorSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="doctor", version_base="1.3")
def run(settings: Any) -> None:
    """Check the download that the settings name; errors are logged."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    attempt(lambda: examine(settings, folder), log, if_interrupted="no check was finished")


def examine(settings: Any, folder: Path) -> bool:
    """Check the download, print the findings and write them to ``doctor.json`` in this folder.

    Returns whether nothing is wrong.

    Raises:
        ValueError: a setting is missing or wrong.
        OSError: the findings cannot be written, or a process died.
    """
    entities, photos, split = places_of(settings)
    if settings.workers is not None and settings.workers < 0:
        raise ValueError(f"workers must be at least 0, got {settings.workers}")
    from eval.doctor.checks import count

    started = time.monotonic()
    findings, facts, splits = findings_of(entities, photos, split, settings.workers)
    seconds = time.monotonic() - started
    for finding in findings:
        (log.error if finding.kind == "wrong" else log.info)("%s", printable(finding))
    wrong = sum(finding.kind == "wrong" for finding in findings)
    result = {
        "entities": str(entities),
        "photos": None if photos is None else str(photos),
        "split": split,
        "wrong": wrong,
        "findings": [asdict(finding) for finding in findings],
        "counts": {
            name: asdict(count(facts[photo] for photo in names if photo in facts)) for name, names in splits.items()
        },
        "seconds": round(seconds, 1),
    }
    path = folder / "doctor.json"
    write_file(path, json.dumps(result, indent=1).encode())
    summary = f"{wrong} of {len(findings)} findings are wrong" if wrong else "nothing is wrong"
    log.info("%s; files of %s photos read in %.1f s; %s", summary, f"{len(facts):,}", seconds, printable(path))
    return not wrong


def places_of(settings: Any) -> tuple[Path, Path | None, str | None]:
    """Return the folders of annotations and of photos and the split; photos and split may be None.

    Raises:
        ValueError: a setting is missing, or the data are of another kind.
    """
    from omegaconf import OmegaConf

    if settings.data is None:
        raise ValueError("data= is missing: data=flickr30k data.entities=FOLDER data.path=FOLDER")
    if settings.data.get("_target_") != TARGET:
        raise ValueError("only data=flickr30k can be checked")
    if OmegaConf.is_missing(settings.data, "path"):
        settings.data.path = None  # annotations alone can be checked
    values = plain_settings("data", settings.data)
    photos = None if values["path"] in (None, "", "null") else Path(values["path"]).expanduser()  # as quoted texts, too
    split = None if values["split"] is None else str(values["split"])
    return Path(values["entities"]).expanduser(), photos, split


def findings_of(
    entities: Path, photos: Path | None, split: str | None, workers: int | None
) -> "tuple[list[Finding], dict[str, Facts], dict[str, frozenset[str]]]":
    """Return the findings, the facts of each photo whose files were read, and the photos of each split."""
    from eval.doctor import checks
    from eval.doctor.survey import Places
    from eval.flickr30k import SPLITS, read_split

    findings = [checks.check_entities(entities, photos)]
    folder_finding = None if photos is None else checks.check_folder(photos, entities)
    if findings[0].kind == "wrong":
        return findings + ([folder_finding] if folder_finding else []), {}, {}
    splits, list_findings = checks.read_splits(entities)
    findings += list_findings
    wanted = None
    if split is not None:
        try:
            wanted = read_split(entities, split)
        except ValueError as error:
            findings.append(checks.Finding("wrong", f"data.split={split}: {error}", "name train, val, test or a list"))
    listed = frozenset().union(*splits.values())
    suffixes = {"Annotations": ".xml", "Sentences": ".txt"}
    present = {
        folder: {path.stem for path in (entities / folder).glob(f"*{suffix}")} for folder, suffix in suffixes.items()
    }
    known = listed.union(*present.values())
    jpegs = set() if photos is None or folder_finding else {path.stem for path in photos.glob("*.jpg")}
    decoded = frozenset(jpegs if wanted is None else jpegs & wanted) & known
    facts = _survey(sorted(known), Places(entities, photos, decoded), workers)
    findings += checks.check_files(listed if len(splits) == len(SPLITS) else known, facts.values(), present)
    findings += [
        checks.check_counts(name, checks.count(facts[photo] for photo in names)) for name, names in splits.items()
    ]
    findings.append(checks.check_unrelated(entities, facts))
    if photos is None:
        findings.append(checks.Finding("note", "photos were not checked; name their folder with data.path=FOLDER"))
    elif folder_finding:
        findings.append(folder_finding)
    else:
        findings += checks.check_photos(photos, jpegs, known, splits, wanted)
        if decoded:
            photo_facts = [facts[name] for name in sorted(decoded)]
            findings += checks.check_readable(photo_facts) + checks.check_sizes(photo_facts)
    return findings, facts, splits


def _survey(names: list[str], places: "Places", workers: int | None) -> "dict[str, Facts]":
    """Collect the facts of all photos while a bar shows the progress."""
    from rich.console import Console
    from rich.progress import track

    from eval.doctor.survey import survey
    from grounding.processes import cores

    found = survey(names, places, processes=cores() if workers is None else workers)
    console = Console(stderr=True)
    bar = track(found, "reading", len(names), console=console, transient=True, disable=not console.is_terminal)
    return {facts.name: facts for facts in bar}


if __name__ == "__main__":
    main()
