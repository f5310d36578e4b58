"""Export a classifier with Excitation Backprop, forward pass and way down, as one ONNX graph.

The way down consists of transposed convolutions and products, so that it exports where gradients would not. What is
exported is `ExcitationBackprop` itself: `torch.export` records the operations of one call.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from grounding.attention import ExcitationBackprop
from grounding.attention.linear import Convolution
from grounding.messages import one_line
from grounding.models import LARGEST, SMALLEST, Classifier

if TYPE_CHECKING:
    import onnx

OPSET = 20
MOST_UNITS = 1000  # in one call; the graph is recorded with a number of units from 1 to this


class AttentionGraph(nn.Module):
    """From a photo and numbers of output units to maps, as one module.

    Args:
        classifier: the network, and the mean and standard deviation of its photos.
        attend: the attention method made of it.
    """

    def __init__(self, classifier: Classifier, attend: ExcitationBackprop) -> None:
        super().__init__()
        self.network = attend.network
        self.attend = attend
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(classifier.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(classifier.std)[:, None, None])

    def forward(self, photo: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (K, h, w), before negative values are clipped, and the probability that reached the layer (K,).

        Shapes:
            photo: (1, 3, H, W), in [0, 1].
            units: (K,), numbers of output units.
        """
        return self.attend.attend_to_units((photo - self.mean) / self.std, units)


def export_attention(
    classifier: Classifier,
    method: Callable[..., Any],
    *,
    size: tuple[int, int],
    settings: Mapping[str, Any] | None = None,
) -> bytes:
    """Export a classifier and its attention method; returns the content of an ONNX file.

    The graph has the inputs ``photo`` (1, 3, H, W), RGB in [0, 1], and ``units`` (K,), int64, and the outputs ``maps``
    (K, h, w) and ``reached`` (K,). K is dynamic. Maps are as `ExcitationBackprop.unclipped` returns them: those of
    several units may be averaged before negative values are clipped. The file's metadata hold, as JSON, ``words``, the
    units of each word, ``nouns``, the words that are known only where they are nouns, and ``settings``.

    Args:
        classifier: the network with its words.
        method: makes the attention method from the network, its layer and window; an `ExcitationBackprop`.
        size: height and width of photos, in pixels, which the graph fixes.
        settings: plain values to record in the file.

    Raises:
        ValueError: the method is another one, or one of its settings cannot be exported; an operation of the network
            has no form in ONNX; or a package of the extra ``onnx`` is missing.
    """
    check_size(size)
    attend = method(classifier.network, layer=classifier.layer, window=classifier.window)
    check_method(attend)
    graph = AttentionGraph(classifier, attend).eval()
    try:
        import onnx
        import onnxscript  # noqa: F401, which torch.onnx needs

        model = _translate(graph, size)
    except ImportError as error:
        raise ValueError(f"{one_line(error)}: install phrase-grounding[onnx], or onnx and onnxscript") from error
    metadata = {
        "words": classifier.vocabulary.units,
        "nouns": sorted(classifier.vocabulary.nouns),
        "settings": {**(settings or {}), "layer": attend.layer, "window": classifier.window},
    }
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def check_size(size: Sequence[int]) -> None:
    """Raise unless a size is a height and a width from `SMALLEST` to `LARGEST` pixels."""
    if len(size) != 2 or not all(type(side) is int and SMALLEST <= side <= LARGEST for side in size):
        raise ValueError(f"size is [height, width], each from {SMALLEST} to {LARGEST} pixels, got {list(size)}")


def check_method(attend: object) -> None:
    """Raise unless a method is Excitation Backprop with settings that can be exported."""
    if not isinstance(attend, ExcitationBackprop):
        raise ValueError(
            f"{type(attend).__name__} cannot be exported: choose attention=cmwp or mwp "
            "(attention=best averages cmwp at two sizes of the photo: export both)"
        )
    if not attend.normalised:
        raise ValueError("attention.normalised=false needs float64, which cannot be exported: use true")
    if attend.renormalise:
        raise ValueError("attention.renormalise=true cannot be exported: divide the clipped maps by their sums instead")
    if attend.signed_links():
        raise ValueError(
            f"attention.signed={attend.signed} raises an error for negative values, which a graph cannot: use clamp"
        )


def _translate(graph: AttentionGraph, size: tuple[int, int]) -> "onnx.ModelProto":
    """Record the operations of one call, and translate them to ONNX."""
    example = (torch.zeros(1, 3, *size), torch.zeros(2, dtype=torch.long))
    shapes = {"photo": None, "units": {0: torch.export.Dim("K", min=1, max=MOST_UNITS)}}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated calls within torch
            program = torch.export.export(graph, example, dynamic_shapes=shapes).run_decompositions(_DECOMPOSITIONS)
            translated = torch.onnx.export(
                program,
                opset_version=OPSET,
                dynamic_shapes=shapes,  # for the name of K
                dynamo=True,
                input_names=["photo", "units"],
                output_names=["maps", "reached"],
                verbose=False,
            )
    except ImportError:
        raise
    except Exception as error:  # of any type: torch and onnxscript raise many
        missing = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
        reason = f"{missing[1]} has no form in ONNX" if missing else one_line(error)[:300]
        raise ValueError(f"the network's attention cannot be exported: {reason}") from error
    assert translated is not None
    return translated.model_proto


# Operations of the way down that torch cannot translate, in terms of others.


def _split_exponent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split positive numbers into mantissas, about ½ to 1, and powers of two, as `torch.frexp` does."""
    exponent = x.log2().floor() + 1
    return x * torch.exp2(-exponent), exponent.int()


def _spread_averages(
    y: Tensor,
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """The transpose of average pooling, which is that of a convolution with one weight for all cells of a window.

    Raises:
        ValueError: windows at the border count fewer cells than others.
    """
    if ceil_mode or (any(padding) and not count_include_pad):
        raise ValueError("average pooling whose windows at the border count fewer cells")
    weight = y.new_full((1, 1, *kernel), 1 / (divisor or kernel[0] * kernel[1]))
    average = Convolution(weight, (*(stride or kernel),), (*padding,))  # type: ignore[arg-type]
    return average.transpose(y.reshape(-1, 1, *y.shape[-2:]), x.shape).reshape(x.shape)


_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.frexp.Tensor: _split_exponent,
    torch.ops.aten.avg_pool2d_backward.default: _spread_averages,
}
