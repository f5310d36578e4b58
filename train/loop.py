"""Train a tag classifier: ``python -m train data=… model=…`` (paper, 6.3.1).

The multi-label cross-entropy of a photo, summed over tags, is lowered by steps over batches. A run is the same whenever
it is stopped and whatever processes it is shared by: its state is kept, and all that is random follows from the seed.
"""

import hashlib
import json
import logging
import math
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from eval.words import mean_average_precision
from grounding.checkpoint import save_checkpoint
from grounding.command import in_one_line, printable, write
from grounding.models import LITE2, Classifier, head_of, with_units
from grounding.vocabulary import Vocabulary
from proposals.settings import check_limits
from train.curves import Board, Row, write_log
from train.data import Tagged, TaggedPhotos, TaggedShards
from train.features import Features, batches_of_features, compute_features, features_in_order
from train.loading import (
    Batch,
    Share,
    View,
    batches_in_order,
    batches_of_photos,
    batches_of_shards,
    usual_workers,
)
from train.split import split
from train.state import load_state, random_for, same_as, save_state
from train.vocabulary import TagVocabulary, build_vocabulary

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("train")

Data = TaggedPhotos | TaggedShards
MOST_RANKED = 5000  # validation photos whose scores are kept for the mean average precision
LEAST_POSITIVES = 5  # of a word that it counts
HELD_OUT = 50  # one in so many photos in files is held out, where there are none for validation
REPORT_EVERY = 20  # steps
STATE, UNREADABLE, COUNTED = "state.safetensors", "unreadable.txt", "words.json"


