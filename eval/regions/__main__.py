"""``python -m eval.regions``: score a method on photos whose regions have names."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from eval.names import REGION_EXPERIMENTS
from eval.settings import RegionSettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.files import write_file
from grounding.messages import printable

if TYPE_CHECKING:
    from eval.methods import Method
    from eval.regions.measuring import Answer
    from eval.regions.photos import LabelledPhotos
    from eval.regions.result import RegionManifest
    from eval.regions.scores import Plan

log = logging.getLogger("regions")

NO_PROPOSALS = {"_target_": "eval.regions.measuring.propose_nothing", "_partial_": True}


def main() -> None:
    """The command line."""
    run_command(run, "regions_settings", RegionSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="regions", version_base="1.3")
def run(settings: Any) -> None:
    """Evaluate what the settings name; an error is logged, and a sweep continues with its next run."""
    hydra_run = HydraConfig.get()
    choices, overrides = hydra_run.runtime.choices, hydra_run.overrides.task
    folder = Path(hydra_run.runtime.output_dir)
    attempt(
        lambda: evaluate(settings, choices, overrides, folder),
        log,
        if_interrupted="the same command continues with the next photo",
    )


def evaluate(settings: Any, choices: Mapping[str, str | None], overrides: Sequence[str], folder: Path) -> bool:
    """Score a method on photos with named regions, print the result and write it to ``output``.

    Where the experiment repeats a table of the paper, all results there that belong to it are written beside it.

    Args:
        settings: the settings of the command.
        choices: the option that each group of settings has, such as ``{"attention": "cmwp"}``.
        overrides: the settings as they were typed, which the result records.
        folder: the folder of the run, for the answers one by one.

    Returns:
        True: the evaluation is complete.

    Raises:
        ValueError: a setting is wrong, data are missing, or a photo cannot be read.
        OSError: a result cannot be written.
    """
    from rich.console import Console
    from rich.progress import track

    photos = read_photos(settings)
    plan = read_plan(settings, photos)
    with_boxes = settings.proposals is not None and photos.have_boxes
    if not with_boxes:  # masks have no box to compare proposals with
        settings.proposals = NO_PROPOSALS
        choices = {**choices, "proposals": None}
    from eval.methods import open_method
    from eval.regions.measuring import measure
    from eval.regions.result import save_region_result
    from eval.regions.scores import score_answers
    from eval.regions.tables import print_region_result

    method = open_method(settings, choices, overrides)
    output = Path(settings.output).expanduser()
    kept = output / "answers" / answers_key(method)
    found = measure(method.grounder, photos, with_boxes=with_boxes, rules=plan.rules, kept=kept)
    bar = track(found, "photos", total=len(photos.photos), console=Console(stderr=True))
    answers = [answer for photo_answers in bar for answer in photo_answers]
    if not answers:
        raise ValueError(f"{photos.folder}: no photo has a named region")
    table = REGION_EXPERIMENTS.get(choices.get("experiment") or "")
    manifest = describe_run(
        method, photos, plan.scored(answers), table=table, asked=asked(settings), overrides=overrides
    )
    result = score_answers(answers, plan, name=method.attention_name, manifest=manifest)
    path = save_region_result(result, output / "results")
    write_file(folder / "answers.csv", answers_csv(answers).encode())
    print_region_result(Console(), result)
    log.info("%s; answers one by one: %s", printable(path), printable(folder / "answers.csv"))
    if table is not None:
        show_comparison(table, output)
    return True


def show_comparison(table: str, output: Path) -> None:
    """Write all results in ``output`` that belong to a table of the paper beside it.

    Raises:
        ValueError: another file in that folder is not a result, or two results have the same name and photos.
        OSError: the disk is full.
    """
    from eval.regions.files import write_comparison
    from eval.regions.result import read_region_results

    results = [result for result in read_region_results(output / "results") if result.table == table]
    log.info("all results: %s", ", ".join(printable(path) for path in write_comparison(output, table, results)))


def answers_key(method: "Method") -> str:
    """A digest of all that the answers of a method depend on, the photo and the rules aside."""
    from grounding.digests import code_digest, digest

    return digest(method.predictions_key, method.built.area_exponents, code_digest("eval.regions.measuring"))


def read_photos(settings: Any) -> "LabelledPhotos":
    """The photos with those of their named regions that take part.

    Raises:
        ValueError: the data have no named regions, or some are missing or damaged, or no output is named.
    """
    if not settings.output.strip():
        raise ValueError("output= is empty")
    photos = build_part(plain_settings("data", settings.data))
    from eval.regions.photos import LabelledPhotos, choose_objects

    if not isinstance(photos, LabelledPhotos):
        raise ValueError(
            "these data have no named regions: choose "
            "data=ade20k, clothing, coco, imagenet, subjects, voc or voc_animals"
        )
    return choose_objects(photos, settings.objects)


def read_plan(settings: Any, photos: "LabelledPhotos") -> "Plan":
    """How methods are asked and judged on these photos.

    Raises:
        ValueError: a setting is wrong, or a list is missing or does not fit the photos.
    """
    from eval.regions.difficult import read_difficult
    from eval.regions.dominant import read_held_out
    from eval.regions.measuring import Rules
    from eval.regions.scores import Plan

    difficult, alpha, held_out = settings.pointing.difficult, settings.dominant.alpha, settings.dominant.held_out
    rules = Rules(
        tolerance=settings.pointing.tolerance,
        difficult=None if difficult is None else read_difficult(difficult, photos),
        square=settings.square,
        has_alphas=alpha is not None,
    )
    return Plan(rules, alpha, frozenset() if held_out is None else read_held_out(held_out, photos.names))


def asked(settings: Any) -> dict[str, Any]:
    """The settings of objects, points and boxes, as a result records them."""
    lists = {"difficult": settings.pointing.difficult, "held_out": settings.dominant.held_out}
    return {
        "objects": settings.objects,
        "tolerance": settings.pointing.tolerance,
        "square": settings.square,
        "alpha": settings.dominant.alpha,
        **{name: None if path is None else Path(path).name for name, path in lists.items()},
    }


def describe_run(
    method: "Method",
    photos: "LabelledPhotos",
    answers: "Sequence[Answer]",
    *,
    table: str | None,
    asked: Mapping[str, Any],
    overrides: Sequence[str],
) -> "RegionManifest":
    """The manifest of a result on these answers."""
    from eval.manifest import command_of, commit, versions
    from eval.regions.result import RegionData, RegionManifest
    from grounding.digests import digest

    pairs = digest([(answer.photo, answer.name) for answer in answers])
    exponents = method.built.area_exponents if method.proposals else None
    settings = method.settings | {"area_exponents": exponents, **asked}
    return RegionManifest(
        command=command_of(overrides, module="eval.regions"),
        commit=commit(),
        date=date.today().isoformat(),
        versions=versions(),
        identity=digest(method.digest, settings, pairs),
        data=RegionData(
            name=photos.title,
            photos=len({answer.photo for answer in answers}),
            pairs=len(answers),
            digest=pairs,
        ),
        model=method.model,
        attention=method.attention,
        proposals=method.proposals,
        settings=settings,
        table=table,
    )


def answers_csv(answers: "Sequence[Answer]") -> str:
    """Write a table with a line for each photo and name; cells of boxes are empty where none were ranked."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("photo", "name", "known", "hit", "centre", "difficult", "rank", "iou", "outcome"))
    for answer in answers:
        judged = answer.judged
        boxes = ("", "", "") if judged is None else (judged.rank, f"{judged.first_iou:.4f}", judged.outcome)
        flags = (answer.is_known, answer.is_hit, answer.is_centre_hit, answer.is_difficult)
        writer.writerow((answer.photo, answer.name, *map(int, flags), *boxes))
    return text.getvalue()


if __name__ == "__main__":
    main()
