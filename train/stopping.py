"""The end of a training whose error has stopped falling (paper, 6.1.1)."""

from collections.abc import Sequence

from train.curves import Row, points


def is_at_plateau(rows: Sequence[Row], period: int, share: float) -> bool:
    """Whether the training loss has stopped falling.

    Args:
        rows: the rows of the log, of which one is at the end of each period.
        period: number of steps whose mean loss is compared with the lowest before.
        share: by what share of that it has to be lower for training to go on.

    >>> [is_at_plateau([{"step": 1, "loss": 2.0}, {"step": 2, "loss": loss}], 1, 0.01) for loss in (1.9, 1.99)]
    [False, True]
    """
    losses = period_losses(rows, period)
    return len(losses) > 1 and losses[-1] >= (1 - share) * min(losses[:-1])


def period_losses(rows: Sequence[Row], period: int) -> list[float]:
    """The mean training loss of each whole period; a row has that of the steps since the row before."""
    losses: list[float] = []
    total, done = 0.0, 0.0
    for step, loss in zip(*points(rows, "loss"), strict=True):
        total += loss * (step - done)
        done = step
        if step % period == 0:
            losses.append(total / period)
            total = 0.0
    return losses
