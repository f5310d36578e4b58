"""``python -m eval.probability``: fit the probability that best boxes are right, and measure what it is worth."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from eval.settings import ProbabilitySettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.files import png_bytes, write_file
from grounding.messages import printable

if TYPE_CHECKING:
    from eval.flickr30k import AnnotatedPhotos

log = logging.getLogger("probability")


def main() -> None:
    """The command line."""
    run_command(run, "probability_settings", ProbabilitySettings)


@hydra.main(config_path=CONFIG_DIR, config_name="probability", version_base="1.3")
def run(settings: Any) -> None:
    """Fit what the settings name; an error is logged, and a sweep continues with its next run."""
    hydra_run = HydraConfig.get()
    choices, overrides = hydra_run.runtime.choices, hydra_run.overrides.task
    attempt(
        lambda: calibrate(settings, choices, overrides),
        log,
        if_interrupted="the same command continues with the next photo",
    )


def calibrate(settings: Any, choices: Mapping[str, str], overrides: Sequence[str]) -> bool:
    """Ask all photos, fit the calibration, measure it by cross-validation, and write both to ``output``.

    Args:
        settings: the settings of the command.
        choices: the option that each group of settings has, such as ``{"attention": "best"}``.
        overrides: the settings as they were typed, which the figures record.

    Returns:
        True: the calibration is written.

    Raises:
        ValueError: a setting is wrong, data are missing, or a photo is of the test split.
        OSError: a file cannot be written.
    """
    photos = read_photos(settings)
    from rich.console import Console
    from rich.progress import track

    from eval.manifest import command_of, commit
    from eval.measured import split_of
    from eval.methods import open_method
    from eval.probability.asking import ask_all
    from eval.probability.fitting import fit_present, fit_right, held_out
    from eval.probability.measuring import HeldOut, gather, measure
    from eval.probability.picture import draw_reliability
    from grounding.digests import code_digest, digest
    from grounding.probability import Calibration, describe_parts

    method = open_method(settings, choices, overrides)
    output = Path(settings.output).expanduser()
    key = digest(method.predictions_key, method.built.area_exponents, code_digest("eval.probability.asking"))
    asked = ask_all(photos.photos, method.grounder, output / "answers" / key)
    bar = track(asked, "photos", total=len(photos.photos), console=Console(stderr=True))
    answers = gather(list(bar))
    found = HeldOut(held_out(answers, fit_right), held_out(answers, fit_present))
    figures = measure(answers, found)
    origin = {
        "name": method.name,
        "command": command_of(overrides, module="eval.probability"),
        "commit": commit(),
        "date": date.today().isoformat(),
        "split": split_of(photos, Path(settings.data.entities).expanduser()),
    }
    everything = answers.photos >= 0
    proposals = method.stored or method.built.proposals
    calibration = Calibration(
        fitted_for=describe_parts(method.grounder.attention, method.built, proposals),
        fitted_on={**origin, "photos": figures["photos"], "phrases": figures["phrases"]},
        right=fit_right(answers, everything),
        present=fit_present(answers, everything),
    )
    write_file(output / "calibrations.json", _as_json([asdict(calibration)]))
    write_file(output / "figures.json", _as_json({**origin, **figures}))
    write_file(output / "reliability.png", png_bytes(draw_reliability(figures, answers.is_own, found)))
    show(figures)
    log.info("calibrations.json, figures.json and reliability.png are in %s", printable(output))
    return True


def read_photos(settings: Any) -> "AnnotatedPhotos":
    """The photos with their captions and boxes.

    Raises:
        ValueError: the data have no boxes, some are missing or damaged, or a photo is of the test split.
    """
    if not settings.output.strip():
        raise ValueError("output= is empty")
    photos = build_part(plain_settings("data", settings.data))
    from eval.flickr30k import AnnotatedPhotos, read_split

    if not isinstance(photos, AnnotatedPhotos):
        raise ValueError("only data=flickr30k has boxes to compare with")
    entities = Path(settings.data.entities).expanduser()
    if not read_split(entities, "test").isdisjoint(photo.name for photo in photos.photos):
        raise ValueError("probabilities are fitted with the boxes of photos: use photos of val, not of the test split")
    return photos


def show(figures: Mapping[str, Any]) -> None:
    """Log the figures."""
    for name, value in figures.items():
        entries = value if isinstance(value, list) else value.items() if isinstance(value, dict) else [value]
        for entry in entries:
            log.info("%s: %s", name.replace("_", " "), _rounded(entry))


def _rounded(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_rounded(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_rounded, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _as_json(values: Any) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


if __name__ == "__main__":
    main()
