"""Running any version of a network in eval mode, without touching the one that trains.

One skeleton without memory (on the meta device) is lent the tensors of whichever version is asked: the student's own,
a previous model's, later a teacher's. The student's mode, hooks and autocast wrapper stay as they are.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prevmatch.config import SegmenterConfig
from prevmatch.models.segmenter import Segmenter


def build_skeleton(config: SegmenterConfig) -> Segmenter:
    """A Segmenter of this architecture in eval mode whose tensors take no memory."""
    with torch.device("meta"):
        return Segmenter(config).eval()


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, detached but not copied."""
    return {name: t.detach() for name, t in (*network.named_parameters(), *network.named_buffers())}


@torch.no_grad()
def frozen_logits(skeleton: Segmenter, tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """Eval-mode logits (B, C, H, W) in float32 for normalised images (B, 3, H, W), by the network with `tensors`."""
    return functional_call(skeleton, tensors, (images,)).float()
