"""The optimiser of a tag classifier's weights and the schedule of its learning rate."""

import math

from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from train.model import TrainedNetwork
from train.recipe import TagTraining


def build_optimiser(network: TrainedNetwork, training: TagTraining) -> Optimizer:
    """The optimiser of the trained part: one group of parameters for the new head, and one for the others, if any."""
    head = list(network.head.parameters())
    in_head = {id(weight) for weight in head}
    others = [weight for weight in network.trained.parameters() if id(weight) not in in_head]
    groups = [{"params": head, "lr": training.learning_rate * training.head_learning_rate_factor}]
    if others:
        groups.append({"params": others, "lr": training.learning_rate})
    if training.optimiser == "sgd":
        return SGD(groups, momentum=training.momentum, weight_decay=training.weight_decay, fused=True)
    return AdamW(groups, weight_decay=training.weight_decay, fused=True)


def build_schedule(optimiser: Optimizer, training: TagTraining, steps: int) -> LRScheduler:
    """The schedule of the learning rate.

    A plateau's advances with each validation loss, the others with each of the run's ``steps``.
    """
    if training.schedule == "constant":
        return LambdaLR(optimiser, lambda step: 1.0)
    if training.schedule == "cosine":
        return LambdaLR(optimiser, lambda step: cosine_factor(step, steps))
    return ReduceLROnPlateau(optimiser, factor=0.1, patience=training.patience)


def cosine_factor(step: int, steps: int) -> float:
    """The learning rate at a step relative to its highest: linearly up for a tenth of all steps, then a cosine to 0.

    >>> [round(cosine_factor(step, 20), 2) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
