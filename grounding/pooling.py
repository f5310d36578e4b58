"""Pooling of a unit's responses at the places of a map to its response to the photo."""

import math

import torch
from torch import Tensor


def average(responses: Tensor) -> Tensor:
    """The mean over places.

    Shapes:
        responses: (B, U, h, w), of each unit at each place.
        returns: (B, U), as for all poolings here.
    """
    return responses.mean((2, 3))


def log_mean_exp(responses: Tensor, sharpness: float) -> Tensor:
    """The smooth maximum r⁻¹ · log mean_x exp(r z(x)) over places (Pinheiro and Collobert 2015).

    It lies between the mean, its limit for r → 0, and the maximum, its limit for r → ∞. Its gradient is the softmax of
    r z over places: for r = 1, the top-down signal of a classifier that slides with ``window=1``.

    Args:
        responses: z, (B, U, h, w).
        sharpness: r, above 0.

    >>> log_mean_exp(torch.tensor([[[[0.0, 2.0]]]]), sharpness=1.0)
    tensor([[1.4338]])
    """
    places = responses.shape[2] * responses.shape[3]
    return (torch.logsumexp(sharpness * responses, (2, 3)) - math.log(places)) / sharpness


def attend(responses: Tensor, sharpness: float) -> Tensor:
    """The mean over places, weighted by attention: Σ_x softmax_x(r z(x)) · z(x).

    Each unit attends to places by its own responses. The result lies between `log_mean_exp` and the maximum.

    Args:
        responses: z, (B, U, h, w).
        sharpness: r, above 0.

    >>> attend(torch.tensor([[[[0.0, 2.0]]]]), sharpness=1.0)
    tensor([[1.7616]])
    """
    places = responses.flatten(2)
    return ((sharpness * places).softmax(2) * places).sum(2)


def pool_responses(responses: Tensor, kind: str, sharpness: float, learned: int) -> Tensor:
    """Pool the responses of units to photos; those above the first ``learned`` units are averaged.

    Args:
        responses: (B, U, h, w); half precision is pooled in single precision.
        kind: ``average``, ``lse`` (`log_mean_exp`) or ``attention`` (`attend`).
        sharpness: r of the last two.
        learned: number of units that ``kind`` is for.

    Shapes:
        returns: (B, U).
    """
    if responses.dtype in (torch.float16, torch.bfloat16):
        responses = responses.float()
    if kind == "average":
        return average(responses)
    first, others = responses[:, :learned], responses[:, learned:]
    pooled = log_mean_exp(first, sharpness) if kind == "lse" else attend(first, sharpness)
    return torch.cat([pooled, average(others)], 1) if others.shape[1] else pooled
