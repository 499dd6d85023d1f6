"""Losses, gradients and weights that are not finite: noticing them, leaving a step out, noting what was in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from prevmatch.errors import TrainingError
from prevmatch.writing import write_text

Outcome = Literal["taken", "overflow", "fault", "left out"]
"""What became of a batch: its step was taken; left out by fp16's gradient scaler; left out because this batch is not
finite; or because an earlier batch of the same step was not."""


def gradient_norm(networks: Sequence[nn.Module]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar that stays on the device."""
    gradients = [p.grad for network in networks for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


class Watch:
    """Looks at every batch before its step is taken, and leaves out whole steps; only if `active`, for it waits.

    A step of several batches (gradient accumulation) is left out if one of them is not finite: its gradient is then
    in the sum.
    """

    def __init__(self, networks: Sequence[nn.Module], accelerator: Accelerator, *, active: bool):
        self.buffers = [buffer for network in networks for buffer in network.buffers()]
        self.accelerator, self.active = accelerator, active
        self.before: list[Tensor] = []
        self.at_fault = False

    def begin(self) -> None:
        """Before a batch: remember BatchNorm's statistics as the step found them, which forward passes change."""
        if self.active and not self.before:
            self.before = [buffer.clone() for buffer in self.buffers]

    def look(self, losses: dict[str, Tensor]) -> Outcome:
        """Whether this batch's loss and gradient are finite in every process."""
        if not self.active:
            return "taken"
        if self.at_fault:
            return "left out"
        wrong = (~torch.isfinite(torch.stack([losses["loss"].detach(), losses["grad_norm"]]))).sum().float()
        self.at_fault = self.accelerator.reduce(wrong, "sum").item() > 0
        return "fault" if self.at_fault else "taken"

    def end(self) -> bool:
        """After the last batch of a step: whether to take it; if not, BatchNorm's statistics are put back."""
        take = not self.at_fault
        if not take:
            for buffer, before in zip(self.buffers, self.before, strict=True):
                buffer.copy_(before)
        self.before, self.at_fault = [], False
        return take


def check_weights(networks: Sequence[nn.Module], steps: int, accelerator: Accelerator) -> None:
    """Refuse to go on, and to save, with weights that an update destroyed, in any process.

    Raises TrainingError. The host waits for the device here, not in each step.
    """
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    wrong = (~torch.stack([t.isfinite().all() for t in tensors])).sum().float()
    if accelerator.reduce(wrong, "sum").item() > 0:
        raise TrainingError(
            f"the weights are not finite after step {steps - 1}; the models saved before stay in place. Lower --lr"
        )


def dump(folder: Path, step: int, lr: float, losses: dict[str, float], samples: Sequence[str]) -> Path:
    """Write fault_step_N.json: the losses of a step, and which images were in this process's batch."""
    path = folder / f"fault_step_{step}.json"
    shown = {name: value if torch.tensor(value).isfinite() else str(value) for name, value in losses.items()}
    write_text(path, json.dumps({"step": step, "lr": lr, "losses": shown, "samples": list(samples)}, indent=1) + "\n")
    return path
