"""BSDS500 (Arbeláez et al. 2011): photos with the boundaries and segments that several people drew."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = {"train": 200, "val": 100, "test": 200}  # number of photos
URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html"


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """A photo of (H, W) pixels and the annotations of N people."""

    path: Path
    boundaries: NDArray[np.bool_]  # (N, H, W), one pixel thin
    segments: NDArray[np.uint16]  # (N, H, W), labels from 1


def find_photos(root: str | Path, *splits: str) -> list[Path]:
    """The photos of some splits, in the order of their names.

    Args:
        root: the folder that holds ``images`` and ``groundTruth``.
        splits: some of ``train``, ``val`` and ``test``.

    Raises:
        ValueError: there is no such split, or it has no photos.
    """
    photos: list[Path] = []
    for split in splits:
        if split not in SPLITS:
            raise ValueError(f"BSDS500 has the splits {', '.join(SPLITS)}, not {split!r}")
        folder = Path(root) / "images" / split
        found = sorted(folder.glob("*.jpg"))
        if not found:
            raise ValueError(f"no photos of BSDS500 in {folder}: get BSDS500 from {URL} and name its data folder")
        photos += found
    return photos


def read_annotated(photo: Path) -> AnnotatedPhoto:
    """Read a photo's annotations, from ``groundTruth`` beside ``images``.

    Raises:
        ValueError: its annotations are missing or cannot be read.
    """
    from scipy.io import loadmat

    path = photo.parent.parent.parent / "groundTruth" / photo.parent.name / f"{photo.stem}.mat"
    try:
        people: Any = loadmat(path)["groundTruth"][0]
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(f"{path}: annotations of BSDS500 cannot be read: {error}") from None
    return AnnotatedPhoto(
        photo,
        np.stack([person["Boundaries"][0, 0] > 0 for person in people]),
        np.stack([person["Segmentation"][0, 0].astype(np.uint16) for person in people]),
    )
