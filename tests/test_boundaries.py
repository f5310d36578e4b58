import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from eval.boundaries import Counts, average_precision, boundary_counts, ods, ois, thin_to_pixels, total

HALF = np.array([0.5])
seeds = st.integers(0, 2**32 - 1)


def square(height=60, width=80, shift=0):
    """The outline of a square."""
    mask = np.zeros((height, width), bool)
    mask[15:45, 20 + shift] = mask[15:45, 50 + shift] = True
    mask[15, 20 + shift : 51 + shift] = mask[45, 20 + shift : 51 + shift] = True
    return thin_to_pixels(mask)


def pairs(found, drawn, radius):
    """The number of pixels that can be paired, by an assignment over all pairs."""
    a, b = np.argwhere(found), np.argwhere(drawn)
    is_near = ((a[:, None] - b[None]) ** 2).sum(2) <= radius**2
    return int(is_near[linear_sum_assignment(is_near, maximize=True)].sum())


@settings(max_examples=40)
@given(seeds, st.integers(1, 3), st.sampled_from([0.0, 1.0, 1.5, 2.3, 4.0]), st.floats(0.02, 0.4))
def test_counts_are_those_of_an_assignment(seed, count, radius, density):
    random = np.random.default_rng(seed)
    strength = random.random((11, 14)) * (random.random((11, 14)) < 2 * density)
    people = random.random((count, 11, 14)) < density
    thresholds = np.array([0.2, 0.5, 0.8])
    tolerance = (radius + 1e-6) / np.hypot(11, 14)
    counts = boundary_counts(strength, people, thresholds, tolerance=tolerance)
    for k, threshold in enumerate(thresholds):
        found = thin_to_pixels(strength >= threshold)
        each = [pairs(found, person, radius) for person in people]
        assert counts.matched_truth[k] == sum(each)
        assert max(each) <= counts.matched_found[k] <= min(sum(each), found.sum())
        assert counts.found[k] == found.sum()
        assert counts.truth[k] == people.sum()


@settings(max_examples=20)
@given(seeds)
def test_who_drew_first_makes_no_difference_to_pairs(seed):
    random = np.random.default_rng(seed)
    strength, people = random.random((12, 12)), random.random((4, 12, 12)) < 0.1
    forth, back = (boundary_counts(strength, order, tolerance=0.1) for order in (people, people[::-1]))
    np.testing.assert_array_equal(forth.matched_truth, back.matched_truth)
    np.testing.assert_array_equal(forth.matched_found, back.matched_found)


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_a_map_that_is_right_to_a_pixel_is_perfect(shift):
    counts = [boundary_counts(square(400, 600, shift) * 0.9, square(400, 600)[None].repeat(3, 0))]
    assert ods(counts).f == ois(counts).f == ods(counts).precision == 1


def test_a_map_beyond_the_tolerance_is_worse():
    shifts = [
        ods([boundary_counts(square(400, 600, shift).astype(float), square(400, 600)[None])]).f for shift in (5, 6, 12)
    ]  # 0.0075 of the diagonal are 5.4 pixels
    assert shifts[0] == 1 > shifts[1] > shifts[2] > 0


def test_a_drawn_pixel_is_paired_once():
    drawn = np.zeros((1, 300, 400), bool)
    drawn[0, 100, 50:150] = True
    found = np.zeros((300, 400))
    found[[98, 102], 50:150] = 1  # twice, both within the tolerance
    counts = boundary_counts(found, drawn, HALF)
    assert counts.found[0] == 200
    assert counts.matched_found[0] == counts.matched_truth[0] == counts.truth[0] == 100


def test_a_found_pixel_serves_each_person():
    counts = boundary_counts(square().astype(float), square()[None].repeat(2, 0), HALF)
    assert counts.matched_truth[0] == counts.truth[0] == 2 * counts.found[0] == 2 * counts.matched_found[0]


def test_what_one_person_drew_of_two_is_right():
    people = np.stack([square(), np.zeros_like(square())])
    score = ods([boundary_counts(square().astype(float), people)])
    assert (score.precision, score.recall) == (1, 1)
    people[1, 55, 5:70] = True
    score = ods([boundary_counts(square().astype(float), people)])
    assert score.precision == 1 > score.recall


@pytest.mark.parametrize(
    ("strength", "drawn"),
    [(np.zeros((60, 80)), square()), (square() * 1.0, np.zeros((60, 80), bool)), (np.zeros((1, 1)), np.ones((1, 1)))],
    ids=["nothing found", "nothing drawn", "one pixel"],
)
def test_blank_maps_score_zero(strength, drawn):
    counts = [boundary_counts(strength, drawn[None] > 0)]
    assert ods(counts).f == ois(counts).f == average_precision(counts) == 0
    assert np.isfinite([counts[0].precision, counts[0].recall]).all()


def curve(matched, found, truth=100):
    """Counts of one person, at thresholds a tenth apart."""
    size = len(matched)
    thresholds = np.arange(1, size + 1) / 10
    return Counts(thresholds, np.array(matched), np.full(size, truth), np.array(matched), np.array(found))


def test_the_best_f_lies_between_thresholds():
    # From (precision, recall) = (.5, 1) to (1, .5): in the middle both are .75, with F = .75 against .667 at the ends.
    score = ods([curve([100, 50], [200, 50])])
    assert score.f == pytest.approx(0.75, abs=1e-4)
    assert score.threshold == pytest.approx(0.15, abs=1e-3)


def test_each_photo_may_have_its_own_threshold():
    photos = [curve([100, 10], [100, 10]), curve([100, 100], [1000, 100])]
    assert ois(photos).f == 1
    assert ods(photos).f < 1
    assert total(photos).found.tolist() == [1100, 110]


def test_average_precision_is_the_area_that_the_curve_covers():
    assert average_precision([curve([50, 0], [100, 10])]) == pytest.approx(sum(0.5 * r / 50 for r in range(51)) / 100)
    assert average_precision([curve([100, 50], [100, 50])]) == pytest.approx(0.51)  # no recall below .5


def test_blind_thresholds_misfits_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match="expected"):
        boundary_counts(np.zeros((4, 4)), np.zeros((1, 4, 5), bool))
    with pytest.raises(ValueError, match="NaN"):
        boundary_counts(np.full((4, 4), np.nan), np.zeros((1, 4, 4), bool))
    with pytest.raises(ValueError, match="above 0"):
        boundary_counts(np.zeros((4, 4)), np.zeros((1, 4, 4), bool), np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="no photos"):
        ods([])
    with pytest.raises(ValueError, match="different thresholds"):
        total([curve([1], [1]), curve([1, 1], [1, 1])])
