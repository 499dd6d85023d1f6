"""A teacher that lives for an epoch (Dual Teacher, NeurIPS 2023): it begins as a copy of the student, then follows it.

The paper has two of them that take turns. Each is overwritten by the student when its turn begins, so nothing of the
one at rest is ever read again, and one network here stands for both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from prevmatch.average import Average
from prevmatch.config import GuidanceConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import accepts_of
from prevmatch.models.frozen import Frozen
from prevmatch.run.state import TrainState


def temporary(config: GuidanceConfig, versions: Versions) -> Guide:
    """The student's average since the epoch began labels, in train mode."""
    assert versions.average is not None
    accepts = accepts_of(config, config.confidence_threshold, versions.confidence)
    return Temporary(name="teacher", accepts=accepts, frozen=versions.frozen, average=versions.average)


@dataclass(kw_only=True)
class Temporary(Guide):
    """A network that follows another one for an epoch; the average itself belongs to the student."""

    frozen: Frozen
    average: Average

    def begin(self, state: TrainState) -> None:
        """Become the student, where an epoch begins from its first batch on."""
        if state.batch == 0:
            self.average.steps = 0  # which makes the next thing it follows all that it is
            self.average.follow(torch.empty(0), torch.empty(0))

    def label(self, images: Tensor) -> Tensor:
        """Logits as training has them: as published, BatchNorm has the batch's statistics."""
        with self.frozen.context():
            return self.average.network.train()(images, enlarged=False)

    def preview(self, images: Tensor) -> Tensor:
        """Eval-mode logits, which change nothing."""
        return self.frozen.answer(self.average.network, images)
