"""Guides: whoever labels the weak views. A guide is a value; another (an EMA teacher, a peer) is one more function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prevmatch.bank import PreviousModels
from prevmatch.config import Weighting
from prevmatch.run.swap import Swap

Answer = tuple[Tensor | None, Tensor | None]
"""Logits (B, C, h, w) for the weak images, and (P, C, h, w) for the CutMix partners it was asked for, if any; the step
enlarges them to the images' size. None for the weak images stands for the logits that the student gives them anyway,
in train mode, on the way to its losses."""

Forward = Callable[[dict[str, Tensor], Tensor], Tensor]
"""(tensors of a network, normalised images) → eval-mode logits without gradient, of any resolution."""


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
    swap: Swap | None = None,
) -> Guide:
    """A random ensemble of the student's earlier versions (PrevMatch): a weighted sum of their logits.

    `swap` brings members to the device, each while the one before it answers, and the first one of the next step
    while this step goes on.
    """
    swap = swap or Swap(torch.device("cpu"))

    def answer(weak: Tensor, partner: Tensor | None) -> Answer:
        images = weak if partner is None else torch.cat([weak, partner])
        drawn = bank.draw(most, random_size=random_size)
        later = [member for _, member in drawn[1:]]
        if swap.copies:
            later.append(bank.peek(most, random_size=random_size)[0][1])
        logits: Tensor | float = 0.0
        for place, (share, member) in enumerate(drawn):
            tensors = swap.fetch(member)
            for following in later[place : place + 1]:
                swap.start(following)
            logits = logits + share * forward(tensors, images)
        assert isinstance(logits, Tensor)
        return logits[: len(weak)], None if partner is None else logits[len(weak) :]

    return Guide(name="previous", answer=answer, threshold=threshold, weighting=weighting, weight=weight)
