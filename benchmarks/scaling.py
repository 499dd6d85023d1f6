"""How our own cost grows: with batch, crop, number of previous models, size of the bank, workers and processes."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from iterations import FILES, encoded_mask, made_up_data, our_batches
from loading import encoded
from steps import Ours, Sizes, made_up_batch, network_of, run_ours
from timing import take_turns

from prevmatch.models.frozen import tensors_of
from prevmatch.run.swap import pack

RUN = """
import dataclasses, sys, torch
from pathlib import Path
from prevmatch.cli import or_exit
from prevmatch.config import TrainConfig
from prevmatch.loop import train
config = TrainConfig(
    dataset="shapes", crop_size=97, encoder="mobilenetv2_100", encoder_weights="none", decoder_channels=64, epochs=2,
    epoch_images=80, batch_size=int(sys.argv[2]), num_workers=0, panel_every=0, split="1_16",
    output_dir=Path(sys.argv[1]),
)
print("seconds", or_exit(lambda: train(config)).seconds_per_iteration)
"""


def step_costs(base: Sizes, rounds: int) -> dict[str, list[tuple[str, float]]]:
    """Median seconds of a PrevMatch step with two previous models, varying one thing at a time; K: UniMatch is 0."""
    several = {
        "batch": {str(b): replace(base, batch=b) for b in (2, 4, 8)},
        "crop": {str(c): replace(base, crop=c) for c in (129, 193, 257)},
        "bank (N)": {str(n): replace(base, capacity=n) for n in (1, 8, 16)},
    }
    found = {}
    for what, variants in several.items():
        runs = {}
        for name, sizes in variants.items():
            batches = {r: made_up_batch(sizes, r) for r in range(rounds + 1)}
            runs[name] = partial(run_ours, Ours(sizes), min(2, sizes.capacity), batches)
        found[what] = _medians(take_turns(runs, rounds))
    ours, batches = Ours(base), {r: made_up_batch(base, r) for r in range(rounds + 1)}
    drawn = take_turns({str(n): partial(run_ours, ours, n, batches) for n in range(5)}, rounds)
    found["previous models drawn (n)"] = _medians(drawn)
    return found


def bank_bytes(sizes: Sizes) -> int:
    """What two standing places take on a device, however many versions the bank holds; raw, whatever the precision."""
    return 2 * pack(tensors_of(network_of(sizes))).flat.numel()


def loader_costs(sizes: Sizes, count: int) -> list[tuple[str, float]]:
    """Seconds per batch that the loader alone needs, by number of workers."""
    data = made_up_data(encoded(500, 375, "JPEG", FILES), encoded_mask(500, 375))
    found = []
    for workers in (0, 1, 2):
        batches = our_batches(data, sizes, "independent", workers)
        list(islice(batches, 4))
        started = time.perf_counter()
        list(islice(batches, count))
        found.append((str(workers), (time.perf_counter() - started) / count))
        batches.close()
    return found


def process_costs() -> list[tuple[str, float]]:
    """Seconds per step of 8 + 8 images on two CPU threads: one process with both, and two with one each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "run.py"
        script.write_text(RUN)
        for processes in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
            command += [str(processes), str(script), str(Path(folder) / f"run{processes}"), str(8 // processes)]
            environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(2 // processes)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found.append((str(processes), float(done.stdout.split("seconds ")[1].split()[0])))
    return found


def start_costs(rounds: int) -> list[tuple[str, float]]:
    """Seconds of commands that only start."""
    commands = {
        "`prevmatch --help`": [str(Path(sys.executable).with_name("prevmatch")), "--help"],
        "`recipes/pascal.py --help`": [sys.executable, "recipes/pascal.py", "--help"],
        "`import prevmatch; prevmatch.Segmenter`": [sys.executable, "-c", "import prevmatch; prevmatch.Segmenter"],
    }
    run = partial(subprocess.run, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    return _medians(take_turns({name: lambda r, c=c: run(c) for name, c in commands.items()}, rounds))  # type: ignore[misc]


def _medians(seconds: dict[str, np.ndarray]) -> list[tuple[str, float]]:
    return [(name, float(np.median(values))) for name, values in seconds.items()]
