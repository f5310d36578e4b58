"""Evaluate a grounder, or a file of predictions, on phrases whose boxes people drew: from photos to one result.

γ is chosen on photos that are not of the test split, for each model, attention and proposals, and kept in a file;
photos of the test split are scored with the γ of that file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.flickr30k import SPLITS, AnnotatedPhotos, instances, read_split
from eval.metrics import Judged, calibrate, judge_all, recalls, score_judged
from eval.pointing import entities, score_pointing
from eval.predicting import Clock, Keeping, predict
from eval.predictions import ScoredBoxes
from eval.protocols import BoxProtocol, PointingProtocol
from eval.records import Instance, Prediction
from grounding.files import write_file
from grounding.pipeline import Grounder

Preset = BoxProtocol | PointingProtocol

DEPTHS = ("1", "5", "10")  # what γ is chosen by: the mean of these recalls
OURS = Path(__file__).parent / "gammas.json"  # chosen on the val photos of the README


@dataclass(frozen=True)
class Gammas:
    """How γ is found.

    Args:
        name: of the model, the attention and the proposals together: each has its own γ.
        value: γ itself; None where it is to be chosen or looked up.
        candidates: to choose from.
        file: where what was chosen is kept.
    """

    name: str
    value: float | None
    candidates: tuple[float, ...]
    file: Path


@dataclass(frozen=True, eq=False)
class Predicted:
    """What is said of all photos, in order, and how long it took."""

    instances: tuple[Instance, ...]
    by_gamma: dict[float, list[Prediction]]
    of_entities: list[Prediction] | None = None  # these three: where a model was asked
    known: list[bool] | None = None  # whether an instance has a known word
    clock: Clock | None = None


def find_instances(photos: AnnotatedPhotos) -> tuple[Instance, ...]:
    """All phrases with boxes.

    Raises:
        ValueError: there is none.
    """
    from rich.console import Console
    from rich.progress import track

    bar = track(photos.photos, "captions", console=Console(stderr=True), transient=True)
    found = tuple(instance for photo in bar for instance in instances(photo))
    if not found:
        raise ValueError(f"{photos.folder}: no phrase of these {len(photos.photos)} photos has a box")
    return found


def predict_all(
    photos: AnnotatedPhotos, things: Sequence[Instance], grounder: Grounder, gammas: Sequence[float], keeping: Keeping
) -> Predicted:
    """Where a grounder says that all instances are; photos that are finished are not looked at again.

    Raises:
        ValueError: a photo cannot be read: nothing is scored without it.
        OSError: what is found cannot be kept.
    """
    from rich.console import Console
    from rich.progress import track

    of_photo: dict[str, list[Instance]] = {}
    for thing in things:
        of_photo.setdefault(thing.photo, []).append(thing)
    by_gamma: dict[float, list[Prediction]] = {gamma: [] for gamma in gammas}
    of_entities: list[Prediction] = []
    known: list[bool] = []
    clock = Clock()
    with_phrases = [photo for photo in photos.photos if photo.name in of_photo]
    for photo in track(with_phrases, "photos", console=Console(stderr=True)):
        found = predict(photo, of_photo[photo.name], grounder, gammas, keeping, clock)
        for gamma, predictions in found.by_gamma.items():
            by_gamma[gamma] += predictions
        of_entities += found.of_entities
        known += found.known
    return Predicted(tuple(things), by_gamma, of_entities, known, clock)


def of_file(things: Sequence[Instance], scored: ScoredBoxes) -> Predicted:
    """Boxes that another system scored."""
    return Predicted(tuple(things), {0.0: list(scored.predictions)})


def candidates(gammas: Gammas, photos: AnnotatedPhotos, entities_folder: Path) -> tuple[tuple[float, ...], str]:
    """The γ to try, one where it is given or looked up, several where it is to be chosen; and where they come from.

    Raises:
        ValueError: photos of the test split are among them, or may be, and no γ was chosen on others.
    """
    if gammas.value is not None:
        return (gammas.value,), "the command line"
    names = {photo.name for photo in photos.photos}
    if not (entities_folder / "test.txt").is_file():
        raise ValueError(
            f"{entities_folder}: no test.txt, the list of the test split, on which γ must not be chosen: unpack it, or "
            "give gamma="
        )
    if read_split(entities_folder, "test").isdisjoint(names):
        tried = tuple(sorted(set(gammas.candidates)))
        return tried, f"{len(names)} photos" if len(tried) > 1 else "the command line"
    saved = read_gammas(OURS) | read_gammas(gammas.file)
    if gammas.name not in saved:
        raise ValueError(
            f"γ of {gammas.name} is not chosen yet, and test photos must not choose it: run the same command on "
            f"photos of val first (it writes {gammas.file}), or give gamma="
        )
    found = saved[gammas.name]
    return (float(found["gamma"]),), f"{found.get('photos', 'some')} photos, {found.get('split') or 'of no one split'}"


def split_of(photos: AnnotatedPhotos, entities_folder: Path) -> str | None:
    """The split that all photos are of, such as ``val`` or ``part of val``; None where there is none."""
    names = {photo.name for photo in photos.photos}
    for split in SPLITS:
        if (entities_folder / f"{split}.txt").is_file():
            listed = read_split(entities_folder, split)
            if names <= listed:
                return split if names == listed else f"part of {split}"
    return None


def read_gammas(path: Path) -> dict[str, dict[str, Any]]:
    """What was chosen so far: by name the γ, and on what; nothing where there is no file.

    Raises:
        ValueError: the file is no such list.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, dict) or not all(isinstance(one["gamma"], int | float) for one in saved.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: expected names, each with its gamma; remove the file to choose γ anew") from None
    return saved


def choose(
    predicted: Predicted, gammas: Gammas, preset: BoxProtocol, split: str | None
) -> tuple[float, dict[str, dict[str, float]]]:
    """The γ of the greatest mean of recall at 1, 5 and 10, and the recalls of each.

    It is kept in the file of γ, unless one that was chosen on more photos stands there.

    Raises:
        OSError: the file cannot be written.
    """
    if len(predicted.by_gamma) == 1:
        (gamma,) = predicted.by_gamma
        return gamma, {}
    tried = {}
    for gamma, predictions in predicted.by_gamma.items():
        found = recalls(judge_all(predicted.instances, predictions, preset), per_type=preset.per_type)
        tried[gamma] = {depth: found[depth] or 0.0 for depth in DEPTHS}
    best = max(tried, key=lambda gamma: sum(tried[gamma].values()))
    by_gamma = {str(gamma): recall for gamma, recall in tried.items()}
    saved = read_gammas(gammas.file)
    count = len({instance.photo for instance in predicted.instances})
    if saved.get(gammas.name, {}).get("photos", 0) > count:
        return best, by_gamma
    saved[gammas.name] = {"gamma": best, "photos": count, "split": split, "chosen_by": "mean of R@1, R@5 and R@10"}
    gammas.file.parent.mkdir(parents=True, exist_ok=True)
    write_file(gammas.file, (json.dumps(saved, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())
    return best, by_gamma


def calibrated(predictions: Iterable[Prediction], mode: str) -> list[Prediction]:
    """Predictions whose scores can be compared between phrases (see `calibrate`)."""
    return [replace(one, regions=calibrate(one.regions, one.mass, mode)) for one in predictions]


def has_maps(predicted: Predicted, gamma: float) -> bool:
    """Whether attention had a part in it: boxes of a file, and proposals in their own order, have no γ and no point."""
    return predicted.of_entities is not None and any(one.mass for one in predicted.by_gamma[gamma])


def score_all(
    predicted: Predicted, gamma: float, presets: Mapping[str, Preset], calibration: str
) -> tuple[dict[str, Any], dict[str, tuple[Judged, ...]], list[Prediction]]:
    """The scores of every preset, the instances as those of boxes judged them, and the predictions so scored.

    What has no attention, as boxes of a file, is not asked to point with it.

    Raises:
        ValueError: there is no such calibration.
    """
    predictions = calibrated(predicted.by_gamma[gamma], calibration)
    can_point = has_maps(predicted, gamma)
    scores: dict[str, Any] = {}
    judged: dict[str, tuple[Judged, ...]] = {}
    for name, preset in presets.items():
        if isinstance(preset, BoxProtocol):
            judged[name] = judge_all(predicted.instances, predictions, preset)
            scores[name] = score_judged(judged[name], preset)
        elif preset.unit == "phrase" and (preset.point == "box" or can_point):
            scores[name] = score_pointing(predicted.instances, predictions, preset)
        elif preset.unit == "entity" and preset.point == "map" and can_point:
            assert predicted.of_entities is not None
            things = [entity.instance for entity in entities(predicted.instances)]
            scores[name] = score_pointing(things, predicted.of_entities, preset)
    return scores, judged, predictions
