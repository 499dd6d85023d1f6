"""GPU only: what swapping previous models costs, whether a step waits for the device, how much memory it takes."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from steps import BankOnDevice, Ours, Sizes, made_up_batch, run_ours
from timing import Row, spread, take_turns

NONE = "No GPU was at hand: swapping, waits and device memory are not measured.\n"


def benchmark(sizes: Sizes, rounds: int, dtype: torch.dtype) -> list[Row]:
    """Rows for a step with three previous models; raises RuntimeError, from torch, where the host waits in a step."""
    warm = 3
    batches = {r: made_up_batch(sizes, r) for r in range(rounds + warm)}
    swapped, resident = Ours(sizes, dtype), Ours(sizes, dtype, bank_type=BankOnDevice)
    runs = {"resident": partial(run_ours, resident, 3, batches), "swapped": partial(run_ours, swapped, 3, batches)}
    seconds = take_turns(dict(runs), rounds, warm=warm)
    over = 100 * (seconds["swapped"] / seconds["resident"] - 1)
    torch.cuda.set_sync_debug_mode("error")
    swapped(0, 3, batches[0])
    torch.cuda.set_sync_debug_mode("default")
    del resident, runs
    peaks = []
    for capacity in (1, 8):
        ours = Ours(replace(sizes, capacity=capacity), dtype)
        torch.cuda.reset_peak_memory_stats()
        ours(0, 1, batches[0])
        peaks.append(torch.cuda.max_memory_allocated() / 2**20)
    return [
        Row("step with swapping against a bank on the device, n = 3", "", spread(over, "%"), "", "≤ +2 %"),
        Row("host waits within a step (sync debug mode: error)", "", "none", "", "none"),
        Row("peak memory of a step, N = 1 and N = 8", "", f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB", "", "equal"),
        Row("median step", "", f"{1000 * float(np.median(seconds['swapped'])):.1f} ms", "", "45 ms (n = 1..3, H200)"),
    ]
