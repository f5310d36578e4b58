"""Batches of tagged photos from tar files that are read as streams, shuffled as they come.

All that is random follows from the seed, the epoch, the photos and the number of processes and workers that read.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import IterableDataset

from train.batches import Batch, collate, load_batches, make_example
from train.data import TaggedPhoto, TaggedShards
from train.distributed import ALONE, Share
from train.views import View
from train.vocabulary import TagVocabulary

SHUFFLE_BUFFER = 1000  # the next photo is drawn among at most so many
SHUFFLE_BYTES = 2**28  # that together have at most so many bytes

UndecodedPhoto = tuple[TaggedPhoto, bytes | str]  # a photo and the content of its file, or why there is none


def shard_batches(
    data: TaggedShards,
    vocabulary: TagVocabulary,
    view: View,
    *,
    batch_size: int,
    seed: int | None,
    epoch: int = 0,
    first: int = 0,
    count: int | None = None,
    share: Share = ALONE,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield batches ``first`` to ``count`` of an epoch: shards in random order, photos shuffled as they come.

    Each process, and each of its workers, reads its own shards, and starts again when it has read them all. Where all
    of them read as many photos, an epoch has every photo once; otherwise some photos come twice in an epoch and others
    in other epochs only. Without a seed nothing is random and every photo comes once.

    Args:
        data: the shards.
        vocabulary: the units of tags.
        view: the range of views of a photo.
        batch_size: photos in a batch of one process.
        seed: determines the order and the views; None: the shards' own order, and the whole photo.
        epoch: from 0; every epoch has its own order and views.
        first: number of the first batch; photos of those before it are read, but not decoded.
        count: number of batches in the epoch; None: all photos without a seed, and endlessly many with one.
        share: the share of this process; all processes together go through all shards.
        workers: processes that read and decode, at most one for each shard; 0: this process does.

    Raises:
        ValueError: there are fewer shards than processes, or a shard is broken.
    """
    if len(data.urls) < share.world_size:
        raise ValueError(f"{share.world_size} processes need as many shards at least, and there are {len(data.urls)}")
    workers = min(workers, len(data.urls) // share.world_size)
    dataset = _ShardDataset(data, vocabulary, view, batch_size, seed, epoch, first, count, share)
    yield from load_batches(dataset, workers, None)


@dataclass(frozen=True, eq=False)
class _ShardDataset(IterableDataset[Batch | ValueError]):
    """The batches of one worker's shards; arguments as in `shard_batches`."""

    data: TaggedShards
    vocabulary: TagVocabulary
    view: View
    batch_size: int
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
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        # The loader takes a batch from each worker in turn. So that batch b is always made of the photos of slot
        # b % workers, wherever the epoch starts, this worker takes the slot of its first batch.
        start = self.first + worker
        slot = start % workers
        photos = self._photos(self.share.rank + self.share.world_size * slot, self.share.world_size * workers)
        skipped = self.batch_size * len(range(slot, self.first, workers))  # photos of batches before the first
        next(itertools.islice(photos, skipped, skipped), None)
        for _ in itertools.count() if self.count is None else range(start, self.count, workers):
            chosen = list(itertools.islice(photos, self.batch_size))
            if not chosen:
                return
            examples = [
                make_example(photo, content, self.vocabulary, self.view, self._random(photo))
                for photo, content in chosen
            ]
            yield collate(examples, self.view)

    def _photos(self, slot: int, slots: int) -> Iterator[UndecodedPhoto]:
        """One of ``slots`` parts of the photos: once and in order without a seed, else shuffled and endlessly."""
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
            for photo in shuffled(itertools.chain.from_iterable(map(self.data.read, urls)), random):
                is_empty = False
                yield photo
        raise ValueError(f"{', '.join(urls)}: no photo in it")

    def _random(self, photo: TaggedPhoto) -> np.random.Generator | None:
        """The generator of a photo's view, which depends on its name alone, not on its position."""
        if self.seed is None:
            return None
        return np.random.default_rng((self.seed, self.epoch, 1, zlib.crc32(photo.name.encode("utf-8", "replace"))))


def shuffled(photos: Iterable[UndecodedPhoto], random: np.random.Generator) -> Iterator[UndecodedPhoto]:
    """Yield photos in another order: the next one is drawn from a buffer."""
    buffer: list[UndecodedPhoto] = []
    size = 0
    for photo in photos:
        buffer.append(photo)
        size += len(photo[1])
        while len(buffer) >= SHUFFLE_BUFFER or size > SHUFFLE_BYTES:
            drawn = buffer.pop(int(random.integers(len(buffer))))
            size -= len(drawn[1])
            yield drawn
    while buffer:
        yield buffer.pop(int(random.integers(len(buffer))))
