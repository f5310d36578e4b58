"""``python -m eval``: score a method on phrases whose boxes people drew."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from eval.settings import EvalSettings
from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, build_part, grounder_settings, plain_settings
from grounding.files import write_file
from grounding.messages import printable

if TYPE_CHECKING:
    from eval.evaluate import Gammas, Predicted, Preset
    from eval.flickr30k import AnnotatedPhotos
    from eval.protocols import BoxProtocol
    from eval.records import Instance, Prediction

    # What says where all instances are, how γ is chosen, and where it all comes from; with the settings and `output`.
    Ask = Callable[[Any, AnnotatedPhotos, tuple[Instance, ...], Path], tuple[Predicted, Gammas, dict[str, Any]]]

log = logging.getLogger("eval")

DEFAULT = "efficientnet_lite2_tags"  # the model that a result need not name


def main() -> None:
    """The command line."""
    run_command(run, "eval_settings", EvalSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="eval", version_base="1.3")
def run(settings: Any) -> None:
    """Evaluate what the settings name; what goes wrong is logged, and a sweep goes on."""
    of_run = HydraConfig.get()
    typed = Typed(dict(of_run.runtime.choices), tuple(of_run.overrides.task))
    folder = Path(of_run.runtime.output_dir)
    attempt(
        lambda: evaluate(settings, typed, folder), log, if_interrupted="the same command goes on from the last photo"
    )


@dataclass(frozen=True)
class Typed:
    """What was typed on the command line."""

    choices: dict[str, str]  # of groups
    overrides: tuple[str, ...]


def evaluate(settings: Any, typed: Typed, folder: Path) -> bool:
    """Score a method, print its result and write it to ``output``, with the tables of all results there; True.

    Args:
        settings: of the command.
        typed: for the result to say how it came about.
        folder: of the run, for its own table and boxes.

    Raises:
        ValueError: a setting is wrong, data are missing, or a photo cannot be read.
        OSError: a result cannot be written.
    """
    data = plain_settings("data", settings.data)
    presets: dict[str, Preset] = {
        name: build_part(one) for name, one in plain_settings("presets", settings.presets).items()
    }
    chooser = check(settings, presets)
    photos = build_part(data)
    from rich.console import Console

    from eval.details import labels_csv, phrases_csv
    from eval.evaluate import choose, find_instances, has_maps, score_all, split_of
    from eval.flickr30k import AnnotatedPhotos
    from eval.kept import digest
    from eval.leaderboard import read_results
    from eval.manifest import origin
    from eval.report import print_result, write_tables

    if not isinstance(photos, AnnotatedPhotos):
        raise ValueError("only data=flickr30k has boxes to compare with")
    output = Path(settings.output).expanduser()
    ask = ask_file if settings.predictions is not None else load_model(settings, typed.choices)
    instances = find_instances(photos)
    split = split_of(photos, Path(data["entities"]).expanduser())
    predicted, gammas, manifest = ask(settings, photos, instances, output)
    gamma, tried = choose(predicted, gammas, chooser, split)
    known = predicted.known
    scores, judged, scored = score_all(predicted, gamma, presets, settings.calibration)
    identity, chosen_on = manifest.pop("identity"), manifest.pop("chosen_on")
    result = {
        "name": manifest.pop("name"),
        "format": 1,
        "manifest": {
            **origin(typed.overrides),
            "gamma": {"value": gamma, "chosen_on": chosen_on} if has_maps(predicted, gamma) else None,
            "calibration": settings.calibration,
            "data": typed.choices["data"],
            "split": split,
            "photos": len(photos.photos),
            "digest_of_photos": digest(sorted(photo.name for photo in photos.photos)),
            "captions": sum(len(photo.sentences) for photo in photos.photos),
            "phrases": len(instances),
            **manifest,
        },
        "coverage": None if known is None else {"phrases": len(known), "known": sum(known)},
        "seconds": None if predicted.clock is None else predicted.clock.to_dict(),
        "gammas": tried,
        "presets": scores,
    }
    of_run = [
        settings.calibration,
        settings.scoring.area_exponent,
        list(settings.gammas),
        plain_settings("presets", settings.presets),
    ]
    save(result, output / "results", digest(identity, of_run, result["manifest"]["digest_of_photos"])[:6])
    print_result(Console(), result)
    of_phrases = judged[settings.choose_by]
    write_file(folder / "phrases.csv", phrases_csv(of_phrases, known, small=chooser.small).encode())
    write_file(folder / "labels.csv", labels_csv(of_phrases).encode())
    if settings.export:
        export(instances, scored, folder)
    tables = write_tables(output, read_results(output / "results"))
    log.info("all results: %s", ", ".join(printable(path) for path in tables))
    log.info("ranks of all phrases and precision of all labels, by %s: %s", settings.choose_by, printable(folder))
    return True


def check(settings: Any, presets: "dict[str, Preset]") -> "BoxProtocol":
    """The preset that γ is chosen by; raises ValueError where a setting makes no sense, before anything is loaded."""
    from eval.metrics import CALIBRATIONS
    from eval.protocols import BoxProtocol

    boxes = {name: preset for name, preset in presets.items() if isinstance(preset, BoxProtocol)}
    if settings.choose_by not in boxes:
        raise ValueError(
            f"choose_by must be one of the presets of boxes ({', '.join(boxes)}), got {settings.choose_by}"
        )
    if settings.calibration not in CALIBRATIONS:
        raise ValueError(f"calibration must be one of {', '.join(CALIBRATIONS)}, got {settings.calibration!r}")
    if not settings.output.strip():
        raise ValueError("output= is empty")
    for gamma in settings.gammas:
        if not 0 <= gamma <= 10:
            raise ValueError(f"γ must be from 0 to 10, got {gamma}")
    if not settings.gammas:
        raise ValueError("gammas= is empty: give some γ to choose from")
    return boxes[settings.choose_by]


def load_model(settings: Any, choices: dict[str, str]) -> "Ask":
    """What asks the model that the settings describe; wrong ones fail here."""
    from eval.evaluate import Gammas, candidates, predict_all
    from eval.kept import ATTENDING, PROPOSING, SCORING, code, digest
    from eval.manifest import name_of_proposals, title
    from eval.predicting import Keeping
    from grounding.pipeline import Grounder
    from proposals import Stored

    built = grounder_settings(settings)
    parts = {"model": built.model, "attention": built.attention, "proposals": built.proposals}
    grounder = Grounder.from_settings(built)
    classifier, proposer = grounder.attention.classifier, grounder.propose
    stored = proposer.settings if isinstance(proposer, Stored) else None
    proposals = name_of_proposals(choices["proposals"], parts["proposals"], stored)
    model = choices["model"]
    if model == "checkpoint":
        model = Path(parts["model"]["checkpoint"]).name
    made_by = stored or parts["proposals"]
    weights, words = dict(classifier.network.state_dict()), classifier.vocabulary.units
    ways: dict[str, Any] = {"attention": parts["attention"], "model": classifier.settings()}
    of_maps = digest(code(*ATTENDING), ways, words, weights)
    of_regions = digest(
        *(of_maps, code(*SCORING), code(*PROPOSING) if stored is None else None),
        *(parts["proposals"], made_by, stamps(parts["proposals"]), built.overlap, built.clothing_weight),
    )
    counts = [each["count"] for each in (made_by, parts["proposals"]) if each.get("count")]
    of_proposals = {name: value for name, value in made_by.items() if name != "device"} | {
        "count": min(counts, default=None)
    }
    ways |= {"proposals": of_proposals, "overlap": built.overlap, "clothing_weight": built.clothing_weight}
    identity = digest(model, ways, words, weights)
    chooser = digest(identity, plain_settings("presets", settings.presets)[settings.choose_by])[:8]
    differences = [model] if model != DEFAULT else []
    usual = settings.attention.get("scoring", {}).get("clothing_weight", 0.0)
    differences += [f"clothing {built.clothing_weight:g}"] if built.clothing_weight != usual else []
    manifest = {
        "name": settings.name or title(choices["attention"], proposals, *differences),
        "model": model,
        "attention": choices["attention"],
        "proposals": proposals,
        "settings": ways,
        "identity": identity,
    }

    def ask(
        settings: Any, photos: "AnnotatedPhotos", instances: "tuple[Instance, ...]", output: Path
    ) -> "tuple[Predicted, Gammas, dict[str, Any]]":
        name = f"{model}, {manifest['attention']}, {proposals} ({chooser})"
        gammas = Gammas(name, settings.scoring.area_exponent, tuple(settings.gammas), output / "gammas.json")
        tried, where = candidates(gammas, photos, Path(settings.data.entities).expanduser())
        keeping = Keeping(output / "maps" / of_maps, output / "predictions" / digest(of_regions, tried))
        predicted = predict_all(photos, instances, grounder, tried, keeping)
        return predicted, gammas, manifest | {"chosen_on": where}

    return ask


def ask_file(
    settings: Any, photos: "AnnotatedPhotos", instances: "tuple[Instance, ...]", output: Path
) -> "tuple[Predicted, Gammas, dict[str, Any]]":
    """What another system said; there is no γ to choose."""
    from eval.evaluate import Gammas, of_file
    from eval.kept import digest
    from eval.predictions import read_predictions

    path = Path(settings.predictions).expanduser()
    scored = read_predictions(path, instances, first=settings.first)
    if scored.unused:
        few = ", ".join(scored.unused[:3])
        log.warning(
            "%d files are of phrases without boxes, such as %s: phrases count from first=%d among all that are marked",
            *(len(scored.unused), few, settings.first),
        )
    if scored.missing:
        few = ", ".join(scored.missing[:3])
        log.warning(
            "%d of %d phrases have no file, such as %s: they count as missed", len(scored.missing), len(instances), few
        )
    name = settings.name or path.stem
    manifest = {
        "name": name,
        "predictions": path.name,
        "identity": digest(name, str(path.absolute())),
        "chosen_on": None,
    }
    return of_file(instances, scored), Gammas(name, 0.0, (0.0,), output / "gammas.json"), manifest


def export(instances: "Sequence[Instance]", predictions: "Sequence[Prediction]", folder: Path) -> None:
    """Write all boxes in both forms that evaluations read."""
    from eval.predictions import write_json, write_text

    write_json(folder / "predictions.jsonl", instances, predictions)
    write_text(folder / "predictions", instances, predictions)
    log.info("boxes: %s and the folder predictions beside it", printable(folder / "predictions.jsonl"))


def save(result: dict[str, Any], folder: Path, identity: str) -> None:
    """Write a result by its name and split; one of the same settings and photos gives way."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (result["name"], result["manifest"]["split"] or "", identity)
    name = "_".join(re.sub(r"[^\w.-]+", "_", word).strip("_") for word in words if word)
    content = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_file(folder / f"{name}.json", content.encode())


def stamps(settings: dict[str, Any]) -> list[list[int]]:
    """Tells whether a file that settings name has changed."""
    paths = [Path(value).expanduser() for value in settings.values() if isinstance(value, str)]
    return [[path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.exists()]


if __name__ == "__main__":
    main()
