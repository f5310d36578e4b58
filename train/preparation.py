"""The preparation of a run: photos are split and counted, the network gets its head, and its state is built."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from grounding.checkpoint import load_checkpoint
from grounding.models import Classifier
from train.averaging import averaged_model
from train.batches import default_workers
from train.counting import TagCounts, count_tags_of_photos, count_tags_of_shards
from train.data import TaggedPhotos, TaggedShards, hold_out
from train.distributed import Share, first_then_others, processes_on_this_machine
from train.model import TrainedNetwork, build_network, cut_network
from train.optimisers import build_optimiser, build_schedule
from train.recipe import TagTraining
from train.sources import BatchSource
from train.state import TrainingState

Data = TaggedPhotos | TaggedShards
COUNTS = "words.json"  # the counts of tags in shards


@dataclass(frozen=True)
class Words:
    """The choice of the words that are learned; see `train.vocabulary.build_vocabulary`."""

    size: int
    least: int
    lemmatise: bool


@dataclass(frozen=True, eq=False)
class Run:
    """The parts of a run that stay the same while it trains."""

    folder: Path  # of the checkpoint
    training: TagTraining
    share: Share
    source: BatchSource  # of the photos for training
    validation_source: BatchSource | None
    network: TrainedNetwork
    parallel: nn.Module  # the trained part, wrapped where it is compiled or trained by several processes
    evaluated: TrainedNetwork  # for validation and the checkpoint: the running average, or the network itself
    known: Tensor | None  # (sources + 1, units), see `train.counting.TagCounts`; None with a single source
    steps_per_epoch: int
    settings: dict[str, Any]  # that distinguish this run from others
    original: Classifier  # the model from which training starts
    keep: int | None  # see `train.loop.train_tags`

    @property
    def files(self) -> Path:
        """The folder of the run's state, log and features."""
        return self.folder / "training"

    @property
    def steps(self) -> int:
        """The highest number of steps of the run."""
        return self.steps_per_epoch * self.training.epochs

    @property
    def validation_period(self) -> int:
        """The number of steps between validations."""
        return self.training.validate_every or self.steps_per_epoch


def prepare_run(
    folder: Path,
    model: Classifier,
    data: Data,
    validation: Data | None,
    *,
    words: Words,
    keep: int | None,
    start: str | None,
    training: TagTraining,
    share: Share,
    device: torch.device,
) -> tuple[Run, TrainingState]:
    """The parts of a run, and its state before the first step; arguments as in `train.loop.train_tags`.

    Raises:
        ValueError: settings contradict each other, or the data or the network do not fit them.
        OSError: the disk is full.
    """
    data, validation = _check_data(data, validation, training, share)
    counts = _count_tags(data, words, folder / "training" / COUNTS, share)
    if training.contrast and not counts.with_phrases:
        raise ValueError("training.contrast needs phrases, and no photo has any: write them with task=captions")
    photo_count = sum(counts.photos)
    steps_per_epoch = -(-photo_count // training.batch_size)
    started = None if start is None else load_checkpoint(checkpoint=start)
    network = build_network(model, counts, training, device, keep=keep, start=started)
    optimiser = build_optimiser(network, training)
    schedule = build_schedule(optimiser, training, steps_per_epoch * training.epochs)
    average, evaluated = None, network
    if training.ema_decay:
        average = averaged_model(network.classifier.network, training.ema_decay)
        averaged = replace(network.classifier, network=average.module)
        evaluated = cut_network(averaged, training, device, network.learned)
    source = _source(data, counts, training, share)
    run = Run(
        folder=folder,
        training=training,
        share=share,
        source=source,
        validation_source=None if validation is None else _validation_source(validation, source, training),
        network=network,
        parallel=_parallel(network.trained, training, share),
        evaluated=evaluated,
        known=counts.known.to(device) if len(counts.photos) > 1 else None,
        steps_per_epoch=steps_per_epoch,
        settings=_settings(training, network, source, photo_count, keep, start),
        original=model,
        keep=keep,
    )
    return run, TrainingState(network.trained, optimiser, schedule, average)


def _check_data(data: Data, validation: Data | None, training: TagTraining, share: Share) -> tuple[Data, Data | None]:
    """The data for training and for validation, which may be held out of the former."""
    if training.batch_size % (share.world_size * training.accumulation_steps):
        raise ValueError(
            f"training.batch_size={training.batch_size} must be a multiple of processes × accumulation_steps, "
            f"{share.world_size}×{training.accumulation_steps}"
        )
    if training.contrast and training.batch_size == share.world_size * training.accumulation_steps:
        raise ValueError("training.contrast needs several photos in each part of a batch: raise training.batch_size")
    if validation is None and isinstance(data, TaggedPhotos):
        data, validation = hold_out(data)
    if validation is None and training.schedule == "plateau":
        raise ValueError("training.schedule=plateau needs photos to validate on: name some, or choose another schedule")
    for name, photos in (("data", data), ("validation", validation)):
        if isinstance(photos, TaggedShards) and len(photos.urls) < share.world_size:
            raise ValueError(f"{name}: {share.world_size} processes need as many shards, got {len(photos.urls)}")
    return data, validation


def _count_tags(data: Data, words: Words, path: Path, share: Share) -> TagCounts:
    if isinstance(data, TaggedPhotos):
        return count_tags_of_photos(data.photos, **asdict(words))
    return first_then_others(share, lambda: count_tags_of_shards(data, path, **asdict(words)))


def _source(data: Data, counts: TagCounts, training: TagTraining, share: Share) -> BatchSource:
    workers = default_workers(processes_on_this_machine()) if training.workers is None else training.workers
    batch_size = training.batch_size // share.world_size
    return BatchSource(data, counts.vocabulary, training.view, batch_size, training.seed, share, workers)


def _validation_source(data: Data, source: BatchSource, training: TagTraining) -> BatchSource:
    batch_size = max(1, source.batch_size // training.accumulation_steps)
    return replace(source, photos=data, view=training.view.whole, batch_size=batch_size)


def _parallel(trained: nn.Module, training: TagTraining, share: Share) -> nn.Module:
    """The trained part as it is called in steps: compiled, and with gradients averaged over processes, if asked."""
    parallel: nn.Module = torch.compile(trained) if training.compile else trained  # type: ignore[assignment]
    return DistributedDataParallel(parallel) if share.world_size > 1 else parallel


def _settings(
    training: TagTraining,
    network: TrainedNetwork,
    source: BatchSource,
    photo_count: int,
    keep: int | None,
    start: str | None,
) -> dict[str, Any]:
    """Settings of a run, plain values; a state with other ones is of another run, and is not resumed."""
    settings = {name: value for name, value in asdict(training).items() if name not in ("workers", "save_every")}
    settings["model"] = str(network.classifier.architecture)
    settings["photos"] = photo_count
    settings["words"] = len(source.vocabulary.words)
    settings["keep"] = keep
    if start is not None:
        settings["start"] = Path(start).name
    if isinstance(source.photos, TaggedShards):  # the order of whose photos depends on the readers
        settings |= {"workers": source.workers, "processes": source.share.world_size}
    return settings
