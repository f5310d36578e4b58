"""Classifiers with the networks and weights of Caffe's Model Zoo."""

from pathlib import Path

from grounding.architectures import Architecture, build
from grounding.caffe.weights import load_caffemodel
from grounding.models import Classifier
from grounding.vocabulary import read_vocabulary

MEANS = {  # of red, green and blue in 0 … 255, which Caffe subtracts; for CNN-S and ResNet-50 of their mean images
    "cnn_s": (123.68, 116.779, 103.939),
    "googlenet": (123.0, 117.0, 104.0),
    "vgg16": (123.68, 116.779, 103.939),
    "resnet50": (123.1516, 115.9029, 103.0626),
}


def caffe_classifier(
    *,
    name: str,
    weights: str | Path | None,
    layer: str,
    window: int | None,
    short_side: int,
    vocabulary: str = "imagenet",
) -> Classifier:
    """Build a classifier of Caffe's Model Zoo.

    Its 1,000 classes are in the order of their numbers in WordNet, like those of torchvision and of the vocabulary
    ``imagenet``.

    Args:
        name: ``cnn_s``, ``googlenet``, ``vgg16`` or ``resnet50``.
        weights: the file, a ``.caffemodel``; None for random weights.
        layer: the module at which attention stops.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        short_side: pixels to which a photo's shorter side is scaled.
        vocabulary: the words of the output units (see `read_vocabulary`).

    Raises:
        ValueError: there is no such network, or the file cannot be read or has the weights of another network.
    """
    words = read_vocabulary(vocabulary)
    architecture = Architecture("caffe", name)
    network = build(architecture, words.size).eval()
    if weights is not None:
        load_caffemodel(network, name, Path(weights).expanduser())
    red, green, blue = (value / 255 for value in MEANS[name])
    return Classifier(
        network,
        words,
        layer=layer,
        window=window,
        mean=(red, green, blue),
        std=(1 / 255,) * 3,
        short_side=short_side,
        architecture=architecture,
    )
