"""Features that a network's frozen part computes once for all photos, kept in a file."""

import json
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.digests import digest
from grounding.files import write_file
from train.batches import Batch, epoch_order, pad_phrases, pad_units, photo_batches_in_order
from train.data import TaggedPhotos
from train.distributed import ALONE, Share
from train.state import is_same
from train.views import View
from train.vocabulary import TagVocabulary

BATCH_SIZE = 16  # photos that are computed together; larger batches are slower on a CPU, which then allocates more
SAVE_EVERY = 32  # batches between saved states, from which a stopped computation is resumed


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N photos, each in several views."""

    values: NDArray[np.float16]  # (views, N, …), mapped from a file
    readable: NDArray[np.bool_]  # (N,)
    unreadable: tuple[str, ...]  # a line for each photo that cannot be read: its name and the reason
    units: list[list[int]]  # (N, …), of each photo's tags
    phrases: list[list[tuple[int, ...]]]  # (N, …, …), units of the words of each photo's phrases
    sources: NDArray[np.int64]  # (N,), of each photo's tags

    def __len__(self) -> int:
        return len(self.units)


@dataclass
class _Progress:
    """The part of the features that is in the file."""

    done: int = 0  # views of photos
    size: int = 0  # bytes of the file with these
    unreadable: dict[int, str] = field(default_factory=dict)  # from the index of a photo to the reason


def compute_features(
    path: Path,
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    frozen_features: Callable[[Tensor], Tensor],
    *,
    views: int,
    seed: int | None,
    about: dict[str, Any],
    workers: int,
    report: Callable[[int, int], None],
) -> Features:
    """Compute the features of photos, or read those that the file already has; a stopped computation is resumed.

    Args:
        path: the file, ``.npy``; its progress is beside it, ``.json``.
        data: the photos; if a name, a file's size or its time of change differs, all features are computed again.
        vocabulary: the units of tags.
        view: the range of views of a photo.
        frozen_features: computes features (B, …) from pixels (B, 3, crop, crop) uint8.
        views: random views of each photo; without a seed one, which is not random.
        seed: determines the views.
        about: plain values on which the features depend beside the photos, such as the network; if they differ, all
            features are computed again.
        workers: processes that decode photos.
        report: is called with the number of views of photos that are done, and of all.

    Raises:
        ValueError: no photo can be read, or the features are not finite in half precision.
        OSError: the disk is full.
    """
    key = {**about, "through": astuple(view), "views": views, "seed": seed, "photos": _photos_digest(data)}
    progress = _read_progress(path, key)
    total = views * len(data)
    report(progress.done, total)
    if progress.done < total:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not progress.done:
            _progress_path(path).unlink(missing_ok=True)  # before the features that it describes are overwritten
        with path.open("r+b" if progress.done else "wb") as file:
            file.seek(progress.size)
            batches = _batches(data, vocabulary, view, views=views, seed=seed, first=progress.done, workers=workers)
            for number, batch in enumerate(batches, 1):
                _append_features(file, batch, frozen_features(batch.inputs), progress, (views, len(data)))
                if number % SAVE_EVERY == 0 or progress.done == total:
                    _save_progress(file, path, progress, key)
                report(progress.done, total)
    readable = np.ones(len(data), bool)
    readable[list(progress.unreadable)] = False
    if not readable.any():
        raise ValueError(f"none of the photos can be read; the first: {next(iter(progress.unreadable.values()))}")
    return Features(
        np.load(path, mmap_mode="r"),
        readable,
        tuple(progress.unreadable.values()),
        units=[vocabulary.units_of(photo.tags) for photo in data.photos],
        phrases=[vocabulary.units_of_phrases(photo.phrases) for photo in data.photos],
        sources=np.array([vocabulary.source_index(photo.source) for photo in data.photos]),
    )


def _append_features(
    file: BinaryIO, batch: Batch, features: Tensor, progress: _Progress, shape: tuple[int, int]
) -> None:
    """Append a batch's features in half precision to the file, which starts with NumPy's header.

    Args:
        file: ``.npy``, at its end.
        batch: the photos.
        features: theirs.
        progress: is updated.
        shape: number of views, and of photos.
    """
    values = features.half().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"{file.name}: the features of some photos are not finite in half precision")
    if not progress.done:
        header = {"descr": "<f2", "fortran_order": False, "shape": (*shape, *values.shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
    file.write(values.astype("<f2").tobytes())
    indices = (batch.weights == 0).nonzero().flatten() + progress.done % shape[1]
    progress.unreadable.update(zip(indices.tolist(), batch.unreadable, strict=True))
    progress.done += len(batch)


def _progress_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_progress(path: Path, key: dict[str, Any]) -> _Progress:
    """The progress of an earlier computation with the same key; none where it is damaged."""
    try:
        found = json.loads(_progress_path(path).read_text())
        if is_same(found["key"], key) and found["size"] <= path.stat().st_size:
            return _Progress(found["done"], found["size"], dict(found["unreadable"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Progress()


def _save_progress(file: BinaryIO, path: Path, progress: _Progress, key: dict[str, Any]) -> None:
    file.flush()
    progress.size = file.tell()
    values = {
        "key": key,
        "done": progress.done,
        "size": progress.size,
        "unreadable": list(progress.unreadable.items()),
    }
    write_file(_progress_path(path), json.dumps(values).encode())


def _photos_digest(data: TaggedPhotos) -> str:
    """A digest of the photos' names, and of the sizes and times of change of their files."""
    files = []
    for index, photo in enumerate(data.photos):
        try:
            status = data.path(index).stat()
            file = (status.st_size, status.st_mtime_ns)
        except OSError:
            file = None
        files.append((photo.name, photo.size, file))
    return digest(files)


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
    """Yield all photos in order, as many times as there are views, without the first ones."""
    for number in range(first // len(data), views):
        start = max(0, first - number * len(data))
        view_seed = None if seed is None else (seed, number)
        yield from photo_batches_in_order(
            data, vocabulary, view, batch_size=BATCH_SIZE, workers=workers, seed=view_seed, start=start
        )


def feature_batches(
    data: Features, *, batch_size: int, seed: int, epoch: int, first: int = 0, share: Share = ALONE
) -> Iterator[Batch]:
    """Yield the batches of an epoch in the order of `train.batches.photo_batches`; each epoch has the next view."""
    view = epoch % len(data.values)
    for indices in epoch_order(len(data), batch_size=batch_size, seed=seed, epoch=epoch, share=share)[first:]:
        yield _batch(data, view, indices)


def feature_batches_in_order(data: Features, *, batch_size: int, share: Share = ALONE) -> Iterator[Batch]:
    """Yield the process's share of all features in order, in their first view; the last batch may be smaller."""
    indices = np.arange(share.rank, len(data), share.world_size)
    for start in range(0, len(indices), batch_size):
        yield _batch(data, 0, indices[start : start + batch_size])


def _batch(data: Features, view: int, indices: NDArray[np.int64]) -> Batch:
    return Batch(
        inputs=torch.from_numpy(np.ascontiguousarray(data.values[view, indices])),
        units=pad_units([data.units[index] for index in indices]),
        phrases=pad_phrases([data.phrases[index] for index in indices]),
        sources=torch.from_numpy(data.sources[indices]),
        weights=torch.from_numpy(data.readable[indices]).float(),
        unreadable=(),
    )
