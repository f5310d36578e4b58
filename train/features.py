"""Features of photos that a network's frozen part computes once and for all, kept in a file."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data import TaggedPhotos
from train.loading import ALONE, Batch, Share, View, batches_in_order, order_of_epoch, padded
from train.vocabulary import TagVocabulary

BATCH = 32  # photos that are computed together


@dataclass(frozen=True, eq=False)
class Features:
    """What the frozen part says about photos, of each in several views."""

    values: NDArray[np.float16]  # (views, N, …), a file
    readable: NDArray[np.bool_]  # (N,)
    unreadable: tuple[str, ...]  # why, each with the photo's name
    units: list[list[int]]  # of each photo's tags

    def __len__(self) -> int:
        return len(self.units)


def compute_features(
    path: Path,
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    lower: Callable[[Tensor], Tensor],
    *,
    views: int,
    seed: int | None,
    about: dict[str, Any],
    workers: int,
    report: Callable[[int, int], None],
) -> Features:
    """Compute features, or take them from the file where they are there already.

    Args:
        path: the file, ``.npy``; what is known about it lies beside it, ``.json``.
        data: the photos.
        vocabulary: of their tags.
        view: through which photos are seen.
        lower: from pixels (B, 3, crop, crop) uint8 to features (B, …).
        views: of each photo, at random; one, not at random, without a seed.
        seed: of the views.
        about: what the features depend on else, plain values; a file made otherwise is made anew.
        workers: processes that decode.
        report: is told how many views are done, and of how many.

    Raises:
        ValueError: no photo can be read.
        OSError: the disk is full.
    """
    known = hashlib.sha256(repr([(photo.name, photo.size) for photo in data.photos]).encode("utf-8", "replace"))
    key = {**about, "views": views, "seed": seed, "photos": known.hexdigest()}
    units = [vocabulary.units_of(photo.tags) for photo in data.photos]
    beside = path.with_suffix(".json")
    try:
        found = json.loads(beside.read_text())
        if found["key"] == json.loads(json.dumps(key)):
            report(1, 1)
            values = np.load(path, mmap_mode="r")
            return Features(values, np.array(found["readable"]), tuple(found["unreadable"]), units)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: made anew
    path.parent.mkdir(parents=True, exist_ok=True)
    values = None
    readable = np.ones(len(data), bool)
    unreadable: dict[str, None] = {}
    for number in range(views):
        start = 0
        chosen = None if seed is None else (seed, number)
        for batch in batches_in_order(data, vocabulary, view, batch=BATCH, workers=workers, seed=chosen):
            features = lower(batch.inputs).half().cpu().numpy()
            if values is None:
                shape = (views, len(data), *features.shape[1:])
                values = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            values[number, start : start + len(batch)] = features
            readable[start : start + len(batch)] = batch.weights.numpy() > 0
            unreadable.update(dict.fromkeys(batch.unreadable))
            start += len(batch)
            report(number * len(data) + start, views * len(data))
    assert values is not None
    values.flush()
    if not readable.any():
        raise ValueError(f"none of the photos can be read; the first: {next(iter(unreadable))}")
    beside.write_text(json.dumps({"key": key, "readable": readable.tolist(), "unreadable": list(unreadable)}))
    return Features(values, readable, tuple(unreadable), units)


def batches_of_features(
    data: Features, *, batch: int, seed: int, epoch: int, first: int = 0, share: Share = ALONE
) -> Iterator[Batch]:
    """The batches of an epoch, as `train.loading.batches_of_photos` makes them; each epoch sees the next view."""
    view = epoch % len(data.values)
    for indices in order_of_epoch(len(data), batch=batch, seed=seed, epoch=epoch, share=share)[first:]:
        yield _batch(data, view, indices)


def features_in_order(data: Features, *, batch: int, share: Share = ALONE) -> Iterator[Batch]:
    """All features once, in order, every ``world``-th of them; the last batch may be smaller."""
    own = np.arange(share.rank, len(data), share.world)
    for start in range(0, len(own), batch):
        yield _batch(data, 0, own[start : start + batch])


def _batch(data: Features, view: int, indices: NDArray[np.int64]) -> Batch:
    values = torch.from_numpy(np.ascontiguousarray(data.values[view, indices]))
    lists = [data.units[index] for index in indices]
    return Batch(values, padded(lists), torch.from_numpy(data.readable[indices]).float(), ())
