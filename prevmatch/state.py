"""Where a run stands: the counters and scores that decide what happens next."""

from dataclasses import dataclass, field


@dataclass
class TrainState:
    """Progress of a run. `step` counts optimiser steps, `epoch` finished epochs."""

    epoch: int = 0
    step: int = 0
    best_miou: float = float("-inf")
    best_epoch: int = -1
    best_iou: list[float] = field(default_factory=list)
    final_iou: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """Time spent training, loading included, evaluation and saving not."""
    improved: bool = False
    """Whether the epoch that just ended was evaluated and set a strictly higher score than all before it."""

    @property
    def final_miou(self) -> float:
        """Mean IoU in % at the last evaluation."""
        return sum(self.final_iou) / len(self.final_iou)

    def record(self, epoch: int, iou: list[float] | None) -> None:
        """Note the per-class IoU (in %) after `epoch`, or that it was not evaluated."""
        self.epoch = epoch + 1
        self.improved = False
        if iou is not None:
            self.final_iou = iou
            if self.final_miou > self.best_miou:
                self.best_miou, self.best_epoch, self.best_iou, self.improved = self.final_miou, epoch, iou, True
