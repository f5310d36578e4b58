"""What probabilities are worth, measured on photos whose boxes people drew."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.judging import judge
from eval.probability.asking import Question
from eval.probability.fitting import Answers, Array, auroc, calibration_error, interval, reliability
from eval.protocols import BoxProtocol
from eval.records import Prediction
from grounding.probability import EVIDENCE

# A best box is right at an IoU of .5 with the box around all boxes of the phrase, as in Table 6 of the paper.
RULES = BoxProtocol(truth="union", iou="inclusive", suppression=None, parsed_only=False, per_type=False, small=0.25)
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def gather(questions: Sequence[Sequence[Question]]) -> Answers:
    """The answers to the questions to each photo, judged.

    Raises:
        ValueError: there is no question.
    """
    rows = [(index, question) for index, asked in enumerate(questions) for question in asked]
    if not rows:
        raise ValueError("no phrase with a box to ask for")
    with_people = [any(each.is_own and "people" in each.phrase.types for each in asked) for asked in questions]
    return Answers(
        evidence=np.array([[question.evidence[name] for name in EVIDENCE] for _, question in rows]),
        scores=np.array([_score(question) for _, question in rows]),
        is_right=np.array([question.is_own and _is_right(question) for _, question in rows]),
        is_own=np.array([question.is_own for _, question in rows]),
        is_doubtful=np.array(
            [
                not question.is_own and with_people[index] and "people" in question.phrase.types
                for index, question in rows
            ]
        ),
        photos=np.array([index for index, _ in rows]),
    )


def _is_right(question: Question) -> bool:
    return judge(question.phrase, Prediction(question.regions[:1]), RULES).rank == 1


def _score(question: Question) -> float:
    """The score of the best region over the mass of the map; below 0 for a guess."""
    return float(question.regions.scores[0]) / question.mass if question.mass else -1.0


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Probabilities of all answers, (N,), by weights that were fitted on other photos."""

    right: Array
    present: Array

    @property
    def product(self) -> Array:
        """That the best box is right, whether the photo shows the phrase or not."""
        return self.right * self.present


def measure(answers: Answers, found: HeldOut) -> dict[str, Any]:
    """Measure probabilities, as values for JSON. Intervals are of 95 %, over photos.

    Raises:
        ValueError: answers are all right or all wrong, or no phrase is of another photo.
    """
    own, is_right, certain = answers.is_own, answers.is_right, ~answers.is_doubtful
    scales = {
        "probability": found.right,
        "presence": found.present,
        "product": found.product,
        "classifier": answers.evidence[:, EVIDENCE.index("presence")],
        "score": answers.scores,
    }
    bins = reliability(found.right[own], is_right[own])
    even = np.where(own, 0.5 / own.sum(), 0.5 / (~own & certain).sum())[certain]  # as if every second were of the photo
    return {
        "photos": len(np.unique(answers.photos)),
        "phrases": int(own.sum()),
        "phrases_of_other_photos": int((~own).sum()),
        "without_doubtful": int((~own & certain).sum()),
        "right": float(is_right[own].mean()),
        "brier": float(((found.right - is_right)[own] ** 2).mean()),
        "calibration_error": {
            "probability": calibration_error(bins),
            "presence": calibration_error(reliability(found.present[certain], own[certain], even)),
            "product": calibration_error(reliability(found.product[certain], is_right[certain], even)),
        },
        "auroc_right": {name: _auroc(values, is_right, own, answers) for name, values in scales.items()},
        "auroc_own": {name: _auroc(values, own, own | True, answers) for name, values in scales.items()},
        "auroc_own_certain": {name: _auroc(values, own, certain, answers) for name, values in scales.items()},
        "least_probability": [_at(threshold, found.right, answers) for threshold in THRESHOLDS],
        "least_presence": [_at(threshold, found.present, answers) for threshold in THRESHOLDS],
        "threshold": [_at(threshold, found.product, answers) for threshold in THRESHOLDS],
        "reliability": [asdict(each) for each in bins],
    }


def _auroc(values: Array, is_positive: Any, rows: Any, answers: Answers) -> list[float]:
    """AUROC among some rows, and the ends of its interval."""
    values, is_positive = values[rows], is_positive[rows]
    ends = interval(lambda drawn: auroc(values[drawn], is_positive[drawn]), answers.photos[rows])
    return [auroc(values, is_positive), *ends]


def _at(threshold: float, values: Array, answers: Answers) -> dict[str, float]:
    """What a threshold does: shares of phrases that it keeps, and of kept phrases of the photo that are right."""
    kept = values >= threshold
    own, right, certain = answers.is_own, answers.is_right, ~answers.is_doubtful
    return {
        "at": threshold,
        "own_kept": float(kept[own].mean()),
        "right_kept": float(kept[right].mean()),
        "others_kept": float(kept[~own].mean()),
        "certain_others_kept": float(kept[~own & certain].mean()),
        "right_of_own_kept": float(right[own & kept].mean()) if (own & kept).any() else 0.0,
    }
