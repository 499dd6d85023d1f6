"""A plain ViT of timm (DINOv2, DINOv3, SigLIP, MAE …) as an encoder: four of its blocks' outputs as feature maps."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

TAPS_OF_24 = (4, 11, 17, 23)
"""Of a ViT-L, as DINOv2 and UniMatch V2 have it; in other depths the four blocks lie evenly."""
FEWEST = 3
"""Patches along a side: DPT halves the grid once, and an export takes a side of 1 for a case of its own."""


class ViTEncoder(nn.Module):
    """Images (B, 3, H, W) of any size → four features (B, C, h, w), shallow to deep, h × w being the patch grid.

    Images are brought to the nearest multiple of the patch first, as UniMatch V2 does in evaluation; whoever enlarges
    the logits to the images' size brings them back. The final norm is applied to all four, class and register tokens
    are dropped.
    """

    def __init__(self, body: Any):
        """`body` is timm's model, made with dynamic_img_size; what only a classifier needs is taken from it."""
        super().__init__()
        self.patch: int = body.feature_info[0]["reduction"]
        self.channels: tuple[int, ...] = (body.embed_dim,) * 4
        self.taps = body.prune_intermediate_layers(list(tapped_blocks(len(body.blocks))), prune_norm=False)
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features."""
        # Without a branch for images that fit, so that a traced or exported network takes every size.
        size = [nearest_multiple(side, self.patch) for side in images.shape[-2:]]
        images = interpolate(images, size, mode="bilinear", align_corners=True)
        return self.body.forward_intermediates(images, indices=self.taps, norm=True, intermediates_only=True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks are computed a second time in the backward pass instead of kept in memory."""
        self.body.set_grad_checkpointing(enable)


def tapped_blocks(depth: int) -> tuple[int, ...]:
    """Which four blocks' outputs are features: 2, 5, 8, 11 of 12."""
    return TAPS_OF_24 if depth == 24 else tuple((i + 1) * depth // 4 - 1 for i in range(4))


def nearest_multiple(side: int, patch: int) -> int:
    """The multiple of the patch that is nearest to a side, the larger one of two; at least FEWEST patches."""
    patches = cast(Any, (side + patch // 2) // patch)  # a tensor where TorchScript traces, a symbol in an export
    # Neither is max(), by which an export with free sizes would take the answer for this size as that for all.
    larger: Any = patches.clamp(min=FEWEST) if isinstance(patches, Tensor) else torch.sym_max(patches, FEWEST)
    return larger * patch
