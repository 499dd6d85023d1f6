"""What training on a processor, without a GPU, does differently: freed memory is kept, and a slow bf16 is told."""

import ctypes
import sys
import time

import torch
from accelerate import Accelerator
from torch.nn.functional import conv2d

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's mallopt(3)."""

SLOW = 1.5
"""Times that bf16 may take of fp32; about .5 where the processor computes in bf16, 2 to 5 where it does not."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees; for computing on a CPU.

    glibc returns large tensors' memory to the kernel as soon as they are freed, and asks for it again in the next
    layer, page by page. Kept, a step takes a tenth less time, and the process stays as large as it was at its peak.
    Does nothing where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def tell_slow_bf16(accelerator: Accelerator, guide_precision: str) -> None:
    """Print one line where training on a CPU is asked to compute in bf16 and this processor is slower at it."""
    remedies = {
        "train with --mixed_precision no": accelerator.mixed_precision == "bf16",
        "leave --guide_precision out": guide_precision == "bf16",
    }
    asked = [remedy for remedy, needed in remedies.items() if needed]
    if accelerator.device.type == "cpu" and asked and (times := bf16_over_fp32()) > SLOW:
        accelerator.print(
            f"WARNING: a convolution in bf16 takes {times:.1f} times as long as in fp32 on this processor; "
            + " and ".join(asked)
        )


def bf16_over_fp32(rounds: int = 8) -> float:
    """How many times as long as in fp32 a small convolution takes in bf16, by the best of some rounds of ms."""
    forms = []
    for dtype in (torch.float32, torch.bfloat16):
        images, weight = torch.ones(1, 64, 16, 16, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
        forms.append([tensor.to(memory_format=torch.channels_last) for tensor in (images, weight)])
    best, threads = [float("inf")] * 2, torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other, which on a busy machine takes longer than the work
    try:
        for _ in range(rounds):
            for form, (images, weight) in enumerate(forms):
                started = time.perf_counter()
                conv2d(images, weight, padding=1)
                best[form] = min(best[form], time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return best[1] / best[0]
