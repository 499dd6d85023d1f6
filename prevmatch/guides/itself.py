"""The student as its own guide (FixMatch, UniMatch): train-mode labels of a batch's images, eval-mode of partners."""

from dataclasses import dataclass

from torch import Tensor

from prevmatch.config import GuidanceConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import accepts_of


def itself(config: GuidanceConfig, versions: Versions) -> Guide:
    """The student labels for itself."""
    accepts = accepts_of(config, config.confidence_threshold, versions.confidence)
    return Itself(name="student", accepts=accepts, reads=versions.number, versions=versions)


@dataclass(kw_only=True)
class Itself(Guide):
    """A network as it is now."""

    versions: Versions

    def label(self, images: Tensor) -> Tensor:
        """Eval-mode logits."""
        return self.versions.frozen.answer(self.versions.network, images)
