"""Checkpoints of a small network, for the tests of reading and of writing them."""

import torch

from grounding.checkpoint import save_checkpoint
from grounding.models import torchvision_classifier, with_units
from grounding.vocabulary import Vocabulary

WORDS = Vocabulary({"cat": (0,), "dog": (1, 2), "red": (3,)}, 4, frozenset({"cat", "dog"}), {"cat": 9})
METRICS = {"step": 200, "precision": 0.25}
FILES = ["metrics.json", "model.safetensors", "settings.json", "vocabulary.tsv"]


def small_classifier():
    """A network of which all weights are trained; batch norm, and a head that is a convolution, come elsewhere."""
    options = {"layer": "features.5", "window": 3, "short_side": 64}
    return with_units(torchvision_classifier(name="squeezenet1_1", weights=None, **options), WORDS)


def save(folder, classifier, *, half=False, metrics=METRICS, settings=None):
    save_checkpoint(folder, classifier, settings=settings or {"steps": 200}, metrics=metrics, half=half)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def outputs(classifier):
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return classifier.network(x)
