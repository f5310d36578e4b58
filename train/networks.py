"""What training asks of a network, and how two classifiers become one."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from grounding.messages import one_line
from grounding.models import Classifier, head_of, with_units
from grounding.vocabulary import Vocabulary


def last_map(network: nn.Module, crop: int) -> int:
    """How many cells wide the network's last map is for photos of ``crop`` pixels.

    Raises:
        ValueError: it takes no such photos, or it cannot say no: an activation function makes all responses positive.
    """
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            sizes.append(output.shape[-1])

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
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


def fingerprint(network: nn.Module | None) -> str:
    """What tells a network's weights from others."""
    digest = hashlib.sha256()
    for value in network.state_dict().values() if network is not None else ():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def freeze_statistics(network: nn.Module) -> None:
    """Let batch norm use the statistics that it has."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def join(trained: Classifier, kept: Classifier, least: int) -> Classifier:
    """Both classifiers' units in one head over the same network: first the trained ones, then those kept.

    A word that both know means the trained unit where it was in ``least`` photos, and else the units kept: what was
    learned from few photos is better left to those who had many.
    """
    own, others = trained.vocabulary, kept.vocabulary
    extra = {
        word: tuple(own.size + unit for unit in units)
        for word, units in others.units.items()
        if own.counts.get(word, 0) < least
    }
    vocabulary = Vocabulary(
        {**own.units, **extra}, own.size + others.size, frozenset(others.nouns & extra.keys()), own.counts
    )
    joined = with_units(trained, vocabulary)
    heads = [head_of(part.network, part.vocabulary.size)[1] for part in (joined, trained, kept)]
    with torch.no_grad():
        for name, weight in heads[0].named_parameters():
            weight.copy_(torch.cat([head.get_parameter(name).to(weight.device) for head in heads[1:]]))
    return joined
