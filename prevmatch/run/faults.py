"""Losses and gradients that are not finite: noticing them, leaving the step out, and noting what was in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from prevmatch.writing import write_text

Outcome = Literal["taken", "overflow", "fault"]
"""What became of an optimiser step: taken, left out by fp16's gradient scaler, left out as a fault."""


def gradient_norm(network: nn.Module) -> Tensor:
    """Euclidean norm of all gradients together, a scalar that stays on the device."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def is_finite(losses: dict[str, Tensor], accelerator: Accelerator) -> bool:
    """Whether loss and gradient are finite in every process; makes the host wait for the device."""
    wrong = (~torch.isfinite(torch.stack([losses["loss"].detach(), losses["grad_norm"]]))).sum().float()
    return accelerator.reduce(wrong, "sum").item() == 0


def copy_buffers(network: nn.Module) -> list[Tensor]:
    """BatchNorm's running statistics, which a forward pass changes before its loss is known."""
    return [buffer.clone() for buffer in network.buffers()]


def put_back(network: nn.Module, buffers: Sequence[Tensor]) -> None:
    """Undo what forward passes did to the buffers since `copy_buffers`."""
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(before)


def dump(folder: Path, step: int, lr: float, losses: dict[str, float], samples: Sequence[str]) -> Path:
    """Write fault_step_N.json: the losses of a step, and which images were in this process's batch."""
    path = folder / f"fault_step_{step}.json"
    shown = {name: value if torch.tensor(value).isfinite() else str(value) for name, value in losses.items()}
    write_text(path, json.dumps({"step": step, "lr": lr, "losses": shown, "samples": list(samples)}, indent=1) + "\n")
    return path
