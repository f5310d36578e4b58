"""A phrase is to score higher in its own photo than in the other photos of a batch."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from train.batches import pad_phrases, pad_units
from train.contrast import phrase_loss

UNITS = 6


@dataclass(frozen=True)
class Case:
    """Photos with their responses, tags and phrases."""

    responses: Tensor  # (B, U) float64
    phrases: list[list[tuple[int, ...]]]
    tags: list[list[int]]
    weights: list[float]
    known: list[list[bool]]  # (B, U)

    def losses(self):
        phrases, units = pad_phrases(self.phrases), pad_units(self.tags)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return phrase_loss(self.responses, phrases, units, weights, torch.tensor(self.known))

    def others(self, own, phrase):
        """The photos that stand against a phrase of photo ``own``."""
        return [
            photo
            for photo in range(len(self.tags))
            if photo != own
            and self.weights[photo] > 0
            and not set(phrase) <= set(self.tags[photo])
            and all(self.known[photo][unit] for unit in phrase)
        ]


@st.composite
def cases(draw):
    count = draw(st.integers(1, 5))

    def for_each_photo(strategy):
        return draw(st.lists(strategy, min_size=count, max_size=count))

    units = st.lists(st.integers(0, UNITS - 1), unique=True, max_size=UNITS)
    phrase = st.lists(st.integers(0, UNITS - 1), unique=True, min_size=1, max_size=3).map(tuple)
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return Case(
        3 * torch.randn(count, UNITS, generator=random, dtype=torch.float64),
        phrases=for_each_photo(st.lists(phrase, unique=True, max_size=4)),
        tags=for_each_photo(units),
        weights=for_each_photo(st.sampled_from([0.0, 1.0, 1.0])),
        known=for_each_photo(st.lists(st.integers(0, 4).map(bool), min_size=UNITS, max_size=UNITS)),
    )


@given(cases())
def test_the_loss_is_its_definition(case):
    expected = []
    for own, phrases in enumerate(case.phrases):
        costs = []
        for phrase in phrases:
            scores = [sum(row[unit].item() for unit in phrase) / len(phrase) for row in case.responses]
            if others := case.others(own, phrase):
                costs.append(math.log(sum(math.exp(scores[photo]) for photo in (own, *others))) - scores[own])
        expected.append(case.weights[own] * sum(costs) / max(len(costs), 1))
    torch.testing.assert_close(case.losses(), torch.tensor(expected, dtype=torch.float64))


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_photos_and_of_phrases_does_not_matter(case, random):
    order = random.sample(range(len(case.tags)), len(case.tags))
    moved = Case(
        case.responses[order],
        [random.sample(case.phrases[photo], len(case.phrases[photo])) for photo in order],
        *([column[photo] for photo in order] for column in (case.tags, case.weights, case.known)),
    )
    torch.testing.assert_close(moved.losses(), case.losses()[order])


@given(cases(), st.integers(0, 2**31))
def test_photos_that_do_not_stand_against_a_phrase_do_not_matter(case, seed):
    """Photos that show the phrase, that cannot be read, or whose source knows no such word may respond as they like."""
    own = seed % len(case.tags)
    against = {photo for phrase in case.phrases[own] for photo in case.others(own, phrase)}
    noise = torch.randn(case.responses.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise[[own, *against]] = 0
    other = replace(case, responses=case.responses + noise)
    torch.testing.assert_close(other.losses()[own], case.losses()[own])


@given(cases())
def test_a_step_raises_a_phrase_in_its_own_photo_and_lowers_it_in_those_that_stand_against_it(case):
    for own, phrases in enumerate(case.phrases):
        for phrase in phrases:
            alone = replace(case, phrases=[[phrase] if photo == own else [] for photo in range(len(case.tags))])
            responses = case.responses.clone().requires_grad_()
            replace(alone, responses=responses).losses().sum().backward()
            others = case.others(own, phrase) if case.weights[own] else []
            signs = torch.zeros(len(case.tags), UNITS, dtype=torch.float64)
            signs[own, list(phrase)] = -1.0 if others else 0.0
            for photo in others:
                signs[photo, list(phrase)] = 1
            assert torch.equal(responses.grad.sign(), signs)


def test_photos_without_phrases_alone_or_alike_have_no_loss():
    responses = torch.randn(2, UNITS, dtype=torch.float64)
    case = Case(responses, [[(0,)], []], [[0], [1]], [1.0, 1.0], [[True] * UNITS] * 2)
    assert (case.losses() > 0).tolist() == [True, False]
    assert not replace(case, tags=[[0], [0, 1]]).losses().any()
    one = Case(responses[:1], [[(0,)]], [[0]], [1.0], [[True] * UNITS])
    assert not one.losses().any()


@pytest.mark.parametrize("count", [2, 5])
def test_photos_that_respond_alike_have_the_loss_of_a_guess(count):
    case = Case(
        torch.zeros(count, UNITS, dtype=torch.float64),
        [[(0, 1)], *[[]] * (count - 1)],
        [[0, 1], *[[0]] * (count - 1)],
        [1.0] * count,
        [[True] * UNITS] * count,
    )
    assert case.losses()[0].item() == pytest.approx(math.log(count))
