"""The network that finds edges: EfficientNet-Lite2's first half, and a decoder with side outputs, 0.5 M parameters."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (2, 4, 8, 16)
CHANNELS = (16, 24, 48, 88)  # of the backbone at each stride
FINE = 16  # channels at full resolution
DECODED = (24, 24, 32, 48)  # channels of the decoder at each stride
BAND = 2**16  # pixels of a band of rows, about
ALIGNED = 16  # rows of a band are a multiple of this


class EdgeNetwork(nn.Module):
    """Edge strength at several resolutions and fused (side outputs as in HED, Xie and Tu 2015; fusion from the top).

    Shapes:
        images: (B, 3, H, W) in [0, 1], RGB, of any size.
        returns: logits (B, 1 + 5, H, W) in training, the fused ones first; (B, 1, H, W) in evaluation.
    """

    def __init__(self) -> None:
        super().__init__()
        from timm.models.efficientnet import tf_efficientnet_lite2

        whole = tf_efficientnet_lite2()
        self.stem = nn.Sequential(whole.conv_stem, whole.bn1)
        self.stages = nn.ModuleList(whole.blocks[:4])
        self.fine = nn.Sequential(_convolution(3, FINE), _convolution(FINE, FINE))
        self.lateral = nn.ModuleList(nn.Conv2d(c, d, 1) for c, d in zip(CHANNELS, DECODED, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(DECODED))
        self.refine = nn.ModuleList(_separable(d) for d in DECODED)
        self.side = nn.ModuleList(nn.Conv2d(d, 1, 1) for d in DECODED)
        self.finest = nn.Sequential(_convolution(FINE + DECODED[0], FINE), nn.Conv2d(FINE, 1, 1))
        self.fuse = nn.Conv2d(1 + len(STRIDES), 1, 1)
        nn.init.constant_(self.fuse.weight, 0.2)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        # Whole cells at every stride, so that all resolutions lie alike on the photo.
        down, right = -height % STRIDES[-1], -width % STRIDES[-1]
        images = functional.pad((images * 255 - 127) / 128, (0, right, 0, down), mode="replicate")
        x = in_bands(lambda images: self.stages[0](self.stem(images)), images, stride=2, margin=4)
        features = [x]
        for stage in self.stages[1:]:
            for block in stage.children():
                depthwise = block.get_submodule("conv_dw")
                assert isinstance(depthwise, nn.Conv2d)
                x = in_bands(block, x, stride=depthwise.stride[0], margin=depthwise.kernel_size[0] - 1)
            features.append(x)
        maps: list[Tensor] = []
        sides = []
        for level in reversed(range(len(STRIDES))):
            maps = [in_bands(partial(self._decode, level), features[level], *maps, margin=4)]
            sides.append(_resize(self.side[level](maps[0]), images))
        fine = in_bands(self._finest, images, *maps, margin=4)
        logits = torch.cat([fine, *sides], 1)
        fused: Tensor = self.fuse(logits)
        if self.training:
            fused = torch.cat([fused, logits], 1)
        return fused[:, :, :height, :width]

    def _decode(self, level: int, feature: Tensor, coarser: Tensor | None = None) -> Tensor:
        """The decoder's map of a level, from the backbone's and the decoder's map of the next coarser level."""
        x = self.lateral[level](feature)
        if coarser is not None:
            x += _resize(self.down[level](coarser), x)
        decoded: Tensor = self.refine[level](functional.relu_(x))
        return decoded

    def _finest(self, images: Tensor, decoded: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of the full resolution, from the images and the finest map of the decoder.

        What `finest` would do to both, channel on channel; concatenating them takes as long as convolving them.
        """
        fine = self.fine(images)
        first = self.finest[0][0]  # type: ignore[index]
        fine_weight, decoded_weight = first.weight.split([fine.shape[1], decoded.shape[1]], 1)
        hidden = functional.conv2d(fine, fine_weight, first.bias, padding=1)
        hidden += functional.conv2d(_resize(decoded, fine), decoded_weight, padding=1)
        logits: Tensor = self.finest[1](functional.relu_(hidden))
        return logits

    def train(self, mode: bool = True) -> "EdgeNetwork":
        """Set training mode, but let batch norm keep ImageNet's statistics: batches are too small for their own."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def fold(network: EdgeNetwork) -> EdgeNetwork:
    """Fold batch norm into the convolutions before it, in place, for evaluation."""
    from torch.nn.utils import fuse_conv_bn_eval

    network.eval()
    for block in [network.stem, *(block for stage in network.stages for block in stage.children())]:
        convolution = ""
        for name, module in list(block.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                setattr(block, convolution, fuse_conv_bn_eval(block.get_submodule(convolution), module))  # type: ignore[type-var]
                setattr(block, name, getattr(module, "act", nn.Identity()))
            elif isinstance(module, nn.Conv2d):
                convolution = name
    for module in network.modules():
        # On one thread, torch leaves 1×1 convolutions to oneDNN, which is faster, only where they are dilated. Of a
        # single pixel, that changes nothing.
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = (2, 2)
    return network


def in_bands(apply: Callable[..., Tensor], *maps: Tensor, stride: int = 1, margin: int) -> Tensor:
    """Apply layers to one band of rows after the other, which gives what applying them to whole maps does.

    Whole maps at full resolution fit into no cache, and getting memory for them takes as long as the convolutions.

    Args:
        apply: the layers, from maps to one map.
        maps: (B, C, H, W); the later ones may have a fraction of the height of the first.
        stride: of the layers.
        margin: rows of the first map on both sides of a band on which the band's result depends, or more.
    """
    height, width = maps[0].shape[-2:]
    step = height if maps[0].is_cuda else max(BAND // width // ALIGNED, 1) * ALIGNED
    if step + margin >= height:
        return apply(*maps)
    bands = []
    for start in range(0, height, step):
        first, last = max(start - margin, 0), min(start + step + margin, height)
        cut = [each[:, :, first * each.shape[2] // height : last * each.shape[2] // height] for each in maps]
        inner = (start - first) // stride
        bands.append(apply(*cut)[:, :, inner : inner + step // stride])
    return torch.cat(bands, 2)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def _separable(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def side_losses(logits: Tensor, consensus: Tensor, *, positive: float, weights: Sequence[float]) -> Tensor:
    """Class-balanced cross-entropy of the fused and the side outputs, averaged over the pixels that count.

    Args:
        logits: (B, 1 + 5, H, W), the fused ones first.
        consensus: (B, 1, H, W), the share of people who drew an edge there, in [0, 1]; negative where nobody looked.
        positive: weight of an edge pixel, where one without an edge has 1.
        weights: weights of the six outputs.
    """
    counts = (consensus >= 0).to(logits.dtype)
    target = consensus.clamp(min=0)
    each = functional.softplus(-logits) * target * positive + functional.softplus(logits) * (1 - target)
    return ((each * counts).sum((0, 2, 3)) / counts.sum() * torch.tensor(weights, device=logits.device)).sum()
