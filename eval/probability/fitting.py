"""Fit the calibration of probabilities, and measure by cross-validation what they are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grounding.probability import EVIDENCE, Weights

Array = NDArray[np.float64]
FOLDS = 10
BINS = 10  # of the reliability plot and of the calibration error, of equal width
REGULARISATION = 1.0  # scikit-learn's C: one unit of standardised evidence has a weight of about 1 at most


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers to all questions, one row each.

    Shapes:
        evidence: (N, len(EVIDENCE)).
        scores: (N,), of the best region, over the mass of its map.
        is_right: (N,) bool, whether the best box is right; False for phrases of another photo.
        is_own: (N,) bool, whether the phrase is one of this photo's captions.
        is_doubtful: (N,) bool, whether a phrase of another photo means people while there are people in this one.
        photos: (N,) int, the index of the photo.
    """

    evidence: Array
    scores: Array
    is_right: NDArray[np.bool_]
    is_own: NDArray[np.bool_]
    is_doubtful: NDArray[np.bool_]
    photos: NDArray[np.int64]


def fit(evidence: Array, is_true: NDArray[np.bool_]) -> Weights:
    """Fit the weights of evidence (N, len(EVIDENCE)) for a claim, true or not (N,), by regularised logistic regression.

    Raises:
        ValueError: the claim is always true, or never.
    """
    from sklearn.linear_model import LogisticRegression

    if is_true.all() or not is_true.any():
        raise ValueError("a calibration needs answers that are right and others that are wrong")
    mean, deviation = evidence.mean(0), evidence.std(0)
    deviation[deviation == 0] = 1
    model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit((evidence - mean) / deviation, is_true)
    weights = model.coef_[0] / deviation
    return Weights(float(model.intercept_[0] - weights @ mean), dict(zip(EVIDENCE, weights.tolist(), strict=True)))


def fit_right(answers: Answers, rows: NDArray[np.bool_]) -> Weights:
    """Fit the probability that a best box is right, on the phrases of the photos' own captions."""
    rows = rows & answers.is_own
    return fit(answers.evidence[rows], answers.is_right[rows])


def fit_present(answers: Answers, rows: NDArray[np.bool_]) -> Weights:
    """Fit the probability that a phrase is of the photo, where every second one is; doubtful ones are left out."""
    rows = rows & ~answers.is_doubtful
    evidence, is_own = answers.evidence[rows], answers.is_own[rows]
    found = fit(evidence, is_own)
    odds = is_own.mean() / (1 - is_own.mean())  # of the phrases here; even odds are asked for
    return Weights(found.bias - float(np.log(odds)), found.weights)


def probabilities(weights: Weights, evidence: Array) -> Array:
    """The probability for each row of evidence, (N,)."""
    odds = weights.bias + evidence @ np.array([weights.weights[name] for name in EVIDENCE])
    return np.asarray(1 / (1 + np.exp(-odds)))


def held_out(answers: Answers, fit_rows: Callable[[Answers, NDArray[np.bool_]], Weights]) -> Array:
    """The probability for each answer by weights that were fitted on other photos, (N,).

    Photos are divided into `FOLDS` parts, or as many as there are photos.

    Args:
        answers: of all photos.
        fit_rows: `fit_right` or `fit_present`.
    """
    parts = answers.photos % min(FOLDS, len(np.unique(answers.photos)))
    found = np.empty(len(parts))
    for part in np.unique(parts):
        here = parts == part
        found[here] = probabilities(fit_rows(answers, ~here), answers.evidence[here])
    return found


@dataclass(frozen=True)
class Bin:
    """The answers whose probabilities lie in one interval."""

    count: float  # their number, or the sum of their weights
    probability: float  # their mean probability
    right: float  # the share of them for which the claim is true


def reliability(probabilities: Array, is_true: NDArray[np.bool_], weights: Array | None = None) -> list[Bin]:
    """Divide answers into `BINS` intervals of probability; those without answers are left out.

    Args:
        probabilities: (N,), of a claim.
        is_true: (N,), whether it is true.
        weights: (N,), how often each answer counts; None: once.

    >>> reliability(np.array([0.125, 0.125, 1.0]), np.array([False, True, True]))
    [Bin(count=2.0, probability=0.125, right=0.5), Bin(count=1.0, probability=1.0, right=1.0)]
    """
    weights = np.ones(len(probabilities)) if weights is None else weights
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    members = [places == place for place in range(BINS)]
    return [
        Bin(
            float(weights[each].sum()),
            float(np.average(probabilities[each], weights=weights[each])),
            float(np.average(is_true[each], weights=weights[each])),
        )
        for each in members
        if each.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Guo et al. 2017): mean distance of probability and share, by the counts.

    >>> round(calibration_error([Bin(3, 0.2, 0.4), Bin(1, 0.9, 0.9)]), 4)
    0.15
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.probability - each.right) for each in bins) / total


def auroc(scores: Array, is_positive: NDArray[np.bool_]) -> float:
    """The probability that a positive has a greater score than a negative, ties counted half.

    Raises:
        ValueError: there are no positives, or no negatives.
    """
    from sklearn.metrics import roc_auc_score

    if is_positive.all() or not is_positive.any():
        raise ValueError("AUROC needs answers of both kinds")
    return float(roc_auc_score(is_positive, scores))


def interval(measure: Callable[[Array], float], photos: NDArray[np.int64], *, draws: int = 200) -> tuple[float, float]:
    """The 95 % interval of a measure over photos drawn with replacement.

    Args:
        measure: of the rows of answers (M,), with repetition.
        photos: (N,), the photo of each row.
        draws: number of samples.
    """
    rows = [np.flatnonzero(photos == photo) for photo in np.unique(photos)]
    random = np.random.default_rng(0)
    found = [measure(np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))])) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
