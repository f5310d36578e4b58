"""Tiny runs of the tag classifier's training, which several test files share."""

import csv
import json
import os
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import train.loop
from grounding.models import timm_classifier
from train.data import read_tag_manifest
from train.recipe import TagTraining

COLOURS = {"red": (200, 40, 30), "green": (40, 180, 50), "blue": (30, 60, 210)}
TINY = TagTraining(
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    resize=(40, 48),
    crop=32,
    workers=0,
    save_every=100,
    half=False,
    schedule="cosine",
)


def write_photos(folder):
    """Write photos of one colour each and their manifests, ``train.jsonl`` of 18 and ``val.jsonl`` of 15."""
    random = np.random.default_rng(0)
    for name, count in (("train", 18), ("val", 15)):
        rows = []
        for index in range(count):
            colour = list(COLOURS)[index % 3]
            noise = random.integers(-25, 25, (40, 50, 3))
            pixels = (COLOURS[colour] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}{index}.png")
            tags = [colour, "photo"] if name == "train" and index % 2 else [colour]
            rows.append(json.dumps({"image": f"{name}{index}.png", "tags": tags, "phrases": [[colour], tags]}))
        (folder / f"{name}.jsonl").write_text("\n".join(rows))


def read_photos(folder, name="train"):
    return read_tag_manifest(str(folder / f"{name}.jsonl"), first=5)


def small_classifier(name="test_efficientnet"):
    """A classifier of timm with random weights, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return timm_classifier(name=name, pretrained=False, layer="blocks.2", window=7, short_side=64)


def train_small(photos, output, training=TINY, model=None, **options):
    """Train on the photos of a folder with one thread and without a picture; returns the folder of the checkpoint.

    The number of threads changes the last bits of sums, and a picture takes longer than a step.
    """
    options = {"data": read_photos(photos), "validation": read_photos(photos, "val"), "lemmatise": False} | options
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with patch("train.progress.draw_curves", return_value=b"picture"):
            return train.loop.train_tags(
                str(output), model=model or small_classifier(), training=training, device="cpu", **options
            )
    finally:
        torch.set_num_threads(threads)


def train_until(stopped_at, stop, photos, output, training, keep=None):
    """Train, and call a function that ends it where it would take the step with the given number."""
    learn = train.loop._learn

    def learn_or_stop(run, state, batch):
        if state.step == stopped_at:
            stop()
        return learn(run, state, batch)

    with patch("train.loop._learn", learn_or_stop):
        train_small(photos, output, training, keep=keep)


def train_in_process(photos, output, training, killed_at=None):
    """Train in a process of its own, which kills itself where it would take the step with the given number."""
    train_until(killed_at, lambda: os.kill(os.getpid(), signal.SIGKILL), photos, output, training)


def read_weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def read_log(folder):
    """The rows of a run's log without their speeds."""
    rows = list(csv.DictReader((Path(folder) / "training" / "log.csv").read_text().splitlines()))
    for row in rows:
        del row["photos_per_second"]
    return rows


def assert_same_weights(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **(tolerance or {"atol": 0, "rtol": 0}))
