"""Our own gradients of convolutions against the library's, on this processor and on one without AVX-512.

    python benchmarks/bench.py --only convolutions    # both processors, an hour
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/convolutions.py --dtypes fp32 --only strided

The second is one processor, as the environment makes it. Forward and backward of eight images, channels_last. Every
shortcut is measured at every size, also where training leaves it alone; bold are those that it takes.
"""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from timing import spread, take_turns
from torch import nn

from prevmatch.run import convolutions
from prevmatch.run.convolutions import FEW_TAPS, QuickConv2d
from prevmatch.run.processor import bf16_over_fp32, keep_freed_memory

BATCH = 8
PROCESSORS = {
    "this processor": {},
    "the same without AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""The environment that makes a processor what its name says."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin while they wait for each other would measure what else runs on a busy machine."""
NONE = "For training on a CPU: not measured beside a GPU.\n"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """A convolution and the side of its images."""

    channels: int
    side: int
    dilation: int = 1
    outputs: int = 0
    """0: depthwise."""

    def name(self) -> str:
        """As the table names it."""
        if self.outputs:
            return f"atrous {self.channels} → {self.outputs}, {self.side}², dilation {self.dilation}"
        kind = "dilated" if self.dilation > 1 else "strided"
        return f"{kind} depthwise {self.channels}, {self.side}²"

    def layer(self, kind: type[nn.Conv2d]) -> nn.Conv2d:
        """One such layer."""
        return kind(
            self.channels, self.outputs or self.channels, 3, stride=1 if self.dilation > 1 else 2,
            padding=self.dilation, dilation=self.dilation, groups=1 if self.outputs else self.channels, bias=False,
        ).to(memory_format=torch.channels_last)  # fmt: skip

    def images(self, dtype: torch.dtype) -> torch.Tensor:
        """Random images, whose gradient is wanted."""
        images = torch.randn(BATCH, self.channels, self.side, self.side).to(dtype)
        return images.to(memory_format=torch.channels_last).requires_grad_()


ATROUS = [(320, 9), (320, 21), (320, 33), (1280, 21), (2048, 9), (2048, 21)]
CASES = [
    *(Case(channels, side, rate, 256) for channels, side in ATROUS for rate in (6, 12, 18)),
    *(Case(channels, side, 2) for channels in (576, 960) for side in (9, 21)),
    *(Case(channels, side) for channels, side in ((96, 129), (144, 65), (192, 33))),
]


def taken(case: Case, dtype: torch.dtype) -> bool:
    """Whether training takes the shortcut of a case."""
    if not case.outputs:
        return case.dilation > 1 or dtype != torch.float32
    size = torch.empty(1, 1, case.side, case.side)
    return convolutions._share_of_taps(size, torch.empty(1, 1, 3, 3), (case.dilation,) * 2) < FEW_TAPS


def measured(case: Case, dtype: torch.dtype, rounds: int) -> np.ndarray:
    """How many times quicker ours is, in each round (rounds,)."""
    images = case.images(dtype)

    def run(layer: nn.Conv2d, _: int) -> None:
        with torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext():
            answer = layer(images)
        torch.autograd.grad(answer, (images, layer.weight), torch.ones_like(answer))

    kinds = {"plain": nn.Conv2d, "ours": QuickConv2d}
    seconds = take_turns({name: partial(run, case.layer(kind)) for name, kind in kinds.items()}, rounds)
    return seconds["plain"] / seconds["ours"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure in this process."""

    rounds: int = 5
    """Rounds of each comparison."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads."""
    dtypes: tuple[str, ...] = tuple(DTYPES)
    """Precisions."""
    only: str = ""
    """Cases whose name holds this."""


def main(settings: Settings) -> None:
    """Print a table of how many times quicker ours is, line by line."""
    keep_freed_memory()  # as training does
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{capability}, a convolution in bf16 takes {bf16_over_fp32():.1f} times as long as in fp32:\n")
    columns = [(dtype, threads) for dtype in settings.dtypes for threads in settings.threads]
    line(["forward + backward", *(f"{dtype}, {n} thread{'s' * (n > 1)}" for dtype, n in columns)])
    line(["---", *["---:"] * len(columns)])
    convolutions.FEW_TAPS = 2.0  # every case by its shortcut
    for case in (case for case in CASES if settings.only in case.name()):
        cells = []
        for name, threads in columns:
            torch.set_num_threads(threads)
            cell = spread(measured(case, DTYPES[name], settings.rounds), "×")
            cells.append(cell if taken(case, DTYPES[name]) else cell.replace("*", ""))
        line([case.name(), *cells])


def line(cells: list[str]) -> None:
    """Print a line of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def benchmark(rounds: int) -> str:
    """The tables of all processors, each measured in a process of its own."""
    tables = []
    for name, environment in PROCESSORS.items():
        command = [sys.executable, str(Path(__file__)), "--rounds", str(rounds)]
        done = subprocess.run(
            command, env=os.environ | PATIENT | environment, stdout=subprocess.PIPE, text=True, check=True
        )
        tables.append(f"Times that ours is quicker, {name}: {done.stdout.rstrip()}")
    return "\n\n".join(tables)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__, use_underscores=True))
