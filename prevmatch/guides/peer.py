"""The other one of two students as a guide (CPS, CVPR 2021): each fits the other's hard labels."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from prevmatch.config import GuidanceConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import reaches


def peer(config: GuidanceConfig, versions: Versions) -> Guide:
    """The other student labels, every pixel counts."""
    return Peer(name="peer", accepts=partial(reaches, 0.0), weight=config.peer_weight, versions=versions)


@dataclass(kw_only=True)
class Peer(Guide):
    """The student beside the one that `versions` is of, as it is now."""

    versions: Versions

    def label(self, images: Tensor) -> Tensor:
        """Logits as training has them: as published, BatchNorm has the batch's statistics, and learns of them."""
        return self._other.network(images, enlarged=False)

    def preview(self, images: Tensor) -> Tensor:
        """Eval-mode logits, which change nothing."""
        return self._other.frozen.answer(self._other.network, images)

    @property
    def _other(self) -> Versions:
        return self.versions.students[1 - self.versions.number]
