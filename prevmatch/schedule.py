"""Learning rate and guidance weight as pure functions of the step and the epoch."""

import math

from prevmatch.config import OptimiserConfig


def poly(step: int, total: int, base: float, power: float = 0.9) -> float:
    """Learning rate in force at optimiser step `step` (from 0) of `total`.

    base · (1 − (step−1)/total)^power, and base at step 0: the published code sets it after each step.
    """
    return base * (1 - max(step - 1, 0) / total) ** power


def cosine(step: int, total: int, base: float) -> float:
    """Learning rate at `step` (from 0) of `total` along half a cosine, from base towards 0."""
    return base * (1 + math.cos(math.pi * step / total)) / 2


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """The encoder's learning rate at optimiser step `step` (from 0) of `total`.

    The schedule that the settings name; over the first `warmup_steps` it rises linearly from base / warmup_steps.
    """
    rate = (poly if config.lr_schedule == "poly" else cosine)(step, total, config.lr)
    return rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))


def triangle(epoch: int, epochs: int) -> float:
    """Weight λ of the previous guidance in `epoch` (from 0): 0 → 1 over the first half, then back towards 0."""
    half = epochs / 2
    return epoch / half if epoch < half else (epochs - epoch) / half
