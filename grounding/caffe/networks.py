"""The four networks of the paper as Caffe's Model Zoo defines them, built in torch with random weights.

Modules bear Caffe's names of layers, with a dot for its slash: ``inception_3a.5x5`` is ``inception_3a/5x5``. VGG16 and
ResNet-50 are torchvision's, with its names. The networks also differ from Caffe's in that they take photos of any size:
the last map is averaged to the grid that a photo of 224×224 pixels has, where Caffe refuses other sizes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def cnn_s(units: int) -> nn.Module:
    """CNN-S (Chatfield et al. 2014, "Return of the Devil in the Details"), the Model Zoo's VGG_CNN_S.

    The last map of a photo of 224×224 pixels has 17×17 cells before its pooling and 6×6 after it.
    """
    return _named(
        conv1=nn.Conv2d(3, 96, 7, stride=2),
        relu1=nn.ReLU(inplace=True),
        norm1=nn.LocalResponseNorm(5, alpha=0.0005, beta=0.75, k=2.0),
        pool1=_max_pooling(3, stride=3),
        conv2=nn.Conv2d(96, 256, 5),
        relu2=nn.ReLU(inplace=True),
        pool2=_max_pooling(2, stride=2),
        conv3=nn.Conv2d(256, 512, 3, padding=1),
        relu3=nn.ReLU(inplace=True),
        conv4=nn.Conv2d(512, 512, 3, padding=1),
        relu4=nn.ReLU(inplace=True),
        conv5=nn.Conv2d(512, 512, 3, padding=1),
        relu5=nn.ReLU(inplace=True),
        pool5=_max_pooling(3, stride=3),
        grid=nn.AdaptiveAvgPool2d(6),
        flatten=nn.Flatten(),
        fc6=nn.Linear(512 * 6 * 6, 4096),
        relu6=nn.ReLU(inplace=True),
        drop6=nn.Dropout(0.5),
        fc7=nn.Linear(4096, 4096),
        relu7=nn.ReLU(inplace=True),
        drop7=nn.Dropout(0.5),
        fc8=nn.Linear(4096, units),
    )


def googlenet(units: int) -> nn.Module:
    """GoogLeNet (Szegedy et al. 2015), the Model Zoo's bvlc_googlenet, without its auxiliary classifiers.

    Unlike torchvision's, it has local response normalisation, 5×5 convolutions and no batch norm.
    """
    inceptions = {
        "inception_3a": Inception(192, 64, (96, 128), (16, 32), 32),
        "inception_3b": Inception(256, 128, (128, 192), (32, 96), 64),
        "pool3": _named({"3x3_s2": _max_pooling(3, stride=2)}),
        "inception_4a": Inception(480, 192, (96, 208), (16, 48), 64),
        "inception_4b": Inception(512, 160, (112, 224), (24, 64), 64),
        "inception_4c": Inception(512, 128, (128, 256), (24, 64), 64),
        "inception_4d": Inception(512, 112, (144, 288), (32, 64), 64),
        "inception_4e": Inception(528, 256, (160, 320), (32, 128), 128),
        "pool4": _named({"3x3_s2": _max_pooling(3, stride=2)}),
        "inception_5a": Inception(832, 256, (160, 320), (32, 128), 128),
        "inception_5b": Inception(832, 384, (192, 384), (48, 128), 128),
    }
    return _named(
        conv1=_named({"7x7_s2": nn.Conv2d(3, 64, 7, stride=2, padding=3), "relu_7x7": nn.ReLU(inplace=True)}),
        pool1=_named({"3x3_s2": _max_pooling(3, stride=2), "norm1": nn.LocalResponseNorm(5)}),
        conv2=_named(
            {
                "3x3_reduce": nn.Conv2d(64, 64, 1),
                "relu_3x3_reduce": nn.ReLU(inplace=True),
                "3x3": nn.Conv2d(64, 192, 3, padding=1),
                "relu_3x3": nn.ReLU(inplace=True),
                "norm2": nn.LocalResponseNorm(5),
            }
        ),
        pool2=_named({"3x3_s2": _max_pooling(3, stride=2)}),
        **inceptions,
        pool5=_named({"7x7_s1": nn.AdaptiveAvgPool2d(1), "drop_7x7_s1": nn.Dropout(0.4)}),
        flatten=nn.Flatten(),
        loss3=_named(classifier=nn.Linear(1024, units)),
    )


def vgg16(units: int) -> nn.Module:
    """VGG16 (Simonyan and Zisserman 2015): torchvision's, which is the Model Zoo's VGG_ILSVRC_16_layers."""
    from torchvision import models

    return models.vgg16(weights=None, num_classes=units)  # type: ignore[no-any-return]


def resnet50(units: int) -> nn.Module:
    """ResNet-50 (He et al. 2016): torchvision's, changed where the authors' own, which Caffe runs, differs.

    There the first convolution has a bias, the pooling after it rounds up instead of padding, and the first block of a
    stage takes its stride in the 1×1 convolution before the 3×3 one.
    """
    from torchvision import models

    network = models.resnet50(weights=None, num_classes=units)
    network.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    network.maxpool = _max_pooling(3, stride=2)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "cnn_s": cnn_s,
    "googlenet": googlenet,
    "vgg16": vgg16,
    "resnet50": resnet50,
}


class Inception(nn.ModuleDict):
    """Four branches side by side: 1×1, 3×3 and 5×5 convolutions, the latter two behind 1×1 ones, and max pooling.

    Args:
        inputs: channels of the input.
        one: channels of the 1×1 convolution.
        three: channels of the 1×1 convolution that reduces their number, and of the 3×3 one.
        five: the same for the 5×5 convolution.
        pooled: channels of the 1×1 convolution above the pooling.
    """

    def __init__(self, inputs: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        super().__init__(
            {
                "1x1": nn.Conv2d(inputs, one, 1),
                "relu_1x1": nn.ReLU(inplace=True),
                "3x3_reduce": nn.Conv2d(inputs, three[0], 1),
                "relu_3x3_reduce": nn.ReLU(inplace=True),
                "3x3": nn.Conv2d(*three, 3, padding=1),
                "relu_3x3": nn.ReLU(inplace=True),
                "5x5_reduce": nn.Conv2d(inputs, five[0], 1),
                "relu_5x5_reduce": nn.ReLU(inplace=True),
                "5x5": nn.Conv2d(*five, 5, padding=2),
                "relu_5x5": nn.ReLU(inplace=True),
                "pool": _max_pooling(3, stride=1, padding=1),
                "pool_proj": nn.Conv2d(inputs, pooled, 1),
                "relu_pool_proj": nn.ReLU(inplace=True),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """The branches' maps of (N, inputs, h, w), concatenated along the channels."""
        branches = [
            self._rectified(x, "1x1"),
            self._rectified(self._rectified(x, "3x3_reduce"), "3x3"),
            self._rectified(self._rectified(x, "5x5_reduce"), "5x5"),
            self._rectified(self["pool"](x), "pool_proj"),
        ]
        return torch.cat(branches, 1)

    def _rectified(self, x: Tensor, name: str) -> Tensor:
        return self[f"relu_{name}"](self[name](x))  # type: ignore[no-any-return]


def _named(modules: dict[str, nn.Module] | None = None, /, **more: nn.Module) -> nn.Sequential:
    """A chain of modules under the given names."""
    chain = nn.Sequential()
    for name, module in ((modules or {}) | more).items():
        chain.add_module(name, module)
    return chain


def _max_pooling(size: int, *, stride: int, padding: int = 0) -> nn.MaxPool2d:
    """Max pooling as in Caffe, where a window that the map fills only partly counts, too."""
    return nn.MaxPool2d(size, stride, padding, ceil_mode=True)
