"""Where a run stands: the counters and scores that decide what happens next."""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class TrainState:
    """Progress of a run. `step` counts optimiser steps, `epoch` finished epochs, `batch` those of the epoch begun."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_miou: float = float("-inf")
    best_epoch: int = -1
    best_iou: list[float | None] = field(default_factory=list)
    final_iou: list[float | None] = field(default_factory=list)
    """IoU in % of each class; None for one that does not count."""
    seconds: float = 0.0
    """Time spent training, loading included, evaluation and saving not."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite."""
    improved: bool = False
    """Whether the epoch that just ended was evaluated and set a strictly higher score than all before it."""

    def __post_init__(self) -> None:
        self.start_clock()

    @property
    def final_miou(self) -> float:
        """Mean IoU in % at the last evaluation, over the classes that count; NaN where nothing validates."""
        counting = [iou for iou in self.final_iou if iou is not None]
        return sum(counting) / len(counting) if counting else math.nan

    def start_clock(self) -> None:
        """The time from here to `batch_done` counts as training."""
        self._since = time.perf_counter()

    def batch_done(self) -> None:
        """Count a batch, and the time since the last one, or since the clock was started, as training."""
        self.batch += 1
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now

    def record(self, iou: list[float | None] | None, *, newest: bool = False) -> None:
        """Note that an epoch is over, and the per-class IoU (in %) after it, or that it was not evaluated.

        An empty list means that there is nothing to validate on. `newest` says that scores choose nothing: the newest
        network counts as the best.
        """
        epoch, self.epoch, self.batch = self.epoch, self.epoch + 1, 0
        self.improved = False
        if iou is not None:
            self.final_iou = iou
            if newest or self.final_miou > self.best_miou:
                self.best_miou, self.best_epoch, self.best_iou, self.improved = self.final_miou, epoch, iou, True

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**values)