@dataclass(frozen=True)
class TagTraining:
    """How a tag classifier is trained; the defaults are the paper's.

    Args:
        trained: ``all`` of the network, its ``head`` alone (over features computed once), or the path of a module from
            which on weights are trained, those below it frozen.
        epochs: passes through the data.
        batch: photos of a step, of all processes together.
        parts: in which a batch is computed one after another, to save memory.
        optimiser: ``sgd`` or ``adamw``.
        rate: learning rate at the start (``plateau``) or at its highest (``cosine``).
        head_rate: how many times higher the rate of the new head is.
        momentum: of ``sgd``.
        decay: of weights.
        schedule: ``plateau``: a tenth of the rate whenever the validation loss has stopped falling; ``cosine``: up for
            the first tenth of all steps, then down to nothing.
        patience: validations without a lower loss that ``plateau`` bears.
        clip: the largest norm of a gradient; None for any.
        resize: see `train.loading.View`.
        crop: see `train.loading.View`.
        views: of each photo whose features are kept, with ``trained=head``.
        batch_norm: ``train``: statistics follow the batches; ``frozen``: they stay as they are.
        averaging: of weights over steps, such as 0.999; 0 for none.
        precision: ``single``, ``bfloat16``, or ``auto``: half where a GPU is fast at it.
        compile: with `torch.compile`.
        tensorboard: write its files, too.
        workers: processes that decode photos, for each process that trains; None: as there are cores.
        validate_every: steps; None: at the end of each epoch.
        save_every: steps after which a stopped run goes on.
        half: whether the checkpoint's weights are in half precision.
        seed: of all that is random.
    """

    trained: str = "all"
    epochs: int = 3
    batch: int = 64
    parts: int = 1
    optimiser: str = "sgd"
    rate: float = 0.01
    head_rate: float = 1.0
    momentum: float = 0.9
    decay: float = 2e-4
    schedule: str = "plateau"
    patience: int = 0
    clip: float | None = None
    resize: tuple[int, int] = (256, 256)
    crop: int = 224
    views: int = 4
    batch_norm: str = "train"
    averaging: float = 0.0
    precision: str = "auto"
    compile: bool = False
    tensorboard: bool = False
    workers: int | None = None
    validate_every: int | None = None
    save_every: int = 500
    half: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(
            "training",
            epochs=(self.epochs, 1, 100_000),
            batch=(self.batch, 1, 1_000_000),
            parts=(self.parts, 1, 10_000),
            rate=(self.rate, 1e-12, 1000),
            head_rate=(self.head_rate, 1e-6, 1e6),
            momentum=(self.momentum, 0, 1),
            decay=(self.decay, 0, 10),
            views=(self.views, 1, 10_000),
            patience=(self.patience, 0, 10_000),
            averaging=(self.averaging, 0, 1),
            save_every=(self.save_every, 1, 10**9),
            validate_every=(1 if self.validate_every is None else self.validate_every, 1, 10**9),
            workers=(0 if self.workers is None else self.workers, 0, 1000),
            clip=(1 if self.clip is None else self.clip, 1e-9, 1e9),
            seed=(self.seed, 0, 2**31),
        )
        for name, choices in {
            "optimiser": ("sgd", "adamw"),
            "schedule": ("plateau", "cosine"),
            "batch_norm": ("train", "frozen"),
            "precision": ("auto", "single", "bfloat16"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"training.{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        if len(self.resize) != 2:
            raise ValueError(f"training.resize must be two sides in pixels, got {list(self.resize)}")
        _ = self.view

    @property
    def view(self) -> View:
        return View((self.resize[0], self.resize[1]), self.crop)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together (``torchrun``)."""

    share: Share
    device: torch.device


def train_tags(
    output: str,
    *,
    model: Classifier,
    data: Data | None,
    validation: Data | None = None,
    words: int = 18_000,
    least: int = 1,
    lemmatise: bool = True,
    keep: int | None = None,
    training: TagTraining = TagTraining(),
    device: str = "auto",
) -> Path:
    """Train, and keep the classifier and the state of the run in a folder; a stopped run goes on from there.

    Args:
        output: the folder of the checkpoint (see `grounding.checkpoint`); ``training/`` in it holds the state, the log,
            a picture of the curves and the list of photos that could not be read.
        model: whose network is trained, with a fresh head.
        data: tagged photos.
        validation: others, to measure on; None: a fiftieth of the photos is held out, but not of shards.
        words: how many tags are learned at most, the most frequent ones.
        least: photos that a tag needs to be learned.
        lemmatise: bring tags to the form in which phrases are read ("dogs" is "dog"); false where they are lemmas.
        keep: keep the model's own units, too, after the new ones; a word that both know means the new unit where at
            least so many photos had it, and else the model's own. With ``trained=head``; None: keep none.
        training: how.
        device: ``auto``, ``cpu``, ``cuda`` …

    Raises:
        ValueError: settings contradict each other, data are missing, or the folder holds another run.
        OSError: the disk is full.
    """
    if not isinstance(data, TaggedPhotos | TaggedShards):
        raise ValueError("no tagged photos: choose data=tagged, data=tagged_folder or data=shards")
    if keep is not None and training.trained != "head":
        raise ValueError(f"keep={keep} needs training.trained=head: other training would spoil the units that are kept")
    torch.set_flush_denormal(True)
    processes = _join(device)
    try:
        kept = None if keep is None else (model, keep)
        return _Run(Path(output), model, data, validation, (words, least, lemmatise), kept, training, processes).run()
    finally:
        if processes.share.world > 1:
            dist.destroy_process_group()


def _join(device: str) -> Processes:
    """Join the processes that ``torchrun`` started, if it did."""
    is_gpu = torch.cuda.is_available() and device in ("auto", "cuda")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(Share(), torch.device("cuda" if is_gpu else "cpu" if device == "auto" else device))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    dist.init_process_group("nccl" if is_gpu else "gloo")
    if is_gpu:
        torch.cuda.set_device(local)
    return Processes(Share(dist.get_rank(), world), torch.device(f"cuda:{local}" if is_gpu else "cpu"))


def tag_loss(responses: Tensor, units: Tensor, weights: Tensor, known: Tensor | None = None) -> Tensor:
    """The multi-label cross-entropy of each photo, summed over units: −Σ log σ(±response), + where a tag is there.

    Never spells out the zeros of thousands of absent tags: it is Σ softplus(response) − Σ response of the tags. Units
    that the source of a photo's tags does not know count for nothing.

    Shapes:
        responses: (B, U).
        units: (B, K), each at most once a photo, -1 where there are fewer.
        weights: (B,).
        known: (B, U) bool, all by default; the units of a photo are among them.
        returns: (B,).
    """
    present = responses.gather(1, units.clamp(min=0)).masked_fill(units < 0, 0)
    costs = softplus(responses)
    if known is not None:
        costs = costs.masked_fill(~known, 0)
    return (costs.sum(1) - present.sum(1)) * weights


class _Run:
    """One run of training: its parts, its state and its loop."""

    def __init__(
        self,
        folder: Path,
        model: Classifier,
        data: Data,
        validation: Data | None,
        vocabulary: tuple[int, int, bool],
        kept: tuple[Classifier, int] | None,
        training: TagTraining,
        processes: Processes,
    ) -> None:
        self.folder, self.aside, self.training = folder, folder / "training", training
        self.device, self.share = processes.device, processes.share
        if training.batch % (self.share.world * training.parts):
            raise ValueError(
                f"training.batch={training.batch} must be a multiple of processes × parts, "
                f"{self.share.world}×{training.parts}"
            )
        self.batch = training.batch // self.share.world
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
        self.workers = usual_workers(here) if training.workers is None else training.workers
        if validation is None and isinstance(data, TaggedPhotos):
            data, validation = hold_out(data)
        if validation is None and training.schedule == "plateau":
            raise ValueError("training.schedule=plateau needs photos to validate on: name some, or choose cosine")
        self.data, self.validation = data, validation
        for name, part in (("data", data), ("validation", validation)):
            if isinstance(part, TaggedShards) and len(part.urls) < self.share.world:
                raise ValueError(f"{name}: {self.share.world} processes need as many shards, got {len(part.urls)}")
        counted = self._count(data, *vocabulary)
        self.tags, self.photos = counted.tags, sum(counted.photos)
        self.known = counted.known.to(self.device) if len(counted.photos) > 1 else None
        self.frequencies = counted.frequencies
        self.steps_of_epoch = -(-self.photos // training.batch)
        self.steps = self.steps_of_epoch * training.epochs
        self.kept = kept
        self._build(model)
        self.step = 0
        self.rows: list[Row] = []
        self.unreadable: dict[str, None] = {}
        self.features: Features | None = None
        self.validation_features: Features | None = None

    def _count(self, data: Data, size: int, least: int, lemmatise: bool) -> "Counted":
        """What the tags are, and of how many photos; shards are read through once for it."""
        if isinstance(data, TaggedPhotos):
            return count_words(data.photos, size=size, least=least, lemmatise=lemmatise)
        path = self.aside / COUNTED
        key = {"urls": data.urls, "first": data.first, "size": size, "least": least, "lemmatise": lemmatise}
        found = None
        for is_turn_of_first in (True, False):  # the others read what the first process found
            if (self.share.rank == 0) == is_turn_of_first:
                found = _read_counted(path, key)
                if found is None:
                    found = count_words(_in_shards(data), size=size, least=least, lemmatise=lemmatise)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write(path, json.dumps({"key": key, **asdict(found)}).encode())
            if self.share.world > 1:
                dist.barrier()
        assert found is not None
        return found

    def _build(self, model: Classifier) -> None:
        """The network with its new head, what of it is trained, and by what."""
        training = self.training
        random_for(training.seed)
        words = Vocabulary(
            {word: (unit,) for unit, word in enumerate(self.tags.words)},
            len(self.tags.words),
            counts=dict(zip(self.tags.words, self.tags.counts, strict=True)),
        )
        self.classifier = with_units(model, words)
        self.network = network = self.classifier.network
        path, head = head_of(network, words.size)
        if isinstance(head.bias, Tensor):  # begin with what the tags' frequencies say
            head.bias.data.copy_(torch.logit(self.frequencies.clamp(1e-6, 0.999)))
        window = last_map(network, training.crop)
        if model.window is not None:
            self.classifier = replace(self.classifier, window=window)
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean, self.std = (
            torch.tensor(values, device=self.device)[:, None, None] * 255 for values in (model.mean, model.std)
        )
        self.lower: nn.Module | None = None
        self.upper: nn.Module = network.train()
        if training.trained != "all":
            self.lower, self.upper = split(network, path if training.trained == "head" else training.trained)
        trained = {id(weight) for weight in self.upper.parameters()}
        for weight in network.parameters():
            weight.requires_grad_(id(weight) in trained)
        new = {id(weight) for weight in head.parameters()}
        old = [weight for weight in self.upper.parameters() if id(weight) not in new]
        groups = [{"params": list(head.parameters()), "lr": training.rate * training.head_rate}]
        groups += [{"params": old, "lr": training.rate}] if old else []
        self.optimiser: torch.optim.Optimizer
        if training.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(
                groups, momentum=training.momentum, weight_decay=training.decay, fused=True
            )
        else:
            self.optimiser = torch.optim.AdamW(groups, weight_decay=training.decay, fused=True)
        self.schedule: LambdaLR | ReduceLROnPlateau
        if training.schedule == "cosine":
            self.schedule = LambdaLR(self.optimiser, lambda step: cosine(step, self.steps))
        else:
            self.schedule = ReduceLROnPlateau(self.optimiser, factor=0.1, patience=training.patience)
        self.average: dict[str, Tensor] = {}
        if training.averaging:
            self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.stepping: nn.Module = self.upper
        if training.compile:
            self.stepping = torch.compile(self.stepping)  # type: ignore[assignment]
        if self.share.world > 1:
            self.stepping = nn.parallel.DistributedDataParallel(self.stepping)

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this run from others; a state of other settings is not gone on from."""
        how = {name: value for name, value in asdict(self.training).items() if name not in ("workers", "save_every")}
        about = {"photos": self.photos, "words": len(self.tags.words), "keep": self.kept and self.kept[1]}
        if isinstance(self.data, TaggedShards):  # their order depends on who reads them
            about |= {"workers": self.workers, "processes": self.share.world}
        return {**how, "model": str(self.classifier.architecture), **about}

    def run(self) -> Path:
        """Train from the start, or from where the state says."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if (self.aside / STATE).exists():
            self._resume()
        elif (self.folder / "settings.json").exists():
            raise ValueError(f"{self.folder} holds a checkpoint already: choose another task.output, or delete it")
        self.aside.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_first = self.share.rank == 0
        with Progress(*columns, TextColumn("{task.fields[about]}"), disable=not is_first) as progress:
            if self.training.trained == "head" and isinstance(self.data, TaggedPhotos):
                self.features = self._features("features", self.data, progress)
                if isinstance(self.validation, TaggedPhotos):
                    self.validation_features = self._features("validation_features", self.validation, progress)
            board = Board(self.aside / "tensorboard" if self.training.tensorboard and is_first else None, self.step)
            try:
                self._train(progress, board)
            finally:
                board.close()
        if self.unreadable and is_first:
            log.warning("%d photos could not be read: %s", len(self.unreadable), printable(self.aside / UNREADABLE))
        return self.folder

    def _features(self, name: str, data: TaggedPhotos, progress: "Progress") -> Features:
        """The frozen part's features of all photos; the first process computes them, the others read its file."""
        view, views, seed = self.training.view, self.training.views, self.training.seed
        is_for_training = data is self.data
        progress_bar = progress.add_task(name.replace("_", " "), total=None, about="")

        def report(done: int, total: int) -> None:
            progress.update(progress_bar, completed=done, total=total)

        for is_turn_of_first in (True, False):
            if (self.share.rank == 0) == is_turn_of_first:
                features = compute_features(
                    self.aside / f"{name}.npy",
                    data,
                    self.tags,
                    view if is_for_training else view.whole,
                    self._look_below,
                    views=views if is_for_training else 1,
                    seed=seed if is_for_training else None,
                    about={
                        "model": str(self.classifier.architecture),
                        "weights": fingerprint(self.lower),
                        "precision": self.training.precision,
                    },
                    workers=self.workers,
                    report=report,
                )
            if self.share.world > 1:
                dist.barrier()
        self._note(features.unreadable)
        return features

    def _train(self, progress: "Progress", board: Board) -> None:
        training = self.training
        bar = progress.add_task("training", total=self.steps, completed=self.step, about="")
        since, losses = time.perf_counter(), []
        while self.step < self.steps:
            epoch, first = divmod(self.step, self.steps_of_epoch)
            for batch in self._batches(epoch, first):
                self._note(batch.unreadable)
                losses.append(self._learn(batch))
                self.step += 1
                is_last = self.step % self.steps_of_epoch == 0
                validates = is_last if training.validate_every is None else self.step % training.validate_every == 0
                validates |= self.step == self.steps
                saves = validates or self.step % training.save_every == 0
                if saves or self.step % REPORT_EVERY == 0:
                    row = self._row(losses, since)
                    about = f"loss {row['loss']:.3f}, {row['photos_per_second']:.0f} photos/s"
                    if validates and self.validation is not None:
                        progress.update(bar, completed=self.step, about=about + ", validating", refresh=True)
                        row |= self._validate()
                    progress.update(bar, completed=self.step, about=about)
                    self.rows.append(row)
                    board.add(row)
                    if saves:
                        self._save(with_model=validates)
                    since, losses = time.perf_counter(), []
                progress.update(bar, completed=self.step)
                if is_last:
                    break

    def _row(self, losses: list[Tensor], since: float) -> Row:
        """A row of the log; its speed counts learning alone, not what is saved and measured in between."""
        loss = torch.stack(losses).mean()
        if self.share.world > 1:
            dist.all_reduce(loss)
            loss /= self.share.world
        mean = loss.item()  # a GPU has done all steps by now
        if not math.isfinite(mean):
            raise ValueError(f"the loss is {mean} at step {self.step}: lower training.rate, or set training.clip")
        return {
            "step": self.step,
            "epoch": self.step / self.steps_of_epoch,
            "rate": self.optimiser.param_groups[-1]["lr"],
            "loss": mean,
            "photos_per_second": len(losses) * self.training.batch / (time.perf_counter() - since),
        }

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """What is left of an epoch for this process."""
        options: dict[str, Any] = {"batch": self.batch, "seed": self.training.seed, "epoch": epoch, "first": first}
        if self.features is not None:
            return batches_of_features(self.features, share=self.share, **options)
        options |= {"workers": self.workers, "share": self.share}
        if isinstance(self.data, TaggedPhotos):
            return batches_of_photos(self.data, self.tags, self.training.view, **options)
        return batches_of_shards(self.data, self.tags, self.training.view, count=self.steps_of_epoch, **options)

    def _validation_batches(self) -> Iterator[Batch]:
        batch = max(1, self.batch // self.training.parts)
        if self.validation_features is not None:
            return features_in_order(self.validation_features, batch=batch, share=self.share)
        view = self.training.view.whole
        options: dict[str, Any] = {"batch": batch, "share": self.share, "workers": self.workers}
        if isinstance(self.validation, TaggedPhotos):
            return batches_in_order(self.validation, self.tags, view, **options)
        assert self.validation is not None
        return batches_of_shards(self.validation, self.tags, view, seed=None, **options)

    def _learn(self, batch: Batch) -> Tensor:
        """Change the weights by one batch; returns its loss, the mean over photos."""
        training = self.training
        random_for(training.seed, self.step, self.share.rank)
        self.upper.train()
        if training.batch_norm == "frozen":
            freeze_statistics(self.upper)
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self.device)
        parts = batch.split(training.parts)
        for number, part in enumerate(parts):
            _, *labels = (tensor.to(self.device, non_blocking=True) for tensor in part.tensors)
            inputs = self._inputs(part)
            with self._apart(is_last=number == len(parts) - 1):
                with self._precision() if self.features is None else nullcontext():  # a head alone is fast anyway
                    responses = self.stepping(inputs)
                loss = self._loss(responses, *labels).sum() / len(batch)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.upper.parameters(), training.clip)
        self.optimiser.step()
        if isinstance(self.schedule, LambdaLR):
            self.schedule.step()
        if self.average:
            self._follow(min(training.averaging, (1 + self.step) / (10 + self.step)))
        return total

    def _loss(self, responses: Tensor, units: Tensor, sources: Tensor, weights: Tensor) -> Tensor:
        return tag_loss(responses.float(), units, weights, None if self.known is None else self.known[sources])

    def _follow(self, keep: float) -> None:
        """Let the average follow the weights."""
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)

    def _inputs(self, batch: Batch) -> Tensor:
        """What the trained part sees of photos: pixels, normalised, or the frozen part's features."""
        inputs = batch.inputs.to(self.device, non_blocking=True)
        if inputs.dtype != torch.uint8:
            return inputs.float()  # features that were computed before
        return self._normalised(inputs) if self.lower is None else self._look_below(inputs)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _look_below(self, pixels: Tensor) -> Tensor:
        assert self.lower is not None
        self.lower.eval()
        with torch.no_grad(), self._precision():
            features: Tensor = self.lower(self._normalised(pixels.to(self.device)))
        return features.float()

    def _precision(self) -> AbstractContextManager[Any]:
        choice = self.training.precision
        is_half = choice == "bfloat16" or (
            choice == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)

    def _apart(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Processes add up their gradients after the last part alone."""
        if is_last or not isinstance(self.stepping, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.stepping.no_sync()

    def _validate(self) -> Row:
        """The loss and the mean average precision on the photos for validation, with averaged weights if there are."""
        current = self._swap_in_average()
        self.upper.eval()
        loss, count = 0.0, 0.0
        scores: list[Tensor] = []
        truths: list[Tensor] = []
        with torch.no_grad():
            for batch in self._validation_batches():
                self._note(batch.unreadable)
                with self._precision() if self.features is None else nullcontext():
                    responses = self.upper(self._inputs(batch)).float()
                is_readable = batch.weights > 0
                labels = (tensor.to(self.device) for tensor in batch.tensors[1:])
                loss += float(self._loss(responses, *labels).double().sum())
                count += float(batch.weights.sum())
                if sum(len(few) for few in scores) * self.share.world < MOST_RANKED:
                    scores.append(responses[is_readable.to(self.device)].cpu())
                    truths.append(spelt_out(batch.units, responses.shape[1])[is_readable])
        if current is not None:
            self.network.load_state_dict(current)
        loss, count, score, truth = self._gather(loss, count, scores, truths)
        if not count:
            raise ValueError("none of the photos for validation can be read")
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(loss / count)
        row: Row = {"validation_loss": loss / count}
        if (truth.sum(0) >= LEAST_POSITIVES).any():
            row["mean_ap"] = mean_average_precision(score, truth, least=LEAST_POSITIVES).mean
        return row

    def _swap_in_average(self) -> dict[str, Tensor] | None:
        if not self.average:
            return None
        current = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        return current

    def _gather(
        self, loss: float, count: float, scores: list[Tensor], truths: list[Tensor]
    ) -> tuple[float, float, Tensor, Tensor]:
        """What all processes found."""
        units = len(self.tags.words)
        own = (
            loss,
            count,
            torch.cat([torch.zeros(0, units), *scores]),
            torch.cat([torch.zeros(0, units, dtype=torch.bool), *truths]),
        )
        if self.share.world == 1:
            return own
        found: list[Any] = [None] * self.share.world
        dist.all_gather_object(found, own)
        losses, counts, all_scores, all_truths = zip(*found, strict=True)
        return sum(losses), sum(counts), torch.cat(all_scores), torch.cat(all_truths)

    def _note(self, unreadable: tuple[str, ...]) -> None:
        self.unreadable.update(dict.fromkeys(unreadable))

    def _save(self, *, with_model: bool) -> None:
        """Write the checkpoint, the state, the log and the list of what could not be read."""
        if self.share.world > 1:
            found: list[Any] = [None] * self.share.world
            dist.all_gather_object(found, tuple(self.unreadable))
            for unreadable in found:
                self._note(unreadable)
        if self.share.rank != 0:
            return
        if self.unreadable:
            write(self.aside / UNREADABLE, "".join(f"{printable(why)}\n" for why in self.unreadable).encode())
        if with_model:
            current = self._swap_in_average()
            save_checkpoint(
                self.folder,
                self.classifier if self.kept is None else join(self.classifier, *self.kept),
                settings=self.settings,
                metrics={name: value for name, value in self.rows[-1].items() if name != "photos_per_second"},
                only_head=self.training.trained == "head" and self.classifier.architecture == LITE2,
                half=self.training.half,
            )
            if current is not None:
                self.network.load_state_dict(current)
        write_log(self.aside, self.rows, with_picture=with_model)
        state = {
            "settings": self.settings,
            "step": self.step,
            "network": self.upper.state_dict(),  # what is below it does not change
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rows": self.rows,
            "unreadable": list(self.unreadable),
        }
        save_state(self.aside / STATE, state)

    def _resume(self) -> None:
        path = self.aside / STATE
        state = load_state(path)
        try:
            differing = [
                name for name, value in self.settings.items() if not same_as(state["settings"].get(name), value)
            ]
            if differing:
                raise ValueError(
                    f"{path} belongs to other settings ({', '.join(differing)}): choose another task.output, "
                    f"or delete {self.folder}"
                )
            self.upper.load_state_dict(state["network"])
            self.average = {name: value.to(self.device) for name, value in state["average"].items()}
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            self.step, self.rows = state["step"], state["rows"]
            self._note(tuple(state["unreadable"]))
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{path}: no state of this training: {in_one_line(error)}; delete it") from None


def hold_out(data: TaggedPhotos) -> tuple[TaggedPhotos, TaggedPhotos]:
    """Photos for training, and a fiftieth for validation, chosen by their names."""
    is_held = [zlib.crc32(photo.name.encode("utf-8", "replace")) % HELD_OUT == 0 for photo in data.photos]
    if not any(is_held) or all(is_held):
        raise ValueError(f"{len(data)} photos are too few to hold some out: name photos with data@validation=…")
    training, validation = (
        replace(data, photos=[photo for photo, held in zip(data.photos, is_held, strict=True) if held == wanted])
        for wanted in (False, True)
    )
    return training, validation


@dataclass(frozen=True)
class Counted:
    """What a pass over tagged photos finds."""

    tags: TagVocabulary
    photos: tuple[int, ...]  # of each source
    units: tuple[tuple[int, ...], ...]  # of the words that each source ever gives

    @property
    def known(self) -> Tensor:
        """Which units each source knows, (sources + 1, units) bool; any other source knows all."""
        known = torch.zeros(len(self.photos) + 1, len(self.tags.words), dtype=torch.bool)
        for row, units in zip(known, self.units, strict=False):
            row[list(units)] = True
        known[-1] = True
        return known

    @property
    def frequencies(self) -> Tensor:
        """The share of photos with each word, among those whose source knows it, (units,)."""
        asked = torch.tensor(self.photos, dtype=torch.float64) @ self.known[:-1].double()
        return torch.tensor(self.tags.counts, dtype=torch.float64) / asked


def count_words(photos: Iterable[Tagged], *, size: int, least: int, lemmatise: bool) -> Counted:
    """The vocabulary of photos' tags, how many photos there are of each source, and which words a source gives."""
    counts: dict[str, int] = {}
    given: dict[str, set[str]] = {}

    def lists() -> Iterator[tuple[str, ...]]:
        for photo in photos:
            counts[photo.source] = counts.get(photo.source, 0) + 1
            given.setdefault(photo.source, set()).update(photo.tags)
            yield photo.tags

    tags = replace(build_vocabulary(lists(), size=size, least=least, lemmatise=lemmatise), sources=tuple(counts))
    units = tuple(tuple(sorted(tags.units_of(given[source]))) for source in counts)
    return Counted(tags, tuple(counts.values()), units)


def _in_shards(data: TaggedShards) -> Iterator[Tagged]:
    from rich.progress import track

    for url in track(data.urls, "words of shards"):
        yield from data.tags(url)


def _read_counted(path: Path, key: dict[str, Any]) -> Counted | None:
    """What `count_words` found before, if it was asked the same."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if same_as(found["key"], key):
            words, counts, sources = (tuple(found["tags"][name]) for name in ("words", "counts", "sources"))
            tags = TagVocabulary(words, counts, found["tags"]["forms"], sources)
            return Counted(tags, tuple(found["photos"]), tuple(map(tuple, found["units"])))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: counted anew
    return None


def last_map(network: nn.Module, crop: int) -> int:
    """How many cells wide the network's last map is for photos of ``crop`` pixels.

    Raises:
        ValueError: it takes no such photos, or it cannot say no: an activation function makes all responses positive.
    """
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            sizes.append(output.shape[-1])

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            responses = network.eval()(torch.linspace(-1, 1, 3 * crop * crop, device=device).view(1, 3, crop, crop))
    except RuntimeError as error:
        raise ValueError(f"the network takes no photos of training.crop={crop} pixels: {in_one_line(error)}") from None
    finally:
        for handle in handles:
            handle.remove()
    if (responses >= 0).all():
        name = type(network).__name__
        raise ValueError(f"{name} ends in an activation function, and cannot say that a tag is absent: choose another")
    return sizes[-1] if sizes else 1


def fingerprint(network: nn.Module | None) -> str:
    """What tells a network's weights from others."""
    digest = hashlib.sha256()
    for value in network.state_dict().values() if network is not None else ():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def freeze_statistics(network: nn.Module) -> None:
    """Let batch norm use the statistics that it has."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def cosine(step: int, steps: int) -> float:
    """The share of the highest rate at a step: up in a straight line for a tenth of all, then down as a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def spelt_out(units: Tensor, size: int) -> Tensor:
    """Lists of units (B, K), -1 where there are fewer, as truth (B, size) bool."""
    truth = torch.zeros(len(units), size + 1, dtype=torch.bool)
    return truth.scatter_(1, units.where(units >= 0, size), True)[:, :size]


def join(trained: Classifier, kept: Classifier, least: int) -> Classifier:
    """Both classifiers' units in one head over the same network: first the trained ones, then those kept.

    A word that both know means the trained unit where it was in ``least`` photos, and else the units kept: what was
    learned from few photos is better left to those who had many.
    """
    own, others = trained.vocabulary, kept.vocabulary
    extra = {
        word: tuple(own.size + unit for unit in units)
        for word, units in others.units.items()
        if own.counts.get(word, 0) < least
    }
    vocabulary = Vocabulary(
        {**own.units, **extra}, own.size + others.size, frozenset(others.nouns & extra.keys()), own.counts
    )
    joined = with_units(trained, vocabulary)
    heads = [head_of(part.network, part.vocabulary.size)[1] for part in (joined, trained, kept)]
    with torch.no_grad():
        for name, weight in heads[0].named_parameters():
            weight.copy_(torch.cat([head.get_parameter(name).to(weight.device) for head in heads[1:]]))
    return joined
