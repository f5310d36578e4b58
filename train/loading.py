"""From tagged photos to batches: decoding, mirror padding, random crops, and an order that a resumed run repeats.

What is random about a photo follows from the seed, the epoch and the photo alone. Batches of photos in files are the
same whenever, and in whatever process, they are made; those of shards depend on the number of workers, too.
"""

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from grounding.images import decode
from train.data import Tagged, TaggedPhotos, TaggedShards
from train.vocabulary import TagVocabulary

SHUFFLED = 1000  # photos of shards among which the next one is drawn, fewer where
HELD = 2**28  # so many bytes of them wait


@dataclass(frozen=True)
class View:
    """How a photo is shown to the network.

    Args:
        resize: the photo, padded to a square by its mirror image, is scaled to a side drawn between these two, pixels.
        crop: side of the random window that the network sees; half of the windows are mirrored.
    """

    resize: tuple[int, int]
    crop: int

    def __post_init__(self) -> None:
        low, high = self.resize
        if not 8 <= self.crop <= low <= high <= 4096:
            raise ValueError(
                f"training.resize must be two sides from training.crop ({self.crop}, at least 8) to 4096 pixels, "
                f"the smaller first, got {list(self.resize)}"
            )

    @property
    def whole(self) -> "View":
        """The view of validation: the whole square."""
        return View((self.crop, self.crop), self.crop)


@dataclass(frozen=True, eq=False)
class Batch:
    """Photos and the output units of their tags; a photo that cannot be read is grey and has weight 0."""

    inputs: Tensor  # pixels (B, 3, crop, crop) uint8, or features (B, …) of half precision
    units: Tensor  # (B, K) of output units, -1 where a photo has fewer
    sources: Tensor  # (B,), of the tags (see `TagVocabulary.source_of`)
    weights: Tensor  # (B,), 1 or 0
    unreadable: tuple[str, ...]  # why, each with the photo's name

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.inputs, self.units, self.sources, self.weights

    def pin_memory(self) -> "Batch":
        """The same where a GPU can fetch it while it computes; the loader calls this."""
        inputs, units, sources, weights = (tensor.pin_memory() for tensor in self.tensors)
        return Batch(inputs, units, sources, weights, self.unreadable)

    def split(self, parts: int) -> list["Batch"]:
        """The batch in so many parts, as equal as can be."""
        split = zip(*(tensor.tensor_split(parts) for tensor in self.tensors), strict=True)
        return [Batch(inputs, units, sources, weights, ()) for inputs, units, sources, weights in split]


@dataclass(frozen=True)
class Share:
    """The part of the work that is one process's: number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1


ALONE = Share()


def show(
    photo: Image.Image, view: View, random: np.random.Generator | None, *, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """A photo through a view, (3, crop, crop): at random, or in the middle and not mirrored.

    ``size`` is the true (height, width) where the photo is a squeezed copy.
    """
    low, high = view.resize
    side = low if random is None else int(random.integers(low, high + 1))
    true_height, true_width = size or (photo.height, photo.width)
    scale = side / max(true_height, true_width)
    width, height = max(1, round(true_width * scale)), max(1, round(true_height * scale))
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2))
    rows, columns = _mirrored(height, side), _mirrored(width, side)
    top, left = (side - view.crop) // 2, (side - view.crop) // 2
    is_flipped = False
    if random is not None:
        top, left = (int(start) for start in random.integers(0, side - view.crop + 1, 2))
        is_flipped = random.random() < 0.5
    rows, columns = rows[top : top + view.crop], columns[left : left + view.crop]
    if is_flipped:
        columns = columns[::-1]
    return np.ascontiguousarray(pixels[rows[:, None], columns].transpose(2, 0, 1))


def _mirrored(length: int, side: int) -> NDArray[np.int64]:
    """Which of ``length`` pixels lie at ``side`` places, (side,), with mirror images on both sides of the middle."""
    place = (np.arange(side) - (side - length) // 2) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def batches_of_photos(
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch: int,
    seed: int,
    epoch: int,
    first: int = 0,
    share: Share = ALONE,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of an epoch from number ``first`` on: every photo once.

    The last batch is filled up with the first photos.

    Args:
        data: the photos.
        vocabulary: which unit a tag means.
        view: through which photos are seen.
        batch: photos of one process in a batch.
        seed: of the order and the views.
        epoch: from 0; other epochs have other orders and views.
        first: the batches before it are left out.
        share: of this process; processes together go through all photos.
        workers: processes that decode; 0: this one does.
    """
    own = order_of_epoch(len(data), batch=batch, seed=seed, epoch=epoch, share=share)[first:]
    dataset = _Photos(data, vocabulary, view, (seed, epoch))
    yield from _loader(dataset, workers, sampler=own.tolist())


