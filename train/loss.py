"""The loss of a tag classifier: multi-label cross-entropy that never builds the matrix of absent tags."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def tag_loss(responses: Tensor, units: Tensor, weights: Tensor, known: Tensor | None = None) -> Tensor:
    """The multi-label cross-entropy of each photo, summed over units: −Σ log σ(±response), + for the photo's tags.

    It is computed as Σ softplus(response) − Σ response of the tags, so that the zeros of thousands of absent tags are
    never written out. A unit that the source of a photo's tags does not know adds nothing to that photo's loss.

    Shapes:
        responses: (B, U).
        units: (B, K), the units of each photo's tags, without repetition, filled up with -1.
        weights: (B,), factors of the photos' losses.
        known: (B, U) bool; by default all are known. A tag that is present counts in any case.
        returns: (B,).

    >>> loss = tag_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1]]), torch.ones(1))
    >>> bool(torch.isclose(loss, 2 * torch.tensor(2.0).log()))
    True
    """
    present = responses.gather(1, units.clamp(min=0)).masked_fill(units < 0, 0)
    costs = softplus(responses)
    if known is not None:
        costs = costs.masked_fill(~(known | multi_hot(units, responses.shape[1])), 0)
    return (costs.sum(1) - present.sum(1)) * weights


def multi_hot(units: Tensor, size: int) -> Tensor:
    """Lists of units as a matrix that is true where a photo has a unit.

    Shapes:
        units: (B, K), filled up with -1.
        returns: (B, size) bool.

    >>> multi_hot(torch.tensor([[2, 0], [1, -1]]), 3).int().tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    truth = torch.zeros(len(units), size + 1, dtype=torch.bool, device=units.device)
    return truth.scatter_(1, units.where(units >= 0, size), True)[:, :size]
