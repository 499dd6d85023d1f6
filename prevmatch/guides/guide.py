"""What a guide is: whoever labels the weak views. It lives as long as the run, and what it remembers is saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from prevmatch.average import Average
from prevmatch.config import Weighting
from prevmatch.guides.thresholds import Accepts, ClassConfidence
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.state import TrainState


class Versions(NamedTuple):
    """What guides may look at of a student: its versions, and the form in which these only look."""

    number: int
    """Which student it is."""
    network: Segmenter
    """As it is now, in whatever mode."""
    frozen: Frozen
    average: Average | None = None
    confidence: ClassConfidence | None = None
    students: Sequence["Versions"] = ()
    """The same of all students; complete once all are built."""


@dataclass(kw_only=True)
class Guide:
    """One source of pseudo-labels and how much it counts. Another kind overrides `label`, and what it remembers."""

    name: str
    accepts: Accepts
    """(class ids, confidence) → which pixels count."""
    weighting: Weighting = "pixelwise"
    weight: float = 1.0
    """Its share beside the supervised loss, whose weight is 1; while it is 0 the guide is not asked."""
    reads: int | None = None
    """The student whose own logits, from its training forward, stand for this guide's answer on the batch's own
    images; `label` is then asked about the partners only."""

    def begin(self, state: TrainState) -> None:
        """Hear that an epoch begins, or goes on after an interruption (`state.batch` is then not 0)."""

    def label(self, images: Tensor) -> Tensor:
        """Logits (N, C, h, w) of any resolution for normalised images (N, 3, H, W), without gradient.

        Asked before the students' training forwards move their BatchNorm statistics.
        """
        raise NotImplementedError

    def preview(self, images: Tensor) -> Tensor | None:
        """The same for a picture; changes nothing, not even what is drawn next. None while there is nothing yet."""
        return self.label(images)

    def follow(self, logits: Tensor, mask: Tensor) -> None:
        """Hear that an optimiser step was taken, what the student said of the labelled images before it, logits
        (B, C, h, w) of any resolution, and what is true of them, class ids (B, H, W)."""

    def facts(self, epoch: int) -> dict[str, Any]:
        """What is worth a place in the records before `epoch`; plain JSON values."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers: nested dicts and lists of tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


Builder = Callable[..., Guide]
"""(settings, versions of a student) → a guide of it."""
