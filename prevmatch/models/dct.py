"""Cosine coefficients instead of pixels as what a ResNet reads (Xu et al., CVPR 2020; Diverse Co-training, ICCV 2023).

The image is enlarged twice; the 8×8 discrete cosine transform of luminance and the two colour differences, as in JPEG,
then gives a map at a quarter of the image's side, which takes the place of the ResNet's stem. Kept are the lowest
frequencies, for 64 channels 44 of luminance and 10 of each colour difference.

The published networks get theirs from libjpeg: of pixels rounded to bytes, colour at half resolution, coefficients
rounded to the steps of a quality, each normalised by statistics of ImageNet. Here nothing is rounded, colour has full
resolution, and a BatchNorm learns the scale. Theirs were pretrained on such input; here the stages behind the stem
begin with the weights of the same ResNet over pixels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

BLOCK = 8
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class DCTInput(nn.Module):
    """Images (B, 3, H, W) → normalised coefficients (B, channels, H/4, W/4), sides rounded up."""

    basis: Tensor

    def __init__(self, channels: int):
        super().__init__()
        colour = channels * 10 // 64
        kept = (channels - 2 * colour, colour, colour)
        place = torch.arange(BLOCK, dtype=torch.float64)
        waves = torch.cos((2 * place + 1) * place[:, None] * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
        waves[0] /= math.sqrt(2)
        frequencies = sorted(((u, v) for u in range(BLOCK) for v in range(BLOCK)), key=lambda f: (sum(f), f))
        basis = [
            torch.tensor(colours).double()[:, None, None] * torch.outer(waves[u], waves[v])
            for colours, count in zip(YCBCR, kept, strict=True)
            for u, v in frequencies[:count]
        ]
        self.register_buffer("basis", torch.stack(basis).float(), persistent=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        """The coefficients."""
        size = [(side + 3) // 4 * BLOCK for side in images.shape[-2:]]
        enlarged = interpolate(images, size, mode="bilinear", align_corners=False)
        return self.norm(conv2d(enlarged, self.basis, stride=BLOCK))


def read_coefficients(encoder: nn.ModuleDict) -> bool:
    """Put a `DCTInput` in the place of a ResNet's stem; says whether the encoder has one that it fits, and leaves it
    as it is otherwise."""
    if not {"conv1", "bn1", "act1", "maxpool", "layer1"} <= set(encoder):
        return False
    channels = next(m.in_channels for m in encoder["layer1"].modules() if isinstance(m, nn.Conv2d))
    if channels - 2 * (channels * 10 // 64) > BLOCK**2:
        return False
    encoder["conv1"] = DCTInput(channels)
    for name in ("bn1", "act1", "maxpool"):
        encoder[name] = nn.Identity()
    return True
