"""The running average of weights over steps (exponential moving average, EMA), which is often better than the last."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged_model(network: nn.Module, ema_decay: float) -> AveragedModel:
    """A running average of a network's weights and buffers that starts from its current ones.

    After each step of training, ``update_parameters(network)`` moves it: average ← d · average + (1 − d) · network,
    with d = min(ema_decay, n / (9 + n)) at the n-th step, so that the first weights are soon forgotten. Integer buffers
    are copied.
    """
    average = AveragedModel(network, multi_avg_fn=_warmed_up_average(ema_decay), use_buffers=True)
    average.update_parameters(network)  # the first call copies
    return average


def _warmed_up_average(ema_decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        steps = int(updates)
        decay = min(ema_decay, steps / (9 + steps))
        for average, value in zip(averages, values, strict=True):
            if value.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    return update
