"""Train a tag classifier: ``python -m train data=… model=…`` (paper, 6.3.1).

Steps over batches lower the multi-label cross-entropy of photos, summed over tags. A run that was stopped is resumed
from its saved state, and ends as if it had never been stopped; everything random follows from the seed.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau

from grounding.messages import printable
from grounding.models import Classifier
from train.batches import Batch
from train.checkpoints import STATE, UNREADABLE, save_run
from train.contrast import phrase_loss
from train.curves import Row
from train.data import TaggedPhotos, TaggedShards
from train.distributed import join_processes, mean_over_processes
from train.loss import tag_loss
from train.model import freeze_batch_norm
from train.preparation import Data, Run, Words, prepare_run
from train.progress import Board, progress_bar
from train.recipe import TagTraining
from train.sources import BatchSource, compute_source_features, epoch_batches
from train.state import TrainingState, resume_training, seed_torch
from train.stopping import is_at_plateau
from train.validation import validate

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("train")

REPORT_EVERY = 20  # steps between rows of the log


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
    start: str | None = None,
    training: TagTraining,
    device: str = "auto",
) -> Path:
    """Train a classifier and write it to a folder, with the state from which a stopped run is resumed.

    Args:
        output: the folder of the checkpoint (see `grounding.checkpoint`); ``training/`` in it holds the state, the log,
            a picture of the curves and the list of photos that could not be read.
        model: the classifier whose network is trained, with a new head.
        data: tagged photos.
        validation: photos for validation; None: a fiftieth of the photos is held out, but none of shards.
        words: highest number of words that are learned, the most frequent ones.
        least: lowest number of photos with a word that is learned.
        lemmatise: bring tags into the form in which phrases are matched ("dogs" becomes "dog"); false where they are
            lemmas already.
        keep: keep the model's own units, after the new ones. A word in both vocabularies means the new unit where at
            least ``keep`` photos had it, and otherwise the model's own. None: drop them. Where more than the head is
            trained, ``training.distil`` keeps the features that these units need.
        start: a checkpoint, by folder or by name, of the same network: the words that it knows start from its weights.
        training: hyperparameters.
        device: ``auto``, ``cpu``, ``cuda`` …

    Returns:
        the folder.

    Raises:
        ValueError: settings contradict each other, data are missing, or the folder holds another run.
        OSError: the disk is full.
    """
    if not isinstance(data, TaggedPhotos | TaggedShards):
        raise ValueError("no tagged photos: choose data=tagged, tagged_folder, tagged_voc, tagged_coco or shards")
    _check_kept_units(keep, training)
    folder = Path(output)
    with _flushed_denormals(), join_processes(device) as (share, own_device):
        run, state = prepare_run(
            folder,
            model,
            data,
            validation,
            words=Words(words, least, lemmatise),
            keep=keep,
            start=start,
            training=training,
            share=share,
            device=own_device,
        )
        _train(run, state)
    return folder


def _check_kept_units(keep: int | None, training: TagTraining) -> None:
    """Check that units are kept by a training that does not spoil them."""
    trains_head_alone = training.trained == "head"
    if keep is not None and not trains_head_alone and not training.distil:
        raise ValueError(
            f"keep={keep} needs task.training.trained=head, or task.training.distil above 0: other training would "
            "spoil the units that are kept"
        )
    if training.distil and (keep is None or trains_head_alone):
        reason = "task.keep, whose units it is for" if keep is None else "training of more than the head"
        raise ValueError(f"task.training.distil={training.distil} needs {reason}: set it to 0")


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Let the CPU treat denormal numbers as zero within the block, since computing with them is slow."""
    are_flushed = bool(torch.tensor(1e-310, dtype=torch.float64) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(are_flushed)


def _train(run: Run, state: TrainingState) -> None:
    """Train from the start, or from the saved state, to the end."""
    state.note_unreadable(_missing_photos(run))
    if (run.files / STATE).exists():
        resume_training(run.files / STATE, state, run.settings, run=run.folder)
    elif (run.folder / "settings.json").exists():
        raise ValueError(f"{run.folder} holds a checkpoint already: choose another task.output, or delete it")
    run.files.mkdir(parents=True, exist_ok=True)
    is_first = run.share.is_first
    with progress_bar(is_shown=is_first) as progress:
        if run.training.trained == "head" and isinstance(run.source.photos, TaggedPhotos):
            run = _with_features(run, state, progress)
        board_folder = run.files / "tensorboard" if run.training.tensorboard and is_first else None
        with closing(Board(board_folder, state.step)) as board:
            _take_steps(run, state, progress, board)
    if state.unreadable and is_first:
        log.warning("%d photos could not be read: %s", len(state.unreadable), printable(run.files / UNREADABLE))


def _missing_photos(run: Run) -> list[str]:
    """A line for each listed photo that has no file."""
    sources = [source.photos for source in (run.source, run.validation_source) if source is not None]
    return [
        f"{photos.folder / name}: no such file"
        for photos in sources
        if isinstance(photos, TaggedPhotos)
        for name in photos.missing
    ]


def _with_features(run: Run, state: TrainingState, progress: "Progress") -> Run:
    """Replace the photos of a run by features, which the frozen part of the network computes once for each photo."""
    training = run.training

    def features(name: str, source: BatchSource, views: int, seed: int | None) -> BatchSource:
        bar = progress.add_task(name.replace("_", " "), total=None, about="")
        found = compute_source_features(
            source,
            run.network,
            run.files / f"{name}.npy",
            views=views,
            seed=seed,
            report=lambda done, total: progress.update(bar, completed=done, total=total),
        )
        state.note_unreadable(found.unreadable)
        return replace(source, photos=found)

    run = replace(run, source=features("features", run.source, training.views, training.seed))
    validation = run.validation_source
    if validation is not None and isinstance(validation.photos, TaggedPhotos):
        validation = features("validation_features", validation, 1, None)
    return replace(run, validation_source=validation)


def _take_steps(run: Run, state: TrainingState, progress: "Progress", board: Board) -> None:
    """Take the remaining steps, and log, validate and save on the way."""
    bar = progress.add_task("training", total=run.steps, completed=state.step, about="")
    losses: list[Tensor] = []
    started = time.perf_counter()
    while not _has_ended(run, state):
        epoch, first = divmod(state.step, run.steps_per_epoch)
        for batch in epoch_batches(run.source, epoch, first=first, count=run.steps_per_epoch):
            state.note_unreadable(batch.unreadable)
            losses.append(_learn(run, state, batch))
            state.step += 1
            progress.update(bar, completed=state.step)
            validates = _validates_after(run, state.step)
            saves = validates or state.step % run.training.save_every == 0
            if saves or state.step % REPORT_EVERY == 0:
                row = _log_row(run, state, losses, time.perf_counter() - started)
                summary = f"loss {row['loss']:.3f}, {row['photos_per_second']:.0f} photos/s"
                if validates and run.validation_source is not None:
                    progress.update(bar, about=f"{summary}, validating", refresh=True)
                    row |= _validate(run, run.validation_source, state)
                progress.update(bar, about=summary)
                state.rows.append(row)
                board.add(row)
                if saves:
                    save_run(run, state, with_model=validates)
                losses = []
                started = time.perf_counter()
            if validates and _has_ended(run, state):
                break
    if state.step < run.steps and run.share.is_first:
        log.info("the training loss has stopped falling: the run ends after step %d of %d", state.step, run.steps)


def _has_ended(run: Run, state: TrainingState) -> bool:
    """Whether all steps are taken, or the training loss has stopped falling where that ends the run."""
    share = run.training.stop_at_plateau
    is_complete = state.step >= run.steps
    return is_complete or (share is not None and is_at_plateau(state.rows, run.validation_period, share))


def _learn(run: Run, state: TrainingState, batch: Batch) -> Tensor:
    """Change the weights by one batch; returns its loss, the mean over the photos of this process."""
    training, trained = run.training, run.network.trained
    seed_torch(training.seed, state.step, run.share.rank)
    trained.train()
    if training.batch_norm == "frozen":
        freeze_batch_norm(trained)
    state.optimiser.zero_grad()
    total = torch.zeros((), device=run.network.device)
    parts = batch.split(training.accumulation_steps)
    for number, part in enumerate(parts, 1):
        with _without_exchange(run.parallel) if number < len(parts) else nullcontext():
            loss = _photo_losses(run, part).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if training.clip is not None:
        torch.nn.utils.clip_grad_norm_(trained.parameters(), training.clip)
    state.optimiser.step()
    if run.network.teacher is not None:
        run.network.hold_own_units(run.original)
    if not isinstance(state.schedule, ReduceLROnPlateau):
        state.schedule.step()
    if state.average is not None:
        state.average.update_parameters(run.network.classifier.network)
    return total


def _photo_losses(run: Run, batch: Batch) -> Tensor:
    """The loss of each photo, (B,): that of its tags, of its phrases, and the divergence of the model's own units."""
    network, training = run.network, run.training
    batch = batch.to(network.device)
    inputs = network.trained_inputs(batch)
    responses = network.respond(inputs, run.parallel, has_features=batch.has_features)
    learned = responses[:, : network.learned]
    known = None if run.known is None else run.known[batch.sources]
    losses = tag_loss(learned, batch.units, batch.weights, known)
    if training.contrast:
        losses = losses + training.contrast * phrase_loss(learned, batch.phrases, batch.units, batch.weights, known)
    if network.teacher is not None:
        losses = losses + training.distil * batch.weights * network.divergences(inputs, responses)
    return losses


def _without_exchange(parallel: nn.Module) -> AbstractContextManager[None]:
    """A context in which processes accumulate gradients without exchanging them."""
    return parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()


def _validates_after(run: Run, step: int) -> bool:
    return step % run.validation_period == 0 or step == run.steps


def _log_row(run: Run, state: TrainingState, losses: list[Tensor], seconds: float) -> Row:
    """A row of the log: the mean loss of the last steps, and their speed without validation and saving.

    Raises:
        ValueError: the loss is not finite.
    """
    loss = mean_over_processes(run.share, torch.stack(losses).mean()).item()
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} at step {state.step}: lower task.training.learning_rate, or set task.training.clip"
        )
    return {
        "step": state.step,
        "epoch": state.step / run.steps_per_epoch,
        "learning_rate": state.optimiser.param_groups[-1]["lr"],
        "loss": loss,
        "photos_per_second": len(losses) * run.training.batch_size / seconds,
    }


def _validate(run: Run, source: BatchSource, state: TrainingState) -> Row:
    """Validate the averaged weights, or the current ones if no average is kept; returns columns of the log."""
    result = validate(run.evaluated, source, run.known)
    state.note_unreadable(result.unreadable)
    if isinstance(state.schedule, ReduceLROnPlateau):
        state.schedule.step(result.loss)
    row: Row = {"validation_loss": result.loss}
    if result.mean_ap is not None:
        row["mean_ap"] = result.mean_ap
    return row
