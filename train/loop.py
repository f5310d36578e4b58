"""Train a tag classifier: ``python -m train data=… model=…`` (paper, 6.3.1).

The multi-label cross-entropy of a photo, summed over tags, is lowered by steps over batches. A run is the same whenever
it is stopped and whatever processes it is shared by: its state is kept, and all that is random follows from the seed.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from eval.words import mean_average_precision
from grounding.checkpoint import save_checkpoint
from grounding.files import write_file
from grounding.messages import one_line, printable
from grounding.models import LITE2, Classifier, head_of, with_units
from grounding.vocabulary import Vocabulary
from train.counting import Counted, count_shards, count_words
from train.curves import Board, Row, write_log
from train.data import TaggedPhotos, TaggedShards, hold_out
from train.features import Features, batches_of_features, compute_features, features_in_order
from train.loading import (
    Batch,
    Share,
    batches_in_order,
    batches_of_photos,
    batches_of_shards,
    usual_workers,
)
from train.networks import fingerprint, freeze_statistics, join, last_map
from train.recipe import TagTraining
from train.split import split
from train.state import load_state, random_for, same_as, save_state

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("train")

Data = TaggedPhotos | TaggedShards
Result = TypeVar("Result")
MOST_RANKED = 5000  # validation photos whose scores are kept for the mean average precision
LEAST_POSITIVES = 5  # of a word that it counts
REPORT_EVERY = 20  # steps
STATE, UNREADABLE, COUNTED = "state.safetensors", "unreadable.txt", "words.json"


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
    training: TagTraining,
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
        known: (B, U) bool, all by default; a tag that is there counts in any case.
        returns: (B,).
    """
    present = responses.gather(1, units.clamp(min=0)).masked_fill(units < 0, 0)
    costs = softplus(responses)
    if known is not None:
        costs = costs.masked_fill(~(known | spelt_out(units, responses.shape[1])), 0)
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
        for part in (self.data, self.validation):
            if isinstance(part, TaggedPhotos):
                self._note(tuple(f"{part.folder / name}: no such file" for name in part.missing))
        self.features: Features | None = None
        self.validation_features: Features | None = None

    def _count(self, data: Data, size: int, least: int, lemmatise: bool) -> Counted:
        """What the tags are, and of how many photos; shards are read through once for it."""
        if isinstance(data, TaggedPhotos):
            return count_words(data.photos, size=size, least=least, lemmatise=lemmatise)
        path = self.aside / COUNTED
        return self._in_turn(lambda: count_shards(data, path, size=size, least=least, lemmatise=lemmatise))

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        """Let the first process do some work and keep what it finds in a file, and then the others, who read it."""
        if self.share.world == 1:
            return work()
        found = work() if self.share.rank == 0 else None
        dist.barrier()
        return work() if found is None else found

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

        features = self._in_turn(
            lambda: compute_features(
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
        )
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
            write_file(self.aside / UNREADABLE, "".join(f"{printable(why)}\n" for why in self.unreadable).encode())
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
            raise ValueError(f"{path}: no state of this training: {one_line(error)}; delete it") from None


def cosine(step: int, steps: int) -> float:
    """The share of the highest rate at a step: up in a straight line for a tenth of all, then down as a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def spelt_out(units: Tensor, size: int) -> Tensor:
    """Lists of units (B, K), -1 where there are fewer, as truth (B, size) bool."""
    truth = torch.zeros(len(units), size + 1, dtype=torch.bool, device=units.device)
    return truth.scatter_(1, units.where(units >= 0, size), True)[:, :size]
