"""Proposers that are easy to foresee, for the command and its processes."""

import os
import signal

import torch

import proposals.store.writing
from grounding.images import load_image
from grounding.records import Regions


def mean_region(image):
    """One box, the whole photo, scored with the photo's mean."""
    loaded = load_image(image)
    return Regions(torch.tensor([[0.0, 0.0, loaded.shape[2], loaded.shape[1]]]), loaded.mean().reshape(1))


class Mean:
    """Proposes `mean_region`; `weights` and `device` are settings without an effect."""

    def __init__(self, *, shade=0.0, weights=None, device="cpu"):
        self.shade = shade

    def __call__(self, image):
        return mean_region(image)


class Paused:
    """Prints the photo that it begins, and blocks in the one after PAUSE_AFTER until a signal comes.

    Of the photos before, the store's writer keeps two in each part.
    """

    def __init__(self):
        self.left = int(os.environ.get("PAUSE_AFTER", 10**6))
        proposals.store.writing.PHOTOS, proposals.store.writing.SECONDS = 2, float("inf")

    def __call__(self, image):
        print("begun:", image, flush=True)
        self.left -= 1
        if self.left < 0:
            signal.pause()
        return mean_region(image)
