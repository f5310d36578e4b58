"""The files of a run: the checkpoint, the state from which it is resumed, the log, and photos that cannot be read."""

from grounding.checkpoint import save_checkpoint
from grounding.files import write_file
from grounding.messages import printable
from train.distributed import gather
from train.model import add_original_units
from train.preparation import Run
from train.progress import write_log
from train.state import TrainingState, save_training

STATE, UNREADABLE = "state.safetensors", "unreadable.txt"


def save_run(run: Run, state: TrainingState, *, with_model: bool) -> None:
    """Write the files of a run; all processes call this, and the first one writes.

    Args:
        run: the run.
        state: its state; photos that other processes could not read are added to it.
        with_model: also write the checkpoint, and the picture of the curves; a row of the log must be there.

    Raises:
        ValueError: the network cannot be saved.
        OSError: the disk is full.
    """
    for unreadable in gather(run.share, tuple(state.unreadable)):
        state.note_unreadable(unreadable)
    if not run.share.is_first:
        return
    if state.unreadable:
        lines = "".join(f"{printable(problem)}\n" for problem in state.unreadable)
        write_file(run.files / UNREADABLE, lines.encode())
    if with_model:
        _save_model(run, state)
    write_log(run.files, state.rows, with_picture=with_model)
    save_training(run.files / STATE, state, run.settings)


def _save_model(run: Run, state: TrainingState) -> None:
    """Write the checkpoint with the averaged weights, or the current ones if no average is kept."""
    classifier = run.evaluated.classifier
    if run.keep is not None and not run.training.distil:  # with distillation the head has these units already
        classifier = add_original_units(classifier, run.original, run.keep)
    save_checkpoint(
        run.folder,
        classifier,
        settings=run.settings,
        metrics={name: value for name, value in state.rows[-1].items() if name != "photos_per_second"},
        half=run.training.half,
    )
