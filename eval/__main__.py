"""``python -m eval``: score a method on phrases whose boxes people drew.

Experiments on photos whose regions have names, such as ``experiment=table1``, are handed over to `eval.regions`.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from eval.names import REGION_EXPERIMENTS
from eval.settings import EvalSettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.files import write_file
from grounding.messages import printable

if TYPE_CHECKING:
    from eval.flickr30k import AnnotatedPhotos
    from eval.gammas import ChosenGamma
    from eval.protocols import Rules
    from eval.records import Instance, Prediction
    from eval.result import Manifest, MeasuredPhotos, Result
    from eval.scores import Scores
    from eval.sources import Origin

log = logging.getLogger("eval")


def main() -> None:
    """The command line."""
    if any(argument in map("experiment={}".format, REGION_EXPERIMENTS) for argument in sys.argv[1:]):
        from eval.regions.__main__ import main as measure_regions

        measure_regions()
    else:
        run_command(run, "eval_settings", EvalSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="eval", version_base="1.3")
def run(settings: Any) -> None:
    """Evaluate what the settings name; an error is logged, and a sweep continues with its next run."""
    hydra_run = HydraConfig.get()
    typed = Typed(dict(hydra_run.runtime.choices), tuple(hydra_run.overrides.task))
    folder = Path(hydra_run.runtime.output_dir)
    attempt(
        lambda: evaluate(settings, typed, folder),
        log,
        if_interrupted="the same command continues with the next photo",
    )


@dataclass(frozen=True)
class Typed:
    """The command line as it was typed."""

    choices: Mapping[str, str]  # the option that each group of settings has, such as {"attention": "cmwp"}
    overrides: tuple[str, ...]


def evaluate(settings: Any, typed: Typed, folder: Path) -> bool:
    """Score a method, print its result and write it to ``output``, with the tables of all results there.

    Args:
        settings: the settings of the command.
        typed: the command line, which the result records.
        folder: the folder of the run, for the details of phrases and labels, and for exported boxes.

    Returns:
        True: the evaluation is complete.

    Raises:
        ValueError: a setting is wrong, data are missing, or a photo cannot be read.
        OSError: a result cannot be written.
    """
    rules = read_rules(settings)
    photos = read_photos(settings)
    from eval.gammas import choose_gamma, save_choice
    from eval.measured import describe_photos, find_instances
    from eval.result import Result, save_result
    from eval.scores import count_known, score_presets, summarise_reached
    from eval.sources import open_source

    source = open_source(settings, typed.choices, typed.overrides, grid=rules.gammas)
    instances = find_instances(photos)
    measured = describe_photos(
        photos, instances, name=typed.choices["data"], entities_folder=Path(settings.data.entities).expanduser()
    )
    candidates = source.candidates(photos)
    predictions = source.predict(photos, instances, candidates.values)
    gamma = choose_gamma(instances, predictions, candidates, rules.chooser)
    save_choice(gamma, candidates, measured)
    scores = score_presets(instances, predictions, gamma.value, rules)
    chosen = predictions.by_gamma[gamma.value]
    result = Result(
        name=source.origin.name,
        manifest=describe_run(source.origin, typed.overrides, measured, gamma, rules),
        presets=scores.presets,
        gammas=gamma.tried,
        coverage=count_known(chosen),
        reached=summarise_reached(chosen),
        timing=predictions.timing,
    )
    output = Path(settings.output).expanduser()
    save_result(result, output / "results")
    write_details(scores, chosen, rules, folder)
    if settings.export:
        export(instances, chosen, rules.calibration, folder)
    show(result, output)
    return True


def read_rules(settings: Any) -> "Rules":
    """The rules that the settings describe.

    Raises:
        ValueError: a setting makes no sense.
    """
    from eval.protocols import Rules

    if not settings.output.strip():
        raise ValueError("output= is empty")
    presets = plain_settings("presets", settings.presets)
    return Rules(
        presets={name: build_part(preset) for name, preset in presets.items()},
        choose_by=settings.choose_by,
        calibration=settings.calibration,
        gammas=tuple(settings.gammas),
    )


def read_photos(settings: Any) -> "AnnotatedPhotos":
    """The photos with their captions and boxes.

    Raises:
        ValueError: the data have no boxes, or some are missing or damaged.
    """
    photos = build_part(plain_settings("data", settings.data))
    from eval.flickr30k import AnnotatedPhotos

    if not isinstance(photos, AnnotatedPhotos):
        raise ValueError("only data=flickr30k has boxes to compare with")
    return photos


def describe_run(
    origin: "Origin", overrides: Sequence[str], measured: "MeasuredPhotos", gamma: "ChosenGamma", rules: "Rules"
) -> "Manifest":
    """The manifest of a result."""
    from eval.manifest import command_of, commit, versions
    from eval.result import Manifest
    from grounding.digests import digest

    presets = {name: asdict(preset) for name, preset in rules.presets.items()}
    return Manifest(
        command=command_of(overrides),
        commit=commit(),
        date=date.today().isoformat(),
        versions=versions(),
        identity=digest(origin.identity, measured.digest, presets, rules.choose_by, rules.calibration),
        data=measured,
        model=origin.model,
        attention=origin.attention,
        proposals=origin.proposals,
        predictions=origin.predictions,
        settings=origin.settings,
        gamma=gamma.recorded,
        calibration=rules.calibration,
        supervision=gamma.supervision,
    )


def write_details(scores: "Scores", predictions: "Sequence[Prediction]", rules: "Rules", folder: Path) -> None:
    """Write the ranks of all phrases and the precision of all labels to the folder of the run.

    Raises:
        OSError: the disk is full.
    """
    from eval.details import labels_csv, phrases_csv

    phrases = phrases_csv(scores.judged, predictions, small=rules.chooser.small)
    write_file(folder / "phrases.csv", phrases.encode())
    write_file(folder / "labels.csv", labels_csv(scores.judged).encode())
    log.info("ranks of all phrases and precision of all labels, by %s: %s", rules.choose_by, printable(folder))


def export(
    instances: "Sequence[Instance]", predictions: "Sequence[Prediction]", calibration: str, folder: Path
) -> None:
    """Write all boxes, with calibrated scores, in both forms that evaluations read.

    Raises:
        OSError: the disk is full.
    """
    from eval.judging import calibrated
    from eval.predictions import write_json, write_text

    scored = [calibrated(prediction, calibration) for prediction in predictions]
    write_json(folder / "predictions.jsonl", instances, scored)
    write_text(folder / "predictions", instances, scored)
    log.info("boxes: %s and the folder predictions beside it", printable(folder / "predictions.jsonl"))


def show(result: "Result", output: Path) -> None:
    """Print a result, and write the tables of all results in ``output``.

    Raises:
        ValueError: another file in that folder is not a result.
        OSError: the disk is full.
    """
    from rich.console import Console

    from eval.result import read_results
    from eval.tables.console import print_result
    from eval.tables.files import write_tables

    print_result(Console(), result)
    tables = write_tables(output, read_results(output / "results"))
    log.info("all results: %s", ", ".join(printable(path) for path in tables))


if __name__ == "__main__":
    main()
