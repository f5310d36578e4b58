"""Average precision of words: how well the score of each word ranks the photos that have it first."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class WordPrecision:
    """Average precision of words."""

    mean: float  # over the words with enough photos
    by_word: Tensor  # (W,), float64; NaN for a word without enough photos
    count: int  # words with enough photos


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """The mean, over true photos, of the precision among the photos that score no less.

    Equal scores are one step of the ranking, so that a constant score has a precision equal to the share of true
    photos (scikit-learn's ``average_precision_score``).

    Shapes:
        scores: (N,), higher is better.
        truth: (N,) bool.

    Raises:
        ValueError: the shapes differ, nothing is true, or a score is NaN.

    >>> average_precision(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([True, False, True]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    if scores.ndim != 1 or scores.shape != truth.shape or truth.dtype != torch.bool:
        raise ValueError(f"expected scores and truth (N,), got {tuple(scores.shape)} and {tuple(truth.shape)}")
    if not truth.any():
        raise ValueError("nothing is true: there is no precision to average")
    if scores.isnan().any():
        raise ValueError("a score is NaN")
    return float(average_precision_score(truth.numpy(), scores.double().numpy()))


def mean_average_precision(scores: Tensor, truth: Tensor, *, least: int = 5) -> WordPrecision:
    """The mean of `average_precision` over words that are true of at least ``least`` photos.

    Shapes:
        scores: (N, W), of N photos and W words.
        truth: (N, W) bool.

    Raises:
        ValueError: the shapes differ, no word has enough photos, or a score is NaN.
    """
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"expected scores and truth (N, W), got {tuple(scores.shape)} and {tuple(truth.shape)}")
    has_enough = truth.sum(0) >= max(least, 1)
    if not has_enough.any():
        raise ValueError(f"no word is true of {least} photos or more")
    by_word = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
    for index in has_enough.nonzero().flatten().tolist():
        by_word[index] = average_precision(scores[:, index], truth[:, index])
    return WordPrecision(float(by_word[has_enough].mean()), by_word, int(has_enough.sum()))
