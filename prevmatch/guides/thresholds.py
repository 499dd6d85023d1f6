"""From which confidence on a pseudo-label counts: one threshold for all classes, or one for each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prevmatch.config import IGNORE_INDEX, GuidanceConfig
from prevmatch.models.segmenter import enlarge

Accepts = Callable[[Tensor, Tensor], Tensor]
"""(class ids (B, H, W), confidence (B, H, W)) → bool (B, H, W)."""


def accepts_of(config: GuidanceConfig, threshold: float, confidence: "ClassConfidence | None") -> Accepts:
    """What counts for a guide whose threshold is τ, as the settings say."""
    if confidence is None:
        return partial(reaches, threshold)
    return partial(reaches_for_its_class, threshold, config.threshold_floor, confidence)


def reaches(threshold: float, labels: Tensor, confidence: Tensor) -> Tensor:
    """Confidence of at least τ, whatever the class."""
    return confidence >= threshold


def reaches_for_its_class(
    threshold: float, floor: float, known: "ClassConfidence", labels: Tensor, confidence: Tensor
) -> Tensor:
    """Confidence of at least τ_c = max(floor, τ · conf_c / max conf): a class known less well is held to less.

    The confidence is AEL's; using it as a threshold, and the floor, are ours (AEL samples and weighs by it).
    """
    return confidence >= (threshold * known.relative()).clamp(min=min(floor, threshold))[labels]


@dataclass
class ClassConfidence:
    """How well a student knows each class: the moving mean of the true class's probability over labelled pixels.

    AEL's confidence bank (NeurIPS 2021), apart from classes that a batch does not show: they are left out, where the
    published code counts them as 0. Of all processes' images, so that every process decides alike.
    """

    classes: int
    momentum: float
    device: torch.device
    total: Tensor = field(init=False)
    weight: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.weight = torch.zeros(2, self.classes, dtype=torch.float64, device=self.device)

    def relative(self) -> Tensor:
        """Each class's confidence as a share of the largest (C,), float32; 1 for a class that was never seen."""
        mean = self.total / self.weight.clamp(min=1e-12)
        return torch.where(self.weight > 0, mean / mean.max().clamp(min=1e-12), 1.0).float()

    @torch.no_grad()
    def follow(self, logits: Tensor, mask: Tensor) -> None:
        """Take in what the student said of labelled images: logits (B, C, h, w), class ids (B, H, W); no sync."""
        known = mask != IGNORE_INDEX
        ids = mask.where(known, 0)
        right = enlarge(logits, mask).softmax(dim=1).gather(1, ids.unsqueeze(1)).squeeze(1)
        sums = self.total.new_zeros(2, self.classes)
        sums[0].index_add_(0, ids.flatten(), (right * known).flatten().double())
        sums[1].index_add_(0, ids.flatten(), known.flatten().double())
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        seen, mean = sums[1] > 0, sums[0] / sums[1].clamp(min=1)
        self.total = torch.where(seen, self.momentum * self.total + (1 - self.momentum) * mean, self.total)
        self.weight = torch.where(seen, self.momentum * self.weight + 1 - self.momentum, self.weight)

    def state_dict(self) -> dict[str, Any]:
        """The means so far."""
        return {"total": self.total, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.total, self.weight = (state[name].to(self.device) for name in ("total", "weight"))
