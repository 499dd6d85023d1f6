"""A moving average of the student as its guide (Mean Teacher, AugSeg, UniMatch V2)."""

from dataclasses import dataclass

from torch import Tensor

from prevmatch.average import Average
from prevmatch.config import GuidanceConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import accepts_of
from prevmatch.models.frozen import Frozen


def teacher(config: GuidanceConfig, versions: Versions) -> Guide:
    """The student's average labels, in eval mode."""
    assert versions.average is not None
    accepts = accepts_of(config, config.confidence_threshold, versions.confidence)
    return Teacher(name="teacher", accepts=accepts, frozen=versions.frozen, average=versions.average)


@dataclass(kw_only=True)
class Teacher(Guide):
    """A network that follows another one; the average itself belongs to the student."""

    frozen: Frozen
    average: Average

    def label(self, images: Tensor) -> Tensor:
        """Eval-mode logits."""
        return self.frozen.answer(self.average.network, images)
