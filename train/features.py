"""Features of photos that a network's frozen part computes once and for all, kept in a file."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.files import write_file
from train.data import TaggedPhotos
from train.loading import ALONE, Batch, Share, View, batches_in_order, order_of_epoch, padded
from train.state import same_as
from train.vocabulary import TagVocabulary

BATCH = 16  # photos that are computed together; with more, memory comes and goes more slowly on a CPU
SAVE_EVERY = 32  # batches, after which a stopped computation goes on


@dataclass(frozen=True, eq=False)
class Features:
    """What the frozen part says about photos, of each in several views."""

    values: NDArray[np.float16]  # (views, N, …), a file
    readable: NDArray[np.bool_]  # (N,)
    unreadable: tuple[str, ...]  # why, each with the photo's name
    units: list[list[int]]  # of each photo's tags
    sources: NDArray[np.int64]  # (N,), of each photo's tags

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
    """Compute features, or take from the file those that are there already; a stopped computation goes on.

    Args:
        path: the file, ``.npy``; what is known about it lies beside it, ``.json``.
        data: the photos; where one's name, size in bytes or time of change differs, all are computed anew.
        vocabulary: of their tags.
        view: through which photos are seen.
        lower: from pixels (B, 3, crop, crop) uint8 to features (B, …).
        views: of each photo, at random; one, not at random, without a seed.
        seed: of the views.
        about: what the features depend on else, such as the network, plain values; others are computed anew.
        workers: processes that decode.
        report: is told how many views of photos are done, and of how many.

    Raises:
        ValueError: no photo can be read, or the features are not finite in half precision.
        OSError: the disk is full.
    """
    key = {**about, "through": astuple(view), "views": views, "seed": seed, "photos": _fingerprint(data)}
    beside = path.with_suffix(".json")
    kept = _kept(path, beside, key)
    report(kept.done, views * len(data))
    if kept.done < views * len(data):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not kept.done:
            beside.unlink(missing_ok=True)  # before what it tells about is overwritten
        with path.open("r+b" if kept.done else "wb") as file:
            file.seek(kept.size)
            batches = _batches(data, vocabulary, view, views=views, seed=seed, first=kept.done, workers=workers)
            for count, batch in enumerate(batches, 1):
                features = lower(batch.inputs).half().cpu().numpy()
                if not np.isfinite(features).all():
                    raise ValueError(f"{path}: the features of some photos are not finite in half precision")
                if not kept.done:
                    shape = (views, len(data), *features.shape[1:])
                    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(features.astype("<f2").tobytes())
                grey = (batch.weights == 0).nonzero().flatten() + kept.done % len(data)
                kept.unreadable.update(zip(grey.tolist(), batch.unreadable, strict=True))
                kept.done += len(batch)
                if count % SAVE_EVERY == 0 or kept.done == views * len(data):
                    file.flush()
                    kept.size = file.tell()
                    unreadable = list(kept.unreadable.items())
                    known = {"key": key, "done": kept.done, "size": kept.size, "unreadable": unreadable}
                    write_file(beside, json.dumps(known).encode())
                report(kept.done, views * len(data))
    readable = np.ones(len(data), bool)
    readable[list(kept.unreadable)] = False
    if not readable.any():
        raise ValueError(f"none of the photos can be read; the first: {next(iter(kept.unreadable.values()))}")
    units = [vocabulary.units_of(photo.tags) for photo in data.photos]
    sources = np.array([vocabulary.source_of(photo.source) for photo in data.photos])
    return Features(np.load(path, mmap_mode="r"), readable, tuple(kept.unreadable.values()), units, sources)


@dataclass
class _Kept:
    """How much of the features is in the file."""

    done: int = 0  # views of photos
    size: int = 0  # bytes up to there
    unreadable: dict[int, str] = field(default_factory=dict)  # photos, and why


def _kept(path: Path, beside: Path, key: dict[str, Any]) -> _Kept:
    """What is there already; nothing, where it is damaged or was made otherwise."""
    try:
        found = json.loads(beside.read_text())
        if same_as(found["key"], key) and found["size"] <= path.stat().st_size:
            return _Kept(found["done"], found["size"], dict(found["unreadable"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Kept()


def _fingerprint(data: TaggedPhotos) -> str:
    """What tells these photos from others, and from the same ones with other content."""
    found = hashlib.sha256()
    for index, photo in enumerate(data.photos):
        try:
            status = data.path(index).stat()
            file = (status.st_size, status.st_mtime_ns)
        except OSError:
            file = None
        found.update(repr((photo.name, photo.size, file)).encode("utf-8", "replace"))
    return found.hexdigest()


def _batches(
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    *,
    views: int,
    seed: int | None,
    first: int,
    workers: int,
) -> Iterator[Batch]:
    """All photos in order, as many times as there are views; the first ones are left out."""
    for number in range(first // len(data), views):
        start = max(0, first - number * len(data))
        chosen = None if seed is None else (seed, number)
        yield from batches_in_order(data, vocabulary, view, batch=BATCH, workers=workers, seed=chosen, start=start)


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
    sources = torch.from_numpy(data.sources[indices])
    return Batch(values, padded(lists), sources, torch.from_numpy(data.readable[indices]).float(), ())
