"""Globalisation: contours that separate large parts of a photo, from its normalised cuts (Pont-Tuset et al. 2017, 3.2).

Two pixels are alike where no strong edge lies between them. The eigenvectors of such likeness change slowly, save
across contours that part the photo; how fast they change there is the strength that the eigenvectors add.
"""

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags_array
from scipy.sparse.linalg import eigsh

from proposals.edges import Floats

RADIUS = 5  # pixels of the decimated photo, within which pixels are compared
STEEPNESS = 0.12  # of the intervening edge, that lowers likeness to 1 / e
EIGENVECTORS = 6
DECIMATION = 4


def globalise(strength: Floats, *, weight: float) -> Floats:
    """Edge strength (h, w) in [0, 1], mixed with that of the eigenvectors by a weight from 0 to 1."""
    height, width = strength.shape
    rows, columns = -(-height // DECIMATION), -(-width // DECIMATION)
    if rows * columns <= 4 * EIGENVECTORS:
        return strength
    padded = np.pad(strength, ((0, rows * DECIMATION - height), (0, columns * DECIMATION - width)), mode="edge")
    # The strongest edge of a cell, so that thin contours stay closed.
    small = padded.reshape(rows, DECIMATION, columns, DECIMATION).max((1, 3))
    values, vectors = normalised_cuts(likeness(small), EIGENVECTORS)
    change = np.zeros((rows, columns), np.float32)
    for value, vector in zip(values, vectors.T, strict=True):
        smooth = cv2.GaussianBlur(vector.reshape(rows, columns).astype(np.float32), (0, 0), 1)
        slope = np.hypot(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1))
        change += slope / np.float32(max(value, 1e-6) ** 0.5)
    change /= max(float(change.max()), 1e-6)
    # Only where there is an edge at all: the eigenvectors are too coarse to say just where it lies.
    wide = cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)
    return ((1 - weight) * strength + weight * strength * wide).astype(np.float32)


def likeness(strength: Floats) -> csr_matrix:
    """How alike pixels are that lie within the radius, (hw, hw), symmetric: exp(-strongest edge between them / γ)."""
    height, width = strength.shape
    index = np.arange(height * width).reshape(height, width)
    first, second, values = [], [], []
    for dy, dx in product(range(RADIUS + 1), range(-RADIUS, RADIUS + 1)):
        if (dy, dx) <= (0, 0) or dy**2 + dx**2 > RADIUS**2 or dy >= height or abs(dx) >= width:
            continue
        left, rows, columns = max(-dx, 0), height - dy, width - abs(dx)
        here = index[:rows, left : left + columns].ravel()
        steps = max(dy, abs(dx))
        between = np.zeros((rows, columns), np.float32)
        for step in range(steps + 1):
            y, x = round(dy * step / steps), round(dx * step / steps)
            np.maximum(between, strength[y : y + rows, left + x : left + x + columns], out=between)
        first.append(here)
        second.append(here + dy * width + dx)
        values.append(np.exp(-between / STEEPNESS).ravel())
    pairs = coo_matrix((np.concatenate(values), (np.concatenate(first), np.concatenate(second))), (index.size,) * 2)
    return csr_matrix(pairs + pairs.T)


def normalised_cuts(alike: csr_matrix, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least eigenvalues (count,), but for the trivial one, and eigenvectors (n, count) of (D - W) x = λ D x."""
    degree = np.asarray(alike.sum(1)).ravel() + 1e-12
    root = diags_array(1 / np.sqrt(degree))
    start = np.sqrt(degree)  # fixed, so that a photo has the same contours each time
    values, vectors = eigsh(root @ alike.astype(np.float64) @ root, count + 1, which="LA", v0=start + 1e-3, tol=1e-3)
    order = np.argsort(-values)[1:]
    return 1 - values[order], vectors[:, order] / np.sqrt(degree)[:, None]
