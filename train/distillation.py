"""Distillation: the model's own units keep their responses while the features below them are trained.

This is "Learning without forgetting" (Li and Hoiem 2016). The model from which training starts is the teacher. Its
weights stay as they are, and it shares the features of the frozen part with the network that is trained.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from train.split import split


def build_teacher(network: nn.Module, trained: str, device: torch.device) -> nn.Module:
    """A frozen copy of the part of a network that is trained, in evaluation mode; its responses are averages.

    Args:
        network: the network from which training starts; it is left as it was.
        trained: ``all``, or the path of the module from which on weights are trained.
        device: the device of the copy.

    Raises:
        ValueError: the network cannot be cut at this module.
    """
    teacher = deepcopy(network).eval().requires_grad_(False)
    teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher if trained == "all" else split(teacher, trained)[1]


def divergence(responses: Tensor, teacher: Tensor) -> Tensor:
    """The Kullback–Leibler divergence of each photo's softmax over units from the teacher's, in nats.

    Shapes:
        responses: (B, U).
        teacher: (B, U).
        returns: (B,), Σ_u p_u log(p_u / q_u) with p = softmax(teacher) and q = softmax(responses); at least 0.

    >>> divergence(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]]))  # log 2: certain where the other tosses a coin
    tensor([0.6931])
    """
    return kl_div(responses.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)
