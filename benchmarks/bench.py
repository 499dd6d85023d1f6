"""Measure everything side by side with the published pipeline, and write RESULTS.md.

    python benchmarks/bench.py                    # small but real sizes on a CPU, full sizes with a GPU
    python benchmarks/bench.py --rounds 1 --only step

The contestants of a comparison take turns, the baseline in a process of its own; ratios are medians over the rounds,
with quartiles.
"""

import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import convolutions
import loading
import swapping
import torch
import tyro
from iterations import benchmark_iterations, benchmark_windows
from scaling import bank_bytes, loader_costs, process_costs, start_costs, step_costs
from steps import DEVICE, Sizes
from steps import benchmark as benchmark_step
from timing import Row
from tqdm import tqdm

from prevmatch.run.processor import keep_freed_memory

FOLDER = Path(__file__).parent
Part = Literal["loading", "step", "iteration", "windows", "swapping", "scaling", "start", "convolutions"]
PARTS: tuple[Part, ...] = ("loading", "step", "iteration", "windows", "swapping", "scaling", "start", "convolutions")
HEAD = ("what", "baseline", "ours", "ratio", "target")
SMALL = Sizes(encoder="mobilenetv2_100", crop=129, batch=4, decoder_channels=64)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    rounds: int = 5
    """Rounds of each comparison."""
    only: tuple[Part, ...] = PARTS
    """Parts to measure; the others keep their place in the file from the run before."""


def measured(part: Part, rounds: int) -> str:
    """The section of one part, as Markdown."""
    gpu = DEVICE.type == "cuda"
    dtypes = {"bf16": torch.bfloat16} if gpu else {"fp32": torch.float32, "bf16": torch.bfloat16}
    plain = torch.bfloat16 if gpu else torch.float32
    step_sizes = Sizes(crop=321, batch=8) if gpu else Sizes(crop=321, batch=4)
    if part == "loading":
        return markdown(loading.benchmark(rounds))
    if part == "step":
        if gpu:
            return markdown(benchmark_step(step_sizes, rounds, plain_dtype=plain, dtypes=dtypes))
        # The real crop takes minutes a round: fewer rounds, and n = 2 for the mean of 1, 2, 3.
        few = max(1, rounds // 2)
        real = benchmark_step(step_sizes, few, plain_dtype=plain, dtypes=dtypes, drawn=(2,), partners=False)
        return markdown(real + benchmark_step(SMALL, 2 * rounds, plain_dtype=plain, dtypes=dtypes))
    if part == "iteration":
        sizes = step_sizes if gpu else replace(SMALL, crop=257)
        options = {"count": 20 if gpu else 6, "workers": 14 if gpu else 1}
        return markdown(benchmark_iterations(sizes, rounds, plain_dtype=plain, dtypes=dtypes, **options))
    if part == "windows":
        sizes = Sizes(classes=19)
        return markdown(benchmark_windows(sizes, rounds, height=1024, width=2048, window=801))
    if part == "swapping":
        return markdown(swapping.benchmark(step_sizes, 10 * rounds, torch.bfloat16)) if gpu else swapping.NONE
    if part == "scaling":
        return scaling(rounds, gpu)
    if part == "convolutions":
        return convolutions.NONE if gpu else convolutions.benchmark(rounds)
    return costs("Starting", "command", start_costs(rounds), "s")


def scaling(rounds: int, gpu: bool) -> str:
    """Our own cost when one thing changes."""
    base = Sizes(crop=321, batch=8) if gpu else SMALL
    what = f"{base.encoder}, {base.batch}+{base.batch} images, crop {base.crop}, n = 2, N = {base.capacity}"
    parts = [f"Base: {what} (a bank of one gives n = 1)."]
    for name, found in step_costs(base, rounds).items():
        parts.append(costs("Seconds per step", name, found, "s"))
    parts.append(
        costs(
            "Seconds per batch, loader alone (8+8, JPEG → 321)",
            "workers",
            loader_costs(Sizes(crop=321, batch=8), 8),
            "s",
        )
    )
    if not gpu:
        parts.append(costs("Seconds per step of 8+8 on two threads, whole runs", "processes", process_costs(), "s"))
    memory = [("any", bank_bytes(Sizes()) / 2**20)]
    parts.append(costs("Two standing places for resnet50s, any N, computed", "precision", memory, "MiB"))
    return "\n\n".join(parts)


def markdown(rows: list[Row]) -> str:
    """A table of comparisons."""
    lines = [HEAD, ("---", "---:", "---:", "---:", "---:"), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def costs(title: str, what: str, found: list[tuple[str, float]], unit: str) -> str:
    """A table of one line of values."""
    names, values = zip(*found, strict=True)
    lines = [(what, *names), ("---", *["---:"] * len(names)), (title, *(f"{value:.3g} {unit}" for value in values))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def machine() -> str:
    """Where and with what it was measured."""
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU"
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER).stdout
    packages = ", ".join(
        f"{package} {version(package)}" for package in ("torch", "timm", "accelerate", "pillow", "numpy")
    )
    return (
        f"{date.today()}, {model}, {torch.get_num_threads()} threads, {device}; Python {platform.python_version()}, "
        f"{packages}; prevmatch {version('prevmatch')} at {commit.strip() or 'no commit'}"
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def main(settings: Settings) -> None:
    """Measure, print, and write each part's file section as soon as it is there."""
    kind = "gpu" if DEVICE.type == "cuda" else "cpu"
    if kind == "cpu":
        keep_freed_memory()  # as training does
    for part in tqdm(settings.only, desc="benchmarks", file=sys.stderr):
        text = f"## {part} ({kind})\n\n{measured(part, settings.rounds)}\n\nMeasured: {machine()}.\n"
        tqdm.write(text, file=sys.stdout)
        replace_section(FOLDER / "RESULTS.md", f"## {part} ({kind})", text)


def replace_section(path: Path, title: str, text: str) -> None:
    """Put a section in the place of the one with the same title, or at the end."""
    old = path.read_text() if path.is_file() else "# Measured speed\n"
    parts = old.split("\n## ")
    sections = [parts[0].rstrip(), *(f"## {part.rstrip()}" for part in parts[1:])]
    places = [i for i, section in enumerate(sections) if section.startswith(title)]
    if places:
        sections[places[0]] = text.rstrip()
    else:
        sections.append(text.rstrip())
    path.write_text("\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__, use_underscores=True))
