"""The area exponent γ of the score S_R / A_R^γ: given, chosen on photos that are not of the test split, or looked up.

γ is chosen for each model, attention and proposals, and kept in a file; photos of the test split are scored with the γ
of that file.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.flickr30k import AnnotatedPhotos, read_split
from eval.judging import judge_all
from eval.metrics import recalls
from eval.protocols import BoxProtocol
from eval.records import Instance, Predictions
from eval.result import Gamma, MeasuredPhotos, TriedGamma
from grounding.files import write_file

SHIPPED = Path(__file__).with_name("gammas.json")  # chosen on the val photos of docs/results.md
CHOSEN_BY = "mean of R@1, R@5 and R@10"


@dataclass(frozen=True)
class Candidates:
    """The γ to score with: a single one that is known, or several to choose from."""

    values: tuple[float | None, ...]  # None: boxes come with scores of their own
    grid: tuple[float, ...]  # among which γ is, or was, chosen; empty where it was given
    chosen_on: str  # such as "247 photos" or "the command line"
    supervision: str  # a sentence: whether γ was chosen with the boxes of these photos
    file: "GammaFile | None" = None  # where the choice is kept


@dataclass(frozen=True)
class ChosenGamma:
    """The γ that predictions are scored with."""

    value: float | None  # None: boxes come with scores of their own
    recorded: Gamma | None  # as the result records it; None where attention takes no part
    supervision: str  # see `Candidates`
    tried: tuple[TriedGamma, ...]  # all that were tried, ascending; empty where there was no choice


@dataclass(frozen=True)
class GammaFile:
    """The γ that were chosen so far, for each model, attention and proposals.

    Args:
        path: file of the γ that were chosen here; those that are shipped are known, too.
        key: names the model, attention and proposals.
    """

    path: Path
    key: str

    def read(self) -> "SavedGamma | None":
        """The γ that was chosen for this key; None where none was.

        Raises:
            ValueError: a file is damaged.
        """
        return (read_gammas(SHIPPED) | read_gammas(self.path)).get(self.key)

    def save(self, gamma: "SavedGamma") -> None:
        """Save a γ, unless one that was chosen on more photos is there.

        Raises:
            OSError: the file cannot be written.
        """
        saved = read_gammas(self.path)
        if self.key in saved and saved[self.key].photos > gamma.photos:
            return
        saved[self.key] = gamma
        values = {key: asdict(one) | {"chosen_by": CHOSEN_BY} for key, one in saved.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, (json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())


@dataclass(frozen=True)
class SavedGamma:
    """A γ that was chosen, and on which photos."""

    gamma: float
    grid: tuple[float, ...]
    photos: int
    split: str | None  # such as "part of val"; None where they are of no one split


def given_candidate(gamma: float) -> Candidates:
    """γ as set on the command line."""
    return Candidates((gamma,), (), "the command line", "γ was given; how it was chosen is not recorded.")


def find_candidates(
    photos: AnnotatedPhotos, entities_folder: Path, saved: GammaFile, grid: Sequence[float]
) -> Candidates:
    """The grid, for photos that may choose γ; the γ that was chosen on others, for photos of the test split.

    Raises:
        ValueError: there are photos of the test split, or there may be some, and no γ was chosen on others.
    """
    names = {photo.name for photo in photos.photos}
    if not (entities_folder / "test.txt").is_file():
        raise ValueError(
            f"{entities_folder}: no test.txt, the list of the test split, on which γ must not be chosen: unpack it, or "
            "give scoring.area_exponent="
        )
    if read_split(entities_folder, "test").isdisjoint(names):
        values = tuple(sorted(set(grid)))
        if len(values) == 1:
            return given_candidate(values[0])
        chosen_on, supervision = f"{len(names)} photos", "γ was chosen with the boxes of these very photos."
        return Candidates(values, values, chosen_on, supervision, saved)
    found = saved.read()
    if found is None:
        raise ValueError(
            f"γ of {saved.key} is not chosen yet, and test photos must not choose it: run the same command on photos "
            f"of val first (it writes {saved.path}), or give scoring.area_exponent="
        )
    where = f"{found.photos} photos, {found.split or 'of no one split'}"
    return Candidates((found.gamma,), found.grid, where, f"γ was chosen with the boxes of other photos ({where}).")


def choose_gamma(
    instances: Sequence[Instance], predictions: Predictions, candidates: Candidates, preset: BoxProtocol
) -> ChosenGamma:
    """Choose the γ of the greatest mean of recall at 1, 5 and 10 by a preset, the lowest of several."""
    if len(candidates.values) == 1:
        (value,) = candidates.values
        tried: tuple[TriedGamma, ...] = ()
    else:
        tried = tuple(_try_gamma(instances, predictions, gamma, preset) for gamma in candidates.grid)
        value = max(tried, key=lambda one: one.at_1 + one.at_5 + one.at_10).value
    if value is None:
        return ChosenGamma(None, None, candidates.supervision, tried)
    if not predictions.has_attention(value):
        return ChosenGamma(value, None, "No attention and so no γ: regions keep the order of the proposals.", tried)
    recorded = Gamma(value=value, chosen_on=candidates.chosen_on, grid=candidates.grid)
    return ChosenGamma(value, recorded, candidates.supervision, tried)


def _try_gamma(
    instances: Sequence[Instance], predictions: Predictions, gamma: float, preset: BoxProtocol
) -> TriedGamma:
    recall = recalls(judge_all(instances, predictions.by_gamma[gamma], preset), per_type=preset.per_type)
    shares = {depth: getattr(recall, depth).share or 0.0 for depth in ("at_1", "at_5", "at_10")}
    return TriedGamma(value=gamma, **shares)


def save_choice(chosen: ChosenGamma, candidates: Candidates, photos: MeasuredPhotos) -> None:
    """Keep a γ that was chosen here, for photos of the test split.

    Raises:
        OSError: the file cannot be written.
    """
    if candidates.file is not None and chosen.tried and chosen.value is not None:
        candidates.file.save(SavedGamma(chosen.value, candidates.grid, photos.photos, photos.split))


def read_gammas(path: Path) -> dict[str, SavedGamma]:
    """The γ that a file holds, by key; none where there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {key: _saved_gamma(value) for key, value in values.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path}: expected names, each with its gamma; remove the file to choose γ anew") from None


def _saved_gamma(value: dict[str, Any]) -> SavedGamma:
    return SavedGamma(float(value["gamma"]), tuple(value.get("grid", ())), int(value["photos"]), value["split"])
