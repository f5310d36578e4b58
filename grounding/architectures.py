"""Networks by name: those of torchvision and timm, and those of Caffe that the paper used."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grounding.caffe.networks import NETWORKS

STRIDES = (8, 16, 32)  # output strides that a network may be built with


@dataclass(frozen=True, slots=True)
class Architecture:
    """The name by which a library builds a network."""

    library: str  # torchvision, timm or caffe
    name: str  # the library's own name
    output_stride: int | None = None  # pixels a cell of the last map; None: the network's own

    def __str__(self) -> str:
        stride = "" if self.output_stride is None else f" with output stride {self.output_stride}"
        return f"{self.library}'s {self.name}{stride}"


LITE2 = Architecture("timm", "tf_efficientnet_lite2")


def create_timm(name: str, output_stride: int | None, **options: Any) -> nn.Module:
    """Build a network of timm.

    Args:
        name: the name that ``timm.create_model`` takes.
        output_stride: pixels a cell of the last map, 8, 16 or 32. The last stages keep the resolution, and their
            convolutions are dilated instead; the weights are the same. None: the network's own stride.
        options: further arguments of ``timm.create_model``.

    Raises:
        ValueError: timm knows no such network, it takes no output stride, or its weights cannot be downloaded.

    >>> network = create_timm("test_efficientnet", output_stride=16)
    >>> [stage["reduction"] for stage in network.feature_info]
    [2, 4, 8, 16, 16]
    """
    import timm

    if output_stride not in (None, *STRIDES):
        raise ValueError(f"model.output_stride must be 8, 16, 32 or null, got {output_stride!r}")
    stride: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    try:
        return timm.create_model(name, **stride, **options)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"timm has no {name!r}: {error}") from None
    except OSError as error:
        raise ValueError(f"timm's weights of {name!r} cannot be downloaded: {error}") from None
    except (AssertionError, TypeError):  # by the constructor of a network that cannot be dilated
        if output_stride is None:
            raise
        raise ValueError(f"timm's {name} cannot be built with model.output_stride={output_stride}: use null") from None


def torchvision_options(name: str) -> dict[str, bool]:
    """Options with which torchvision builds a network without weights as it builds one with weights."""
    if name.lower() not in ("googlenet", "inception_v3"):
        return {}
    return {"aux_logits": False, "init_weights": False, "transform_input": True}


def build(architecture: Architecture, units: int) -> nn.Module:
    """Build a network with random weights and ``units`` outputs. Nothing is downloaded.

    Raises:
        ValueError: there is no such library, no such classifier in it, or it takes no output stride.

    >>> network = build(Architecture("torchvision", "squeezenet1_1"), units=7)
    >>> network.classifier[1]
    Conv2d(512, 7, kernel_size=(1, 1), stride=(1, 1))
    """
    if units < 1:
        raise ValueError(f"a network needs at least one output unit, got {units}")
    if architecture.output_stride is not None and architecture.library in ("torchvision", "caffe"):
        raise ValueError(f"{architecture.library}'s {architecture.name} takes no output stride: use null")
    if architecture.library == "torchvision":
        from torchvision import models

        if architecture.name.lower() in models.list_models(module=models):
            name = architecture.name
            return models.get_model(name, weights=None, num_classes=units, **torchvision_options(name))  # type: ignore[no-any-return]
    elif architecture.library == "timm":
        import timm

        try:
            if timm.is_model(architecture.name):
                stride = architecture.output_stride
                return create_timm(architecture.name, stride, pretrained=False, num_classes=units)
        except TypeError as error:
            raise ValueError(f"timm cannot build {architecture.name!r}: {error}") from None
    elif architecture.library == "caffe":
        if architecture.name in NETWORKS:
            return NETWORKS[architecture.name](units)
    else:
        raise ValueError(f"networks come from torchvision, timm or caffe, not from {architecture.library!r}")
    raise ValueError(f"{architecture.library} has no classifier {architecture.name!r}")
