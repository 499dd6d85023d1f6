"""Learning rate and guidance weight as pure functions of the step and the epoch."""


def poly(step: int, total: int, base: float, power: float = 0.9) -> float:
    """Learning rate in force at optimiser step `step` (from 0) of `total`.

    base · (1 − (step−1)/total)^power, and base at step 0: the published code sets it after each step.
    """
    return base * (1 - max(step - 1, 0) / total) ** power


def triangle(epoch: int, epochs: int) -> float:
    """Weight λ of the previous guidance in `epoch` (from 0): 0 → 1 over the first half, then back towards 0."""
    half = epochs / 2
    return epoch / half if epoch < half else (epochs - epoch) / half
