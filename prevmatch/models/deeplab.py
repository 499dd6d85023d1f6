"""The DeepLabV3+ decoder (Chen et al. 2018, arXiv 1802.02611): ASPP on the deep feature, fused with an early one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def conv_bn_relu(channels_in: int, channels_out: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, BatchNorm, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1×1, three dilated 3×3 and image pooling, concatenated and projected."""

    def __init__(self, channels_in: int, channels: int, rates: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_relu(channels_in, channels, 1), *(conv_bn_relu(channels_in, channels, 3, rate) for rate in rates)]
        )
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(channels_in, channels, 1))
        self.project = conv_bn_relu((len(rates) + 2) * channels, channels, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, channels_in, h, w) to (B, channels, h, w)."""
        pooled = self.pooling(feature).expand(-1, -1, *feature.shape[-2:])
        return self.project(torch.cat([*(branch(feature) for branch in self.branches), pooled], dim=1))


class DeepLabV3PlusDecoder(nn.Module):
    """Features at strides 4 and 16 → logits at stride 4."""

    def __init__(
        self,
        low_in: int,
        high_in: int,
        num_classes: int,
        *,
        channels: int,
        low_channels: int,
        rates: Sequence[int],
    ):
        super().__init__()
        self.aspp = ASPP(high_in, channels, rates)
        self.reduce = conv_bn_relu(low_in, low_channels, 1)
        self.fuse = nn.Sequential(
            *conv_bn_relu(channels + low_channels, channels, 3), *conv_bn_relu(channels, channels, 3)
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map low (B, low_in, h, w) and high (B, high_in, h/4, w/4) to logits (B, num_classes, h, w)."""
        high = interpolate(self.aspp(high), low.shape[-2:], mode="bilinear", align_corners=True)
        return self.classifier(self.fuse(torch.cat([self.reduce(low), high], dim=1)))
