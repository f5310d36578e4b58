"""The scores of answers for named regions: pointing, boxes and dominant objects, over pairs of a photo and a name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics import bootstrap, shares, summarise
from eval.regions.dominant import choose_alpha, score_dominant
from eval.regions.measuring import Answer, Rules
from eval.regions.result import (
    ALPHAS,
    DominantObjects,
    NameScores,
    RegionBoxes,
    RegionManifest,
    RegionPointing,
    RegionResult,
)
from eval.result import Measured


@dataclass(frozen=True)
class Plan:
    """How methods are asked and judged, and which photos are not scored.

    Args:
        rules: how each answer is judged.
        alpha: one of `ALPHAS`, or ``chosen`` for the best one on the photos held out; None where no boxes are drawn.
        held_out: the names of photos that are not scored.

    Raises:
        ValueError: there is no such α, or none can be chosen without photos held out.
    """

    rules: Rules
    alpha: float | str | None = None
    held_out: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.alpha == "chosen" and not self.held_out:
            raise ValueError("dominant.alpha=chosen needs dominant.held_out=LIST, photos on which α is chosen")
        if self.alpha not in (None, "chosen", *ALPHAS):
            raise ValueError(f"dominant.alpha must be chosen, or 0, 0.5, … or {ALPHAS[-1]:g}, got {self.alpha!r}")

    def scored(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers that are scored."""
        return [answer for answer in answers if answer.photo not in self.held_out]


def score_answers(answers: Sequence[Answer], plan: Plan, *, name: str, manifest: RegionManifest) -> RegionResult:
    """The result of a method: all scores of its answers for photos that are not held out.

    Args:
        answers: one for each pair of a photo and a name, of which at least one is scored.
        plan: how they were judged.
        name: of the method.
        manifest: where the result comes from.
    """
    held_out = [answer for answer in answers if answer.photo in plan.held_out]
    scored = plan.scored(answers)
    difficult = [answer for answer in scored if answer.is_difficult]
    tolerance = plan.rules.tolerance
    return RegionResult(
        name=name,
        manifest=manifest,
        pointing=score_pointing(scored, tolerance=tolerance),
        difficult=score_pointing(difficult, tolerance=tolerance) if difficult else None,
        boxes=score_boxes(scored),
        dominant=_score_dominant(scored, held_out, plan.alpha),
    )


def score_pointing(
    answers: Sequence[Answer], *, tolerance: float = 0.0, rounds: int = 1000, seed: int = 0
) -> RegionPointing:
    """Accuracy over pairs and over names, with intervals over photos, and that of the photos' centres.

    The mean over names is that of pairs which weigh one over the number of their name's pairs; so is its interval.

    Args:
        answers: one for each pair, at least one.
        tolerance: the one by which they were judged.
        rounds: number of bootstrap samples of the photos; 0 for no intervals.
        seed: the seed of the bootstrap.
    """
    counts = Counter(answer.name for answer in answers)
    hits = np.array([[answer.is_hit, answer.is_centre_hit] for answer in answers], np.float64)
    photos = [answer.photo for answer in answers]

    def weighted(weights: NDArray[np.float64]) -> tuple[Measured, float]:
        values = hits * weights[:, None]
        accuracy, centre = shares(values, weights)
        interval, _ = bootstrap(photos, values, weights, rounds=rounds, seed=seed)
        return Measured(_share(accuracy), _clipped(interval)), _share(centre)

    accuracy, centre = weighted(np.ones(len(answers)))
    name_mean, centre_name_mean = weighted(np.array([1 / counts[answer.name] for answer in answers]))
    return RegionPointing(
        accuracy=accuracy,
        name_mean=name_mean,
        centre=centre,
        centre_name_mean=centre_name_mean,
        names={name: _score_name([one for one in answers if one.name == name]) for name in sorted(counts)},
        tolerance=tolerance,
    )


def score_boxes(answers: Sequence[Answer], *, rounds: int = 1000, seed: int = 0) -> RegionBoxes | None:
    """Recall and the first boxes' overlaps and errors; None where no boxes were ranked."""
    judged = [answer.judged for answer in answers if answer.judged is not None]
    if not judged:
        return None
    scores = summarise(judged, per_type=False, rounds=rounds, seed=seed)
    assert scores.errors is not None
    return RegionBoxes(
        recall=scores.recall,
        recall_at_1_iou_75=scores.recall_at_1_iou_75,
        mean_iou=scores.mean_iou,
        errors=scores.errors,
    )


def _score_dominant(
    scored: Sequence[Answer], held_out: Sequence[Answer], alpha: float | str | None
) -> DominantObjects | None:
    if alpha is None:
        return None
    overlaps, chosen_on = [answer.overlaps for answer in scored], None
    if isinstance(alpha, str):
        alpha = choose_alpha([answer.overlaps for answer in held_out])
        chosen_on = len({answer.photo for answer in held_out})
    return score_dominant([answer.photo for answer in scored], overlaps, alpha=alpha, chosen_on=chosen_on)


def _score_name(answers: Sequence[Answer]) -> NameScores:
    accuracy = sum(answer.is_hit for answer in answers) / len(answers)
    return NameScores(pairs=len(answers), accuracy=accuracy, is_known=answers[0].is_known)


def _share(value: float | None) -> float:
    """A share of weights, which may be above 1 by a rounding error."""
    assert value is not None
    return min(value, 1.0)


def _clipped(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (_share(interval[0]), _share(interval[1]))
