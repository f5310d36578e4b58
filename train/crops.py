"""Crops of BSDS500's photos for training the edge network: turned, scaled and mirrored at random, with their edges."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.images import load_image, to_pixels
from train.bsds import read_annotated

NEAR = 2  # pixels, within which people mean the same edge


@dataclass(frozen=True, eq=False)
class SegmentedPhoto:
    """A photo and the segments that people drew."""

    pixels: NDArray[np.uint8]  # (H, W, 3)
    segments: NDArray[np.int16]  # (H, W, people), labels from 1


def load_photo(path: Path) -> SegmentedPhoto:
    """Read a photo of BSDS500 with its segments."""
    segments = read_annotated(path).segments.transpose(1, 2, 0).astype(np.int16)
    return SegmentedPhoto(to_pixels(load_image(path)), np.ascontiguousarray(segments))


def crop_batch(
    photos: list[SegmentedPhoto], *, step: int, batch_size: int, size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The crops of a step, which follow from the seed and the step alone; every photo comes once an epoch.

    Shapes:
        returns: images (B, 3, size, size) in [0, 1], and the consensus of their edges (B, 1, size, size), see
            `edge_consensus`.
    """
    crops = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, index = divmod(position, len(photos))
        photo = photos[np.random.default_rng((seed, epoch)).permutation(len(photos))[index]]
        crops.append(_random_crop(photo, size, np.random.default_rng((seed, 1, position))))
    images = torch.from_numpy(np.stack([pixels for pixels, _ in crops])).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(np.stack([consensus for _, consensus in crops]))[:, None]


def _random_crop(
    photo: SegmentedPhoto, size: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A square of the photo, turned, scaled, mirrored and recoloured, and the consensus of its edges."""
    matrix, scale = _random_transform(photo.pixels.shape[:2], size, random)
    source = cv2.GaussianBlur(photo.pixels, (0, 0), 0.4 / scale) if scale < 0.7 else photo.pixels
    pixels = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    people = [np.ascontiguousarray(photo.segments[..., person]) for person in range(photo.segments.shape[2])]
    segments = np.stack(
        [cv2.warpAffine(person, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=0) for person in people]
    )
    return _recolour(pixels, random), edge_consensus(segments)


def _random_transform(
    shape: tuple[int, ...], size: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """The affine matrix (2, 3) from a photo's pixels to those of a crop, and its scale."""
    height, width = shape
    scale = 2 ** random.uniform(-0.8, 0.8)
    angle = np.radians(random.choice([0, 90, 180, 270]) + random.choice([0, random.uniform(-45, 45)]))
    mirror = random.choice([-1, 1])
    # The centre of the window is chosen so that the window lies inside the photo where it fits.
    margin = min(size / 2 / scale, height / 2, width / 2)
    centre = random.uniform([margin, margin], [width - margin + 1e-6, height - margin + 1e-6])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[:, 0] *= mirror
    return np.hstack([turn, ((size - 1) / 2 - turn @ centre)[:, None]]), scale


def _recolour(pixels: NDArray[Any], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change contrast, brightness and saturation at random."""
    gain, offset = random.uniform(0.7, 1.3), random.uniform(-20, 20)
    saturation = random.uniform(0, 1.3)
    grey = pixels.astype(np.float32).mean(2, keepdims=True)
    mixed: NDArray[np.float32] = (grey + saturation * (pixels - grey)) * gain + offset
    return mixed.clip(0, 255).astype(np.uint8)


def edge_consensus(segments: NDArray[Any]) -> NDArray[np.float32]:
    """The share of people who drew an edge near each pixel of somebody's edge, one pixel thin.

    Shapes:
        segments: (people, H, W), labels from 1; 0 outside the photo.
        returns: (H, W), 0 where nobody drew an edge, and -1 outside the photo and next to its border.
    """
    outside = (segments == 0).any(0)
    drawn = np.zeros(segments.shape, np.uint8)
    drawn[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    drawn[:, :, :-1] |= segments[:, :, :-1] != segments[:, :, 1:]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * NEAR + 1, 2 * NEAR + 1))
    support = np.mean([cv2.dilate(person, disc) for person in drawn], axis=0)
    consensus = np.where(drawn.any(0), support, 0).astype(np.float32)
    consensus[cv2.dilate(outside.astype(np.uint8), disc) > 0] = -1
    return consensus
