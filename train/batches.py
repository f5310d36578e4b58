"""Batches of tagged photos that lie in files, in an order that a resumed run repeats.

All that is random about a photo follows from the seed, the epoch and the photo alone, so that a batch is the same
whenever, and in whatever process, it is made. Photos in tar files: `train.shards`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from grounding.images import decode
from train.data import TaggedPhoto, TaggedPhotos
from train.distributed import ALONE, Share
from train.views import View, show_photo
from train.vocabulary import TagVocabulary

GREY = 127  # pixel value of a photo that cannot be read


@dataclass(frozen=True, eq=False)
class Batch:
    """Photos and the output units of their tags; a photo that cannot be read is grey and has weight 0."""

    inputs: Tensor  # pixels (B, 3, crop, crop) uint8, or features (B, …) in half precision
    units: Tensor  # (B, K), output units; -1 where a photo has fewer
    phrases: Tensor  # (B, P, W), output units of the words of its phrases; -1 where there are fewer phrases or words
    sources: Tensor  # (B,), numbers of the tags' sources (see `TagVocabulary.source_index`)
    weights: Tensor  # (B,), 1 or 0
    unreadable: tuple[str, ...]  # a line for each photo that cannot be read: its name and the reason

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def has_features(self) -> bool:
        """Whether the inputs are features that were computed before, rather than pixels."""
        return self.inputs.dtype != torch.uint8

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, from which a GPU can fetch it while it computes; the loader calls this."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; from page-locked memory it is fetched while the caller goes on."""
        return self._each(lambda column: column.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            change(self.inputs),
            change(self.units),
            change(self.phrases),
            change(self.sources),
            change(self.weights),
            self.unreadable,
        )

    def split(self, parts: int) -> list["Batch"]:
        """The batch in so many parts of (almost) equal size."""
        columns = (self.inputs, self.units, self.phrases, self.sources, self.weights)
        chunks = zip(*(column.tensor_split(parts) for column in columns), strict=True)
        return [
            Batch(inputs, units, phrases, sources, weights, ()) for inputs, units, phrases, sources, weights in chunks
        ]


@dataclass(frozen=True, eq=False)
class Example:
    """One photo of a batch."""

    pixels: NDArray[np.uint8] | None  # (3, crop, crop); None where the photo cannot be read
    units: list[int]
    phrases: list[tuple[int, ...]]
    source: int
    problem: str | None = None  # why it cannot be read, with its name


