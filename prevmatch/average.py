"""The moving average of a network (EMA): a teacher that labels, or the version that is scored and kept."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from prevmatch.models.segmenter import Segmenter


class Average:
    """θ' ← a θ' + (1 − a) θ after every step that was taken, with a = min(1 − 1/(step + 1), cap).

    In the first `idle` steps a is 0. Parameters and buffers alike, as UniMatch V2 and AugSeg have it; counters are
    copied. `network` is the average, in eval mode.
    """

    def __init__(self, source: Segmenter, cap: float, *, idle: int = 0):
        self.source, self.cap, self.idle, self.steps = source, cap, idle, 0
        self.network = deepcopy(source).eval().requires_grad_(False)

    @torch.no_grad()
    def follow(self, logits: Tensor, mask: Tensor) -> None:
        """Take in the network as a step left it; what it said does not matter here."""
        share = 1.0 if self.steps < self.idle else 1 - min(1 - 1 / (self.steps + 1), self.cap)
        for pairs in (
            zip(self.network.parameters(), self.source.parameters(), strict=True),
            zip(self.network.buffers(), self.source.buffers(), strict=True),
        ):
            together = list(pairs)
            floats = [(mean, value) for mean, value in together if mean.is_floating_point()]
            torch._foreach_lerp_([mean for mean, _ in floats], [value for _, value in floats], share)
            for mean, value in together:
                if not mean.is_floating_point():
                    mean.copy_(value)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """How many steps it took; the network itself is saved as one."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.steps = state["steps"]
