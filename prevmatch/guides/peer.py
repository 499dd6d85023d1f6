"""Another student as a guide (CPS, CVPR 2021; Diverse Co-training, ICCV 2023): each fits the other's hard labels."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from prevmatch.config import GuidanceConfig
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.thresholds import accepts_of, reaches


def peer(config: GuidanceConfig, versions: Versions) -> Guide:
    """The other student labels, every pixel counts."""
    return Peer(name="peer", accepts=partial(reaches, 0.0), weight=config.peer_weight, versions=versions)


def co_student(config: GuidanceConfig, versions: Versions, *, ahead: int) -> Guide:
    """The student that stands `ahead` places after this one labels, as it is trained; all others count as one."""
    others = len(config.co_encoders)
    number = (versions.number + ahead) % (others + 1)
    accepts = accepts_of(config, config.confidence_threshold, versions.confidence)
    return Peer(
        name=f"student{number + 1}", accepts=accepts, weight=config.peer_weight / others, reads=number,
        versions=versions, ahead=ahead,
    )  # fmt: skip


@dataclass(kw_only=True)
class Peer(Guide):
    """A student beside the one that `versions` is of, as it is now."""

    versions: Versions
    ahead: int = 1
    """How many places after it that one stands."""

    def label(self, images: Tensor) -> Tensor:
        """Logits as training has them: as published, BatchNorm has the batch's statistics, and learns of them."""
        return self._other.network(images, enlarged=False)

    def preview(self, images: Tensor) -> Tensor:
        """Eval-mode logits, which change nothing."""
        return self._other.frozen.answer(self._other.network, images)

    @property
    def _other(self) -> Versions:
        students = self.versions.students
        return students[(self.versions.number + self.ahead) % len(students)]
