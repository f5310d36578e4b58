"""The network that is trained: a classifier with a new head, cut in a part that is frozen and one that is trained."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from grounding.messages import one_line
from grounding.models import AVERAGE, Classifier, head_of, with_units
from grounding.vocabulary import Vocabulary
from train.batches import Batch
from train.counting import TagCounts
from train.distillation import build_teacher, divergence
from train.places import respond_at_places
from train.recipe import TagTraining
from train.split import changed_network, split
from train.state import seed_torch


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A classifier on its device, in the two parts that training distinguishes; they share its weights."""

    classifier: Classifier
    head: nn.Module  # its last layer, which is new
    frozen: nn.Module | None  # the part below, whose weights stay as they are; None: everything is trained
    trained: nn.Module  # the rest: responses = trained(frozen(pixels)), pooled over places as in training
    learned: int  # number of units that are learned from tags; any others above them are the model's own
    teacher: nn.Module | None  # the trained part as it was before training, for the model's own units
    device: torch.device
    precision: torch.dtype  # of the computation: bfloat16 or float32
    mean: Tensor  # (3, 1, 1), of pixels in 0 … 255
    std: Tensor  # (3, 1, 1)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the network computes in its precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, h, w) in 0 … 255 as the network expects them."""
        return ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def frozen_features(self, pixels: Tensor) -> Tensor:
        """The features (B, …) that the frozen part computes from pixels."""
        if self.frozen is None:
            raise ValueError("the network has no frozen part")
        self.frozen.eval()
        with torch.no_grad(), self.autocast():
            features: Tensor = self.frozen(self.normalise(pixels.to(self.device)))
        return features.float()

    def trained_inputs(self, batch: Batch) -> Tensor:
        """The inputs of the trained part for a batch: features, computed now or before, or normalised pixels."""
        inputs = batch.inputs.to(self.device, non_blocking=True)
        if batch.has_features:
            return inputs.float()
        return self.normalise(inputs) if self.frozen is None else self.frozen_features(inputs)

    def respond(self, inputs: Tensor, part: nn.Module, *, has_features: bool) -> Tensor:
        """The responses (B, units) to a batch.

        Args:
            inputs: the batch's `trained_inputs`.
            part: the trained part, or a module that wraps it.
            has_features: whether the batch holds features that were computed before.
        """
        is_fast = has_features and self.classifier.pooling == AVERAGE  # as a head that runs once, in any precision
        with nullcontext() if is_fast else self.autocast():
            responses: Tensor = part(inputs)
        return responses.float()

    def hold_own_units(self, original: Classifier) -> None:
        """Give the model's own units, which are no part of what is learned, the weights that they had before."""
        _, head = head_of(original.network, original.vocabulary.size)
        with torch.no_grad():
            for name, weight in self.head.named_parameters():
                weight[self.learned :] = head.get_parameter(name).to(weight.device)

    def divergences(self, inputs: Tensor, responses: Tensor) -> Tensor:
        """For each photo, the divergence of its responses of the model's own units from those before training, (B,)."""
        if self.teacher is None:
            raise ValueError("the network has no teacher")
        with torch.no_grad(), self.autocast():
            expected: Tensor = self.teacher(inputs)
        return divergence(responses[:, self.learned :], expected.float())


def build_network(
    model: Classifier,
    counts: TagCounts,
    training: TagTraining,
    device: torch.device,
    *,
    keep: int | None = None,
    start: Classifier | None = None,
) -> TrainedNetwork:
    """Give a copy of a classifier a new head for the counted tags, and cut it where training starts.

    The head's bias starts from the frequencies of the tags, and weights outside the trained part take no gradient.

    Args:
        model: the classifier; it is left as it was.
        counts: the words that are learned.
        training: hyperparameters.
        device: the device of the network.
        keep: see `train.loop.train_tags`; with ``training.distil`` the head has the model's own units from the start.
        start: a classifier that was trained before; the words that it knows start from its weights.

    Raises:
        ValueError: the network cannot be cut there, takes no photos of this size, ends in an activation function, or
            has other features than ``start``.
    """
    seed_torch(training.seed)
    words, photos = counts.vocabulary.words, counts.vocabulary.counts
    vocabulary = Vocabulary(
        {word: (unit,) for unit, word in enumerate(words)}, len(words), counts=dict(zip(words, photos, strict=True))
    )
    classifier = with_units(model, vocabulary)
    _, head = head_of(classifier.network, vocabulary.size)
    if isinstance(head.bias, Tensor):
        head.bias.data.copy_(torch.logit(counts.frequencies.clamp(1e-6, 0.999)))
    if start is not None:
        start_words(classifier, start)
    teacher = None
    if training.distil and keep is not None:
        classifier = add_original_units(classifier, model, keep)
        teacher = build_teacher(model.network, training.trained, device)
    window = last_map_size(classifier.network, training.crop)
    if training.pooling != "average":  # attention starts from all places alike, which finds the whole of a thing
        classifier = replace(classifier, window=None)
    elif model.window is not None:
        classifier = replace(classifier, window=window)
    classifier = replace(classifier, pooling=training.place_pooling)
    classifier.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = cut_network(classifier, training, device, vocabulary.size, teacher)
    trained = {id(weight) for weight in network.trained.parameters()}
    for weight in classifier.network.parameters():
        weight.requires_grad_(id(weight) in trained)
    return network


