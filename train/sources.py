"""Sources of batches: photos in files, photos in shards, or features of photos."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grounding.digests import digest
from train.batches import Batch, photo_batches, photo_batches_in_order
from train.data import TaggedPhotos, TaggedShards
from train.distributed import Share, first_then_others
from train.features import Features, compute_features, feature_batches, feature_batches_in_order
from train.model import TrainedNetwork
from train.shards import shard_batches
from train.views import View
from train.vocabulary import TagVocabulary


@dataclass(frozen=True, eq=False)
class BatchSource:
    """Photos or their features, and how one process makes batches of them."""

    photos: TaggedPhotos | TaggedShards | Features
    vocabulary: TagVocabulary
    view: View
    batch_size: int  # of one process
    seed: int
    share: Share
    workers: int


def epoch_batches(source: BatchSource, epoch: int, *, first: int, count: int) -> Iterator[Batch]:
    """Batches ``first`` to ``count`` of an epoch, in random order."""
    photos, share, workers = source.photos, source.share, source.workers
    batch_size, seed = source.batch_size, source.seed
    if isinstance(photos, Features):
        return feature_batches(photos, batch_size=batch_size, seed=seed, epoch=epoch, first=first, share=share)
    if isinstance(photos, TaggedPhotos):
        return photo_batches(
            photos,
            source.vocabulary,
            source.view,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            first=first,
            share=share,
            workers=workers,
        )
    return shard_batches(
        photos,
        source.vocabulary,
        source.view,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        first=first,
        count=count,
        share=share,
        workers=workers,
    )


def batches_in_order(source: BatchSource) -> Iterator[Batch]:
    """Batches of this process's share of all photos, each once and with its central view."""
    photos, batch_size, share, workers = source.photos, source.batch_size, source.share, source.workers
    if isinstance(photos, Features):
        return feature_batches_in_order(photos, batch_size=batch_size, share=share)
    if isinstance(photos, TaggedPhotos):
        return photo_batches_in_order(
            photos, source.vocabulary, source.view, batch_size=batch_size, share=share, workers=workers
        )
    return shard_batches(
        photos, source.vocabulary, source.view, batch_size=batch_size, seed=None, share=share, workers=workers
    )


def compute_source_features(
    source: BatchSource,
    network: TrainedNetwork,
    path: Path,
    *,
    views: int,
    seed: int | None,
    report: Callable[[int, int], None],
) -> Features:
    """Features of a source's photos in files, by the network's frozen part; arguments as in `compute_features`.

    The first process computes them, and the others read its file.
    """
    photos = source.photos
    if not isinstance(photos, TaggedPhotos):
        raise ValueError("features are computed of photos in files only")
    about = {
        "model": str(network.classifier.architecture),
        "weights": digest({} if network.frozen is None else dict(network.frozen.state_dict())),
        "precision": str(network.precision),
    }
    return first_then_others(
        source.share,
        lambda: compute_features(
            path,
            photos,
            source.vocabulary,
            source.view,
            network.frozen_features,
            views=views,
            seed=seed,
            about=about,
            workers=source.workers,
            report=report,
        ),
    )
