"""Phrases against photos: a phrase of a photo's captions is to score higher in its own photo than in others.

This is the contrastive loss InfoNCE (van den Oord et al. 2018), a softmax over one match and several other photos, as
Gupta et al. (2020) use it to learn from captions what phrases mean, without boxes.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding

from train.loss import multi_hot


def phrase_loss(
    responses: Tensor, phrases: Tensor, units: Tensor, weights: Tensor, known: Tensor | None = None
) -> Tensor:
    """For each photo, the mean over its phrases of −log softmax of their scores in the photos of the batch.

    The score of a phrase in a photo is the mean of the photo's responses for the phrase's words. A response z is the
    logit of a word in a photo, so that for a single word the softmax is the probability that the own photo has it,
    given that exactly one of the photos does. A photo stands against a phrase only if it is readable, its tags lack
    one of the phrase's words, and their source knows all of these words. Phrases that no photo stands against are left
    out, and a photo without other phrases has the loss 0.

    Shapes:
        responses: (B, U).
        phrases: (B, P, W), the units of the words of each photo's phrases, filled up with -1.
        units: (B, K), the units of each photo's tags, filled up with -1.
        weights: (B,), factors of the photos' losses; 0 for a photo that cannot be read.
        known: (B, U) bool, the units that the source of a photo's tags knows; by default all.
        returns: (B,), at least 0.

    >>> responses = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    >>> phrase_loss(responses, torch.tensor([[[0, 1]], [[-1, -1]]]), torch.tensor([[0, 1], [1, -1]]), torch.ones(2))
    tensor([0.3133, 0.0000])
    """
    is_word = (phrases >= 0)[..., None]
    words = phrases.clamp(min=0)
    scores = (embedding(words, responses.T) * is_word).sum(2) / is_word.sum(2).clamp(min=1)  # (B, P, B)

    def hold_for_all_words(holds: Tensor) -> Tensor:
        """For each phrase and photo, whether a property (B, U) of the photo's units is true of all words: (B, P, B)."""
        return (holds.T[words] | ~is_word).all(2)

    is_other = ~hold_for_all_words(multi_hot(units, responses.shape[1])) & (weights > 0)
    if known is not None:
        is_other &= hold_for_all_words(known)
    is_own = torch.eye(len(responses), dtype=torch.bool, device=responses.device)[:, None]
    is_other &= ~is_own
    losses = -scores.masked_fill(~(is_own | is_other), -torch.inf).log_softmax(2).diagonal(dim1=0, dim2=2).T
    counts = is_other.any(2)
    return (losses * counts).sum(1) / counts.sum(1).clamp(min=1) * weights
