"""Explain what a classifier sees in a photo (paper, section 7): its classes, and where the evidence for each is."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from grounding.attention import ExcitationBackprop
from grounding.attention.circuit import logits_node
from grounding.attention.signals import record
from grounding.attention.trace import trace_network
from grounding.explanation.classes import choose_classes
from grounding.explanation.records import Explanation
from grounding.images import ImageSource, load_image
from grounding.maps import Attention, WordAttention
from grounding.models import IMAGENET_MEAN, IMAGENET_STD, Classifier
from grounding.modules import wrap_module
from grounding.pooling import pool_responses
from grounding.vocabulary import Vocabulary


def explain(
    network: nn.Module,
    image: ImageSource,
    classes: Sequence[str | int] = (),
    *,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
    layer: str | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    short_side: int = 224,
) -> Explanation:
    """Explain what a network sees in a photo, by c-MWP. For many photos, an `Explainer` traces the network only once.

    Args:
        network: maps images (B, 3, H, W) to responses (B, units). It is left as it was, and used as in evaluation.
        image: a path, a PIL image, an array (H, W, 3) of uint8 or a tensor (3, H, W) in [0, 1].
        classes: names of classes, or numbers of units; empty for the five of highest probability. To a single class its
            rival is added, the class of highest probability besides it.

    The other arguments are those of `grounding.modules.wrap_module`.

    Raises:
        ValueError: the network has no such class, an operation without a rule, or no layer that fits; or the photo
            cannot be read.
    """
    classifier = wrap_module(
        network,
        class_names=class_names,
        multi_label=multi_label,
        layer=layer,
        mean=mean,
        std=std,
        short_side=short_side,
    )
    device = str(next(network.parameters(), torch.empty(0)).device)
    return Explainer(classifier, partial(ExcitationBackprop, signed="clamp"), device=device)(image, classes)


class Explainer:
    """Finds a classifier's classes in photos, and the evidence for each of them.

    Args:
        classifier: the network, the names of its units, and the preparation of photos for it.
        method: makes the attention method from the network, its layer and window, such as `ExcitationBackprop`.
        device: where the network runs; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: the device cannot be used, or the method refuses the network.
    """

    def __init__(self, classifier: Classifier, method: Callable[..., Attention], *, device: str = "auto") -> None:
        self._attention = WordAttention(classifier, method, device=device)
        is_averaged = classifier.pooling.kind == "average"
        self._trace = trace_network(classifier.network, window=None if is_averaged else 1)

    def __call__(self, image: ImageSource, classes: Sequence[str | int] = (), *, top: int = 5) -> Explanation:
        """Explain a photo.

        Args:
            image: a path, a PIL image, an array (H, W, 3) of uint8 or a tensor (3, H, W) in [0, 1].
            classes: names of classes, or numbers of units; empty for the ``top`` units of highest probability. To a
                single class its rival is added, the unit of highest probability besides it.
            top: the number of units where no class is named.

        Raises:
            ValueError: the classifier has no such class, or the photo cannot be read.
        """
        if isinstance(classes, str) or top < 1:
            raise ValueError(f"classes are a list, and top is at least 1, got {classes!r} and {top}")
        classifier = self._attention.classifier
        photo = load_image(image)
        batch = self._attention.prepare(photo)[None].to(self._attention.device)
        probabilities = classifier.probabilities(self._respond(batch)).cpu()
        units = choose_classes(classes, classifier.vocabulary, probabilities, top=top)
        chosen = Vocabulary(units, classifier.vocabulary.size)
        (attended,) = self._attention.attend(batch, [torch.stack([chosen.prior(name) for name in units])])
        return Explanation(
            names=tuple(units),
            units=tuple(units.values()),
            probabilities=torch.stack([_probability(probabilities, own, classifier.labels) for own in units.values()]),
            maps=attended.maps.float().cpu(),
            reached=None if attended.reached is None else attended.reached.float().cpu(),
            size=(photo.shape[1], photo.shape[2]),
        )

    def _respond(self, batch: Tensor) -> Tensor:
        """The responses of all units to a photo, (units,), as they are below a final softmax or sigmoid."""
        classifier = self._attention.classifier
        logits = logits_node(self._trace.output, self._trace)
        responses = record(self._trace, {logits}, batch)[logits]
        if classifier.pooling.kind != "average":
            pooling = classifier.pooling
            responses = pool_responses(responses, pooling.kind, pooling.sharpness, classifier.labels)
        responses = responses.float().flatten()
        if len(responses) != classifier.vocabulary.size:
            raise ValueError(f"the network has {len(responses)} units, its vocabulary {classifier.vocabulary.size}")
        return responses


def _probability(probabilities: Tensor, units: Sequence[int], labels: int) -> Tensor:
    """The probability of a class with several units: the sum over classes, or the greatest of labels.

    >>> _probability(torch.tensor([0.5, 0.6, 0.1, 0.2]), (0, 1, 2, 3), labels=2)
    tensor(0.6000)
    """
    present = probabilities[[unit for unit in units if unit < labels]]
    exclusive = probabilities[[unit for unit in units if unit >= labels]].sum()
    return torch.cat([present, exclusive[None]]).max()