def cut_network(
    classifier: Classifier,
    training: TagTraining,
    device: torch.device,
    learned: int,
    teacher: nn.Module | None = None,
) -> TrainedNetwork:
    """The parts of a classifier, which has a head for each of its vocabulary's units, that training distinguishes.

    Args:
        classifier: the classifier.
        training: hyperparameters.
        device: the classifier's device.
        learned: number of units that are learned from tags, the first ones of the head.
        teacher: see `TrainedNetwork`.

    Raises:
        ValueError: the network cannot be cut where ``training.trained`` says, or its head cannot be applied at places.
    """
    path, head = head_of(classifier.network, classifier.vocabulary.size)
    change = None
    if training.pooling != "average":
        change = respond_at_places(classifier.network, path, training.place_pooling, learned)
    frozen, trained = None, classifier.network.train()
    if training.trained != "all":
        frozen, trained = split(classifier.network, path if training.trained == "head" else training.trained, change)
    elif change is not None:
        trained = changed_network(classifier.network, change)
    uses_bfloat16 = training.precision == "bfloat16" or (
        training.precision == "auto"
        and device.type == "cuda"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return TrainedNetwork(
        classifier,
        head,
        frozen,
        trained,
        learned,
        teacher,
        device,
        precision=torch.bfloat16 if uses_bfloat16 else torch.float32,
        mean=torch.tensor(classifier.mean, device=device)[:, None, None] * 255,
        std=torch.tensor(classifier.std, device=device)[:, None, None] * 255,
    )


def start_words(classifier: Classifier, start: Classifier) -> None:
    """Give the units of a classifier's words the weights of the same words of another, where each means a single unit.

    Raises:
        ValueError: the heads have different features.
    """
    known = [
        (unit, start.vocabulary.units[word][0])
        for word, (unit,) in classifier.vocabulary.units.items()
        if len(start.vocabulary.units.get(word, ())) == 1
    ]
    new, old = (head_of(part.network, part.vocabulary.size)[1] for part in (classifier, start))
    rows, old_rows = torch.tensor(known, dtype=torch.long).reshape(-1, 2).T
    with torch.no_grad():
        for name, weight in new.named_parameters():
            values = old.get_parameter(name).to(weight.device, weight.dtype)
            if values.shape[1:] != weight.shape[1:]:
                raise ValueError(
                    "task.start: its head has other features than that of the network: choose the same model"
                )
            weight[rows] = values[old_rows]


def last_map_size(network: nn.Module, crop: int) -> int:
    """The width in cells of the network's last map for photos of ``crop`` pixels; 1 without a map.

    Raises:
        ValueError: the network takes no such photos, or an activation function makes all its responses non-negative,
            so that it cannot respond that a tag is absent.
    """
    sizes: list[int] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            sizes.append(output.shape[-1])

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(record) for module in leaves]
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            responses = network.eval()(torch.linspace(-1, 1, 3 * crop * crop, device=device).view(1, 3, crop, crop))
    except RuntimeError as error:
        raise ValueError(f"the network takes no photos of training.crop={crop} pixels: {one_line(error)}") from None
    finally:
        for handle in handles:
            handle.remove()
    if (responses >= 0).all():
        name = type(network).__name__
        raise ValueError(f"{name} ends in an activation function, and cannot say that a tag is absent: choose another")
    return sizes[-1] if sizes else 1


def freeze_batch_norm(network: nn.Module) -> None:
    """Make batch norm use the statistics that it has, without updating them."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def add_original_units(trained: Classifier, original: Classifier, least: int) -> Classifier:
    """A classifier over the trained network with two sets of units in one head: the trained, then the original ones.

    A word in both vocabularies means its trained unit where at least ``least`` photos had it, and otherwise the
    original units, which were learned from more photos.
    """
    new, old = trained.vocabulary, original.vocabulary
    old_words = {
        word: tuple(new.size + unit for unit in units)
        for word, units in old.units.items()
        if new.counts.get(word, 0) < least
    }
    vocabulary = Vocabulary(
        {**new.units, **old_words}, new.size + old.size, frozenset(old.nouns & old_words.keys()), new.counts
    )
    joined = with_units(trained, vocabulary)
    heads = [head_of(part.network, part.vocabulary.size)[1] for part in (joined, trained, original)]
    with torch.no_grad():
        for name, weight in heads[0].named_parameters():
            weight.copy_(torch.cat([head.get_parameter(name).to(weight.device) for head in heads[1:]]))
    return joined
