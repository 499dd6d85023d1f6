"""The DPT decoder (Ranftl et al. 2021, arXiv 2103.13413) in the form and sizes of UniMatch V2 (arXiv 2410.10777).

Own lines, because the published head has no BatchNorm and no class token, and sizes of its own for each encoder:
segmentation_models_pytorch's DPT has both, so that weights and statistics would be others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def dpt_widths(embedding: int) -> tuple[int, tuple[int, int, int, int]]:
    """The decoder's width and those of its four levels, by the encoder's: UniMatch V2's for ViT-S, -B and -L (384,
    768, 1024); in proportion to them for others."""
    if embedding >= 1024:
        return embedding // 4, (embedding // 4, embedding // 2, embedding, embedding)
    return embedding // 6, (embedding // 8, embedding // 4, embedding // 2, embedding)


class Residual(nn.Module):
    """Two 3×3 convolutions, each after a ReLU, and what they are given on top."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape."""
        return feature + self.second(self.first(feature.relu()).relu())


class Fusion(nn.Module):
    """What came of the coarser levels, and this level, made one; the deepest level has nothing to join."""

    def __init__(self, channels: int, *, joins: bool):
        super().__init__()
        self.level = Residual(channels) if joins else None
        self.fused = Residual(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, level: Tensor, coarser: Tensor | None, size: Sequence[int]) -> Tensor:
        """Map level and coarser (B, channels, h, w) to (B, channels, *size)."""
        if self.level is not None:
            level = coarser + self.level(level)
        return self.out(interpolate(self.fused(level), size, mode="bilinear", align_corners=True))


class DPTDecoder(nn.Module):
    """Four features of a ViT, all on the patch grid → logits of eight times that grid."""

    def __init__(self, channels_in: Sequence[int], num_classes: int):
        super().__init__()
        channels, widths = dpt_widths(channels_in[-1])
        resizes = (
            nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
            nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
            nn.Identity(),
            nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, width, 1), resize, nn.Conv2d(width, channels, 3, padding=1, bias=False)
            )
            for wide, width, resize in zip(channels_in, widths, resizes, strict=True)
        )  # fmt: skip
        self.fusions = nn.ModuleList(Fusion(channels, joins=i < 3) for i in range(4))
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, *features: Tensor) -> Tensor:
        """Map four features (B, C, h, w), shallow to deep, to logits (B, num_classes, 8h, 8w)."""
        levels = [level(feature) for level, feature in zip(self.levels, features, strict=True)]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *(level.shape[-2:] for level in levels[:-1])]
        fused: Tensor | None = None
        for level, fusion, size in reversed(list(zip(levels, self.fusions, sizes, strict=True))):
            fused = fusion(level, fused, size)
        assert isinstance(fused, torch.Tensor)
        return self.classifier(fused)
