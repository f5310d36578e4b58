"""Validation: loss and mean average precision of the tags of photos that are not trained on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from train.distributed import gather
from train.loss import multi_hot, tag_loss
from train.model import TrainedNetwork
from train.precision import mean_average_precision
from train.sources import BatchSource, batches_in_order

MAX_RANKED_PHOTOS = 5000  # photos whose responses are kept for the mean average precision
MIN_POSITIVES = 5  # photos with a word that it needs to count in the mean average precision


@dataclass(frozen=True)
class Validation:
    """The result of a validation by all processes."""

    loss: float  # mean over readable photos
    mean_ap: float | None  # None where no word has enough photos
    unreadable: tuple[str, ...]  # a line for each photo that cannot be read, of this process's share


def validate(network: TrainedNetwork, source: BatchSource, known: Tensor | None) -> Validation:
    """Measure a network on photos; all processes do it together, each on its share.

    Args:
        network: is put into evaluation mode.
        source: the photos.
        known: (sources + 1, units), see `train.counting.TagCounts.known`; None: all units are known to all sources.

    Raises:
        ValueError: none of the photos can be read, or the loss is not finite.
    """
    network.trained.eval()
    loss, readable, ranked = 0.0, 0.0, 0
    units = network.learned
    scores, truth = [torch.zeros(0, units)], [torch.zeros(0, units, dtype=torch.bool)]
    unreadable: list[str] = []
    with torch.no_grad():
        for batch in batches_in_order(source):
            unreadable += batch.unreadable
            batch = batch.to(network.device)
            inputs = network.trained_inputs(batch)
            responses = network.respond(inputs, network.trained, has_features=batch.has_features)[:, :units]
            known_units = None if known is None else known[batch.sources]
            loss += float(tag_loss(responses, batch.units, batch.weights, known_units).double().sum())
            readable += float(batch.weights.sum())
            if ranked * source.share.world_size < MAX_RANKED_PHOTOS:
                is_readable = batch.weights > 0
                scores.append(responses[is_readable].cpu())
                truth.append(multi_hot(batch.units, units)[is_readable].cpu())
                ranked += len(scores[-1])
    shares = gather(source.share, (loss, readable, torch.cat(scores), torch.cat(truth)))
    losses, counts, all_scores, all_truth = zip(*shares, strict=True)
    if not sum(counts):
        raise ValueError("none of the photos for validation can be read")
    mean_loss = sum(losses) / sum(counts)
    if not math.isfinite(mean_loss):
        raise ValueError(f"the validation loss is {mean_loss}: lower training.learning_rate, or set training.clip")
    score, is_true = torch.cat(all_scores), torch.cat(all_truth)
    mean_ap = None
    if (is_true.sum(0) >= MIN_POSITIVES).any():
        mean_ap = mean_average_precision(score, is_true, least=MIN_POSITIVES).mean
    return Validation(mean_loss, mean_ap, tuple(unreadable))
