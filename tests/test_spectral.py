import numpy as np
from scipy.linalg import eigh

from proposals.spectral import STEEPNESS, globalise, likeness, normalised_cuts


def test_likeness_falls_with_the_strongest_edge_between():
    strength = np.zeros((6, 9), np.float32)
    strength[:, 4] = 0.3
    alike = likeness(strength).toarray()
    index = np.arange(54).reshape(6, 9)
    assert (alike == alike.T).all()
    assert alike[index[2, 1], index[2, 3]] == 1
    assert np.isclose(alike[index[2, 3], index[2, 5]], np.exp(-0.3 / STEEPNESS))
    assert np.isclose(alike[index[5, 5], index[1, 3]], np.exp(-0.3 / STEEPNESS))
    assert alike[index[0, 0], index[0, 6]] == 0  # too far away


def test_eigenvectors_solve_the_normalised_cut():
    random = np.random.default_rng(0)
    alike = likeness(random.random((7, 9)).astype(np.float32))
    values, vectors = normalised_cuts(alike, 4)
    dense = alike.toarray()
    degree = np.diag(dense.sum(1))
    expected = eigh(degree - dense, degree, eigvals_only=True)
    assert np.allclose(values, expected[1:5], atol=1e-3)
    assert np.allclose((degree - dense) @ vectors, degree @ vectors * values, atol=0.02)


def test_a_contour_that_parts_the_photo_counts_more_than_a_stroke():
    strength = np.full((120, 160), 0.01, np.float32)
    strength[:, 80] = 0.5  # from border to border
    strength[50:70, 30] = 0.5  # a stroke
    globalised = globalise(strength, weight=0.8)
    assert globalised[20:100, 80].mean() > 1.5 * globalised[52:68, 30].mean()
    assert (globalised <= strength + 1e-6).all()
    assert np.allclose(globalise(strength, weight=0), strength)


def test_tiny_photos_stay_as_they_are():
    strength = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    assert globalise(strength, weight=0.5) is strength
