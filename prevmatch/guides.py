"""Guides: whoever labels the weak views. A guide is a value; another (an EMA teacher, a peer) is one more function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prevmatch.bank import PreviousModels
from prevmatch.config import Weighting

Answer = tuple[Tensor | None, Tensor | None]
"""Logits (B, C, H, W) for the weak images, and (P, C, H, W) for the CutMix partners it was asked for, if any. None for
the weak images stands for the logits that the student gives them anyway, in train mode, on the way to its losses."""

Forward = Callable[[dict[str, Tensor], Tensor], Tensor]
"""(tensors of a network, normalised images) → eval-mode logits without gradient."""


@dataclass(frozen=True, kw_only=True)
class Guide:
    """One source of pseudo-labels and how much it counts."""

    name: str
    answer: Callable[[Tensor, Tensor | None], Answer]
    """Maps normalised weak images (B, 3, H, W) and partners (P, 3, H, W) to logits; asked before the student's own
    training forwards move its BatchNorm statistics."""
    threshold: float
    weighting: Weighting = "pixelwise"
    weight: float = 1.0
    """Its share beside the supervised loss, whose weight is 1."""


def student_as_guide(forward: Forward, tensors: Callable[[], dict[str, Tensor]], *, threshold: float) -> Guide:
    """The student teaches itself (FixMatch, UniMatch): train-mode labels for weak images, eval-mode for partners."""

    def answer(weak: Tensor, partner: Tensor | None) -> Answer:
        return None, None if partner is None else forward(tensors(), partner)

    return Guide(name="student", answer=answer, threshold=threshold)


def previous_models_as_guide(
    forward: Forward,
    bank: PreviousModels,
    *,
    most: int,
    random_size: bool,
    threshold: float,
    weighting: Weighting,
    weight: float,
) -> Guide:
    """A random ensemble of the student's earlier versions (PrevMatch): a weighted sum of their logits.

    One member at a time is on the device.
    """

    def answer(weak: Tensor, partner: Tensor | None) -> Answer:
        images = weak if partner is None else torch.cat([weak, partner])
        logits: Tensor | float = 0.0
        for share, member in bank.draw(most, random_size=random_size):
            on_device = {name: t.to(images.device, non_blocking=True) for name, t in member.items()}
            logits = logits + share * forward(on_device, images)
        assert isinstance(logits, Tensor)
        return logits[: len(weak)], None if partner is None else logits[len(weak) :]

    return Guide(name="previous", answer=answer, threshold=threshold, weighting=weighting, weight=weight)