def order_of_epoch(count: int, *, batch: int, seed: int, epoch: int, share: Share = ALONE) -> NDArray[np.int64]:
    """Which photos a process sees in an epoch, (batches, batch); the last batch is filled up with the first photos."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    together = batch * share.world
    order = np.resize(order, -(-count // together) * together)
    return order.reshape(-1, share.world, batch)[:, share.rank]


def batches_in_order(
    data: TaggedPhotos,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch: int,
    share: Share = ALONE,
    workers: int = 0,
    seed: tuple[int, int] | None = None,
    start: int = 0,
) -> Iterator[Batch]:
    """All photos from ``start`` on, in order, every ``world``-th of them; the last batch may be smaller.

    Without a seed, (seed, epoch), nothing is at random.
    """
    own = range(start + share.rank, len(data), share.world)
    dataset = _Photos(data, vocabulary, view, seed)
    yield from _loader(dataset, workers, sampler=[own[k : k + batch] for k in range(0, len(own), batch)])


def batches_of_shards(
    data: TaggedShards,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch: int,
    seed: int | None,
    epoch: int = 0,
    first: int = 0,
    count: int | None = None,
    share: Share = ALONE,
    workers: int = 0,
) -> Iterator[Batch]:
    """Batches from ``first`` to ``count`` of shards in an order drawn for the epoch, photos shuffled as they come.

    Each process, and each of its workers, reads shards of its own; one that comes to an end begins anew. An epoch has
    every photo where all read as many; else some come twice, and others in other epochs. Without a seed nothing is at
    random and every photo comes once.

    Args:
        data: the shards.
        vocabulary: which unit a tag means.
        view: through which photos are seen.
        batch: photos of one process in a batch.
        seed: of the order and the views; None for neither.
        epoch: from 0; other epochs have other orders and views.
        first: the batches before it are left out.
        count: where the epoch ends; None: at the end of the shards, without a seed, else never.
        share: of this process; processes together go through all shards.
        workers: processes that read and decode, at most one for each shard; 0: this one does.

    Raises:
        ValueError: there are fewer shards than processes, or a shard is broken.
    """
    if len(data.urls) < share.world:
        raise ValueError(f"{share.world} processes need as many shards at least, and there are {len(data.urls)}")
    workers = min(workers, len(data.urls) // share.world)
    dataset = _Shards(data, vocabulary, view, batch, seed, epoch, first, count, share)
    yield from _loader(dataset, workers, sampler=None)


def usual_workers(world: int = 1) -> int:
    """How many workers a process has where nobody says: one for each core, less one for the process itself."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, cores // world - 1)


_Undecoded = tuple[Tagged, bytes | str]  # a photo and the content of its file, or why there is none
_Example = tuple[NDArray[np.uint8] | None, list[int], int, str | None]  # pixels, units, source, why it cannot be read


@dataclass(frozen=True, eq=False)
class _Photos(Dataset[Batch | ValueError]):
    """Photos by the indices of a whole batch."""

    data: TaggedPhotos
    vocabulary: TagVocabulary
    view: View
    seed: tuple[int, int] | None

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        examples = []
        for index in indices:
            photo = self.data.photos[index]
            random = None if self.seed is None else np.random.default_rng((*self.seed, 1, index))
            examples.append(_example(photo, self._read(index), self.vocabulary, self.view, random))
        return _collate(examples, self.view)

    def _read(self, index: int) -> bytes | str:
        try:
            return self.data.path(index).read_bytes()
        except OSError as error:
            return error.strerror or str(error)


