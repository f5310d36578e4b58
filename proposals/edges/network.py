"""The network that finds edges: EfficientNet-Lite2's first half, and a decoder with side outputs, 0.5 M parameters."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (2, 4, 8, 16)
CHANNELS = (16, 24, 48, 88)  # of the backbone at each stride
FINE = 16  # channels at full resolution
DECODED = (24, 24, 32, 48)  # channels of the decoder at each stride


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
        features = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        decoded: Tensor | None = None
        sides = []
        for level in reversed(range(len(STRIDES))):
            x = self.lateral[level](features[level])
            if decoded is not None:
                x = x + _resize(self.down[level](decoded), x)
            decoded = self.refine[level](functional.relu_(x))
            sides.append(_resize(self.side[level](decoded), images))
        assert decoded is not None
        fine = self._finest(self.fine(images), decoded)
        logits = torch.cat([fine, *sides], 1)
        fused: Tensor = self.fuse(logits)
        if self.training:
            fused = torch.cat([fused, logits], 1)
        return fused[:, :, :height, :width]

    def _finest(self, fine: Tensor, decoded: Tensor) -> Tensor:
        """Apply `finest` to both, channel on channel, without concatenating them.

        At full resolution the concatenated channels would take most of the memory.
        """
        first = self.finest[0][0]  # type: ignore[index]
        fine_weight, decoded_weight = first.weight.split([fine.shape[1], decoded.shape[1]], 1)
        hidden = functional.conv2d(fine, fine_weight, first.bias, padding=1)
        hidden = hidden + functional.conv2d(_resize(decoded, fine), decoded_weight, padding=1)
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
    return network


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
