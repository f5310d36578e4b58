"""Whether a photo shows a word at all, by the classifier's own response to the photo, wherever the word may be."""

import math

import torch
from torch import Tensor, nn

from grounding.attention.activation_map import network_above
from grounding.attention.places import find_last_map
from grounding.attention.precision import full_precision
from grounding.attention.trace import trace_network
from grounding.models import Classifier
from grounding.pooling import pool_responses

LEAST = 1e-6  # probabilities are kept this far from 0 and 1


class Presence:
    """A classifier of whole photos, with its responses pooled as they were in training.

    Args:
        classifier: the network and its words.
        device: where the network runs.

    Raises:
        ValueError: the network has no head that can run at every place, where its training pooled such responses.
    """

    def __init__(self, classifier: Classifier, device: torch.device) -> None:
        self.classifier = classifier
        self._device = device
        network, window = classifier.network.to(device), 1 if classifier.pooling.kind != "average" else None
        self._network = trace_network(network, window=window).module
        self._head = _find_head(network, window)

    @torch.inference_mode()
    def __call__(self, prepared: Tensor, last_map: Tensor | None = None) -> Tensor:
        """The probability of each output unit in a photo, (units,) float64 on the CPU.

        Labels have a probability each; those of exclusive classes sum to 1 (see `Classifier`).

        Args:
            prepared: (3, h, w), the photo as the network takes it.
            last_map: what attention has seen of this photo (see `Attended`), so that the network runs from there on.
        """
        with full_precision(self._device.type):
            if last_map is not None and self._head is not None:
                responses = self._head(last_map[None])
            else:
                responses = self._network(prepared[None].to(self._device, memory_format=torch.channels_last))
        responses = responses.reshape(*responses.shape[:2], *(responses.shape[2:] or (1, 1)))
        pooling, labels = self.classifier.pooling, self.classifier.labels
        (pooled,) = pool_responses(responses.double(), pooling.kind, pooling.sharpness, labels)
        return self.classifier.probabilities(pooled).cpu()

    def log_odds(self, probabilities: Tensor, word: str) -> float:
        """The log-odds that a photo shows a known word, from the probabilities of the units.

        Of a word with several units, exclusive classes count together, and of labels the most probable one counts.
        """
        units = torch.tensor(self.classifier.vocabulary.units[word])
        is_label = units < self.classifier.labels
        labels, classes = probabilities[units[is_label]], probabilities[units[~is_label]]
        found = max(float(classes.sum()), float(labels.max()) if len(labels) else 0.0)
        found = min(max(found, LEAST), 1 - LEAST)
        return math.log(found / (1 - found))


def _find_head(network: nn.Module, window: int | None) -> nn.Module | None:
    """The part of a network above its last map; None where it has none."""
    last_map = find_last_map(trace_network(network, window=None))
    trace = trace_network(network, window=window)
    nodes = {node.name: node for node in trace.module.graph.nodes}
    return None if last_map is None or last_map.name not in nodes else network_above(nodes[last_map.name], trace)