@dataclass(frozen=True, eq=False)
class _Shards(IterableDataset[Batch | ValueError]):
    """Batches of one worker's shards."""

    data: TaggedShards
    vocabulary: TagVocabulary
    view: View
    batch: int
    seed: int | None
    epoch: int
    first: int
    count: int | None
    share: Share

    def __iter__(self) -> Iterator[Batch | ValueError]:
        try:
            yield from self._batches()
        except ValueError as error:  # a worker that raised it would write its whole traceback into the message
            yield error

    def _batches(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        own, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        # The loader takes a batch of each worker in turn, from the first on: batch b is always of part b % workers.
        start = self.first + own
        part = start % workers
        photos = self._photos(self.share.rank + self.share.world * part, self.share.world * workers)
        # Photos of batches before the first are read, but not decoded.
        skipped = self.batch * len(range(part, self.first, workers))
        next(itertools.islice(photos, skipped, skipped), None)
        for _ in itertools.count() if self.count is None else range(start, self.count, workers):
            examples = [self._example(photo, content) for photo, content in itertools.islice(photos, self.batch)]
            if not examples:
                return
            yield _collate(examples, self.view)

    def _photos(self, slot: int, slots: int) -> Iterator[_Undecoded]:
        """One of so many parts of the photos: once and in order without a seed, else shuffled and without end."""
        if self.seed is None:
            for url in self.data.urls[slot::slots]:
                yield from self.data.read(url)
            return
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.data.urls))[slot::slots]
        urls = [self.data.urls[index] for index in order]
        random = np.random.default_rng((self.seed, self.epoch, 2, slot))
        is_empty = False
        while not is_empty:
            is_empty = True
            for photo in _shuffled(itertools.chain.from_iterable(map(self.data.read, urls)), random):
                is_empty = False
                yield photo
        raise ValueError(f"{', '.join(urls)}: no photo in it")

    def _example(self, photo: Tagged, content: bytes | str) -> _Example:
        number = zlib.crc32(photo.name.encode("utf-8", "replace"))
        random = None if self.seed is None else np.random.default_rng((self.seed, self.epoch, 1, number))
        return _example(photo, content, self.vocabulary, self.view, random)


def _shuffled(photos: Iterable[_Undecoded], random: np.random.Generator) -> Iterator[_Undecoded]:
    """Photos in another order: the next one is drawn among some that wait."""
    waiting: list[_Undecoded] = []
    held = 0
    for photo in photos:
        waiting.append(photo)
        held += len(photo[1])
        while len(waiting) >= SHUFFLED or held > HELD:
            drawn = waiting.pop(int(random.integers(len(waiting))))
            held -= len(drawn[1])
            yield drawn
    while waiting:
        yield waiting.pop(int(random.integers(len(waiting))))


def _example(
    photo: Tagged,
    content: bytes | str,
    vocabulary: TagVocabulary,
    view: View,
    random: np.random.Generator | None,
) -> _Example:
    """One photo of a batch; ``content`` that is text says why there is none."""
    source = vocabulary.source_of(photo.source)
    if isinstance(content, str):
        return None, [], source, f"{photo.name}: {content}"
    try:
        image = decode(content, name=photo.name, longer_side=view.resize[1] if photo.size is None else None)
    except ValueError as error:
        return None, [], source, str(error)
    return show(image, view, random, size=photo.size), vocabulary.units_of(photo.tags), source, None


def _collate(examples: list[_Example], view: View) -> Batch:
    grey = np.full((3, view.crop, view.crop), 127, np.uint8)
    pictures, units, sources, reasons = zip(*examples, strict=True)
    return Batch(
        torch.from_numpy(np.stack([grey if pixels is None else pixels for pixels in pictures])),
        padded(units),
        torch.tensor(sources),
        torch.tensor([float(pixels is not None) for pixels in pictures]),
        tuple(why for why in reasons if why is not None),
    )


def padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """Lists of units as one tensor, -1 where a list is shorter: (B, K)."""
    units = torch.full((len(lists), max(1, *map(len, lists))), -1)
    for row, known in zip(units, lists, strict=True):
        row[: len(known)] = torch.tensor(known, dtype=torch.long)
    return units


def _loader(
    dataset: Dataset[Batch | ValueError], workers: int, *, sampler: Sequence[Sequence[int]] | None
) -> Iterator[Batch]:
    loader = DataLoader(
        dataset,
        batch_size=None,  # the dataset makes whole batches
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=_one_thread if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
