import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.precision import average_precision, mean_average_precision


def precision_in_loops(scores, truth):
    """The mean, over true photos, of how many of those that score no less are true."""
    precisions = []
    for score, is_true in zip(scores, truth, strict=True):
        if is_true:
            no_less = [other for value, other in zip(scores, truth, strict=True) if value >= score]
            precisions.append(sum(no_less) / len(no_less))
    return sum(precisions) / len(precisions)


RANKINGS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12).filter(
    lambda pairs: any(is_true for _, is_true in pairs)
)


@given(RANKINGS)
def test_average_precision_agrees_with_loops(pairs):
    scores, truth = (torch.tensor(column) for column in zip(*pairs, strict=True))
    expected = precision_in_loops(scores.tolist(), truth.tolist())
    assert average_precision(scores.float(), truth) == pytest.approx(expected)


@given(RANKINGS)
def test_average_precision_sees_the_order_of_scores_alone(pairs):
    scores, truth = (torch.tensor(column) for column in zip(*pairs, strict=True))
    scores = scores.float()
    assert average_precision(scores.exp() - 7, truth) == pytest.approx(average_precision(scores, truth))


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.9, 0.5, 0.1], [True, False, False], 1),
        ([0.9, 0.5, 0.1], [False, False, True], 1 / 3),
        ([0.9, 0.5, 0.1], [True, False, True], (1 + 2 / 3) / 2),
        ([0.3, 0.3, 0.3, 0.3], [True, False, False, False], 1 / 4),  # constant: the share
        ([0.3], [True], 1),
    ],
)
def test_average_precision_by_hand(scores, truth, expected):
    assert average_precision(torch.tensor(scores), torch.tensor(truth)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([0.5, 0.1], [False, False], "nothing is true"),
        ([], [], "nothing is true"),
        ([math.nan, 0.1], [True, False], "a score is NaN"),
        ([0.5], [True, False], r"got \(1,\) and \(2,\)"),
        ([[0.5]], [[True]], r"got \(1, 1\)"),
    ],
)
def test_precision_of_nothing_is_refused(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        average_precision(torch.tensor(scores), torch.tensor(truth, dtype=torch.bool))


def test_rare_words_do_not_count_in_the_mean():
    truth = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.1, 0.5, 0.5], [0.5, 0.9, 0.5]])
    found = mean_average_precision(scores, truth, least=2)
    assert found.count == 1
    assert found.mean == pytest.approx((1 + 2 / 3) / 2)
    assert found.by_word[1:].isnan().all()
    both = mean_average_precision(scores, truth, least=1)
    assert both.count == 2
    assert both.mean == pytest.approx((5 / 6 + 1 / 3) / 2)
    assert mean_average_precision(scores, truth, least=0).count == 2  # a word of no photo has no precision
    with pytest.raises(ValueError, match="no word is true of 3 photos or more"):
        mean_average_precision(scores, truth, least=3)
    with pytest.raises(ValueError, match=r"expected scores and truth \(N, W\)"):
        mean_average_precision(scores, truth[:2])