def photo_batches(
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    share: Share = ALONE,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of an epoch from number ``first`` on, in random order.

    The epoch has every photo once; its last batch is filled up with the epoch's first photos.

    Args:
        data: the photos.
        vocabulary: the units of tags.
        view: the range of views of a photo.
        batch_size: photos in a batch of one process.
        seed: determines the order and the views.
        epoch: from 0; every epoch has its own order and views.
        first: number of the first batch; those before it are skipped without being read.
        share: the share of this process; all processes together go through all photos.
        workers: processes that decode photos; 0: this process decodes them.
    """
    order = epoch_order(len(data), batch_size=batch_size, seed=seed, epoch=epoch, share=share)
    dataset = _PhotoDataset(data, vocabulary, view, (seed, epoch))
    yield from load_batches(dataset, workers, order[first:].tolist())


def epoch_order(count: int, *, batch_size: int, seed: int, epoch: int, share: Share = ALONE) -> NDArray[np.int64]:
    """Indices of the photos that a process sees in an epoch, (batches, batch_size).

    The last batch is filled up with the epoch's first photos.

    >>> sorted(epoch_order(6, batch_size=3, seed=0, epoch=0).flatten().tolist())
    [0, 1, 2, 3, 4, 5]
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    photos_per_step = batch_size * share.world_size
    order = np.resize(order, -(-count // photos_per_step) * photos_per_step)
    return order.reshape(-1, share.world_size, batch_size)[:, share.rank]


def photo_batches_in_order(
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch_size: int,
    share: Share = ALONE,
    workers: int = 0,
    seed: tuple[int, int] | None = None,
    start: int = 0,
) -> Iterator[Batch]:
    """Yield the process's share of all photos from index ``start`` on, in order; the last batch may be smaller.

    A process of rank r takes every ``world_size``-th photo from the r-th on. Views are random only where a seed,
    (seed, epoch), is given.
    """
    indices = range(start + share.rank, len(data), share.world_size)
    order = [indices[k : k + batch_size] for k in range(0, len(indices), batch_size)]
    yield from load_batches(_PhotoDataset(data, vocabulary, view, seed), workers, order)


@dataclass(frozen=True, eq=False)
class _PhotoDataset(Dataset[Batch | ValueError]):
    """Photos in files; an item is the batch of the photos with the given indices."""

    data: TaggedPhotos
    vocabulary: TagVocabulary
    view: View
    seed: tuple[int, int] | None

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        examples = []
        for index in indices:
            random = None if self.seed is None else np.random.default_rng((*self.seed, 1, index))
            content = self._read(index)
            examples.append(make_example(self.data.photos[index], content, self.vocabulary, self.view, random))
        return collate(examples, self.view)

    def _read(self, index: int) -> bytes | str:
        try:
            return self.data.path(index).read_bytes()
        except OSError as error:
            return error.strerror or str(error)


def make_example(
    photo: TaggedPhoto,
    content: bytes | str,
    vocabulary: TagVocabulary,
    view: View,
    random: np.random.Generator | None,
) -> Example:
    """Decode a photo and show it through a view.

    Args:
        photo: its name, tags and phrases.
        content: the content of its file, or a text that says why there is none.
        vocabulary: the units of tags.
        view: the range of views.
        random: see `train.views.show_photo`.
    """
    source = vocabulary.source_index(photo.source)
    if isinstance(content, str):
        return Example(None, [], [], source, f"{photo.name}: {content}")
    try:
        image = decode(content, name=photo.name, longer_side=view.resize[1] if photo.size is None else None)
    except ValueError as error:
        return Example(None, [], [], source, str(error))
    pixels = show_photo(image, view, random, original_size=photo.size)
    return Example(pixels, vocabulary.units_of(photo.tags), vocabulary.units_of_phrases(photo.phrases), source)


def collate(examples: Sequence[Example], view: View) -> Batch:
    """The batch of some examples."""
    grey = np.full((3, view.crop, view.crop), GREY, np.uint8)
    pixels = [grey if example.pixels is None else example.pixels for example in examples]
    return Batch(
        inputs=torch.from_numpy(np.stack(pixels)),
        units=pad_units([example.units for example in examples]),
        phrases=pad_phrases([example.phrases for example in examples]),
        sources=torch.tensor([example.source for example in examples]),
        weights=torch.tensor([float(example.pixels is not None) for example in examples]),
        unreadable=tuple(example.problem for example in examples if example.problem is not None),
    )


def pad_units(lists: Sequence[Sequence[int]]) -> Tensor:
    """Lists of units as one tensor (B, K), K ≥ 1, filled up with -1.

    >>> pad_units([[3], [1, 2]]).tolist()
    [[3, -1], [1, 2]]
    """
    width = max(1, *map(len, lists))
    return torch.tensor([[*units, *[-1] * (width - len(units))] for units in lists])


def pad_phrases(lists: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Lists of phrases, which are lists of units, as one tensor (B, P, W), P and W ≥ 1, filled up with -1.

    >>> pad_phrases([[[3], [1, 2]], [[4]]]).tolist()
    [[[3, -1], [1, 2]], [[4, -1], [-1, -1]]]
    """
    most = max(1, *map(len, lists))
    padded = [phrase for phrases in lists for phrase in (*phrases, *[()] * (most - len(phrases)))]
    return pad_units(padded).view(len(lists), most, -1)


def load_batches(
    dataset: Dataset[Batch | ValueError], workers: int, order: Sequence[Sequence[int]] | None
) -> Iterator[Batch]:
    """Yield the batches of a dataset that makes whole batches, in ``workers`` processes or, with 0, in this one.

    Args:
        dataset: a ``ValueError`` in it is raised here.
        workers: number of processes.
        order: indices of each batch's photos; None for an iterable dataset, which has its own order.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,  # the dataset makes whole batches
        sampler=order,
        num_workers=workers,
        worker_init_fn=_use_one_thread if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def default_workers(processes: int = 1) -> int:
    """Number of workers for each of some training processes on this machine: its share of the cores, less one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, cores // processes - 1)
