"""Real training processes that are killed, and what is left of them."""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import warm
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]

RUN = """
import sys
sys.path.insert(0, {tests!r})
import dataclasses
from pathlib import Path
from conftest import TINY, divide
import prevmatch.progress
from prevmatch.cli import or_exit
from prevmatch.data.shapes import load_shapes
from prevmatch.loop import train

config = dataclasses.replace(
    TINY, **dict(
        output_dir=Path({folder!r}), epochs=4, batch_size={batch_size}, resume=True, checkpointing_steps=2,
        logging_steps=3, bank_policy="interval", num_workers={num_workers},
    ) | {settings!r}
)
data = divide(load_shapes(train=24, val=3), "1_4")
prevmatch.progress.SECONDS_BETWEEN_LINES = 0  # tests wait for what it says
{before}
or_exit(lambda: train(config, data))
"""


def start(folder, *, processes=1, num_workers=0, before="", launcher=(), fresh=False, **settings):
    """Start a run that resumes by itself; its output goes to `log`.

    Several processes are started by torchrun with the words of `launcher`, or without it if that is None. A `fresh`
    one imports everything itself.
    """
    script = folder.parent / f"{folder.name}.py"
    program = RUN.format(tests=str(ROOT / "tests"), folder=str(folder), batch_size=4 // processes,
                         num_workers=num_workers, settings=settings, before=before)  # fmt: skip
    # Loader processes that are spawned import this file.
    script.write_text(f'if __name__ == "__main__":\n{textwrap.indent(program, "    ")}')
    log = folder.parent / f"{folder.name}.log"
    if launcher is None or (processes == 1 and not launcher and not fresh):
        return warm.start(script, output=log, processes=processes, ACCELERATE_USE_CPU="true")
    command = [sys.executable]
    if processes > 1 or launcher:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *launcher]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with log.open("a") as output:
        return subprocess.Popen([*command, str(script)], cwd=ROOT, env=environment, stdout=output, stderr=output,
                                start_new_session=True)  # fmt: skip


def finish(folder, **options):
    """Run to the end; returns the exit status."""
    return start(folder, **options).wait(timeout=240)


def kill_all(process, number=signal.SIGKILL):
    """Signal the run and everything that it started, as a scheduler does."""
    first = psutil.Process(process.pid)  # torchrun puts its workers into groups of their own
    for each in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


def reached(folder, line, *, process=None, seconds=240):
    """Wait until the log holds `line`."""
    log, end = folder.parent / f"{folder.name}.log", time.monotonic() + seconds
    while time.monotonic() < end:
        if log.is_file() and line in log.read_text(errors="replace"):
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.02)
    return False


def outcome(folder):
    """What must be bit-identical: weights, momentum, bank, records and scores at the end of a run."""
    last = sorted((folder / "checkpoints").glob("step_*"))[-1]
    tensors = {}
    for path in sorted(last.rglob("*.safetensors")):
        if path.name.startswith("rank_"):  # random states after the run's own end
            continue
        content, name = load_file(path), str(path.relative_to(last))
        joined = b"".join(key.encode() + content[key].numpy().tobytes() for key in sorted(content))
        tensors[name] = hashlib.sha256(joined).hexdigest()
    result = json.loads((folder / "result.json").read_text())
    scores = {name: result[name] for name in ("best_miou", "best_epoch", "final_miou", "class_iou")}
    best = hashlib.sha256((folder / "best/model.safetensors").read_bytes()).hexdigest()
    state = json.loads((last / "state.json").read_text())
    return {
        "tensors": tensors, "scores": scores, "best": best, "records": (folder / "metrics.jsonl").read_text(),
        "memory": state["memory"], "step": state["state"]["step"],
    }  # fmt: skip


def killed_and_resumed(folder, kills, *, seed, processes=1, **options):
    """Kill a run up to `kills` times at random moments, each time letting it go on, until it has finished.

    Returns after how many kills it resumed, and after how many it started anew because there was no checkpoint yet.
    """
    rng, killed, log = random.Random(seed), [], folder.parent / f"{folder.name}.log"
    log.touch()
    for _ in range(kills):
        before = log.stat().st_size
        process = start(folder, processes=processes, **options)
        deadline = time.monotonic() + 60
        while "output in" not in log.read_text(errors="replace")[before:] and time.monotonic() < deadline:
            time.sleep(0.02)  # kill the run, not the imports
        time.sleep(rng.uniform(0.05, 3.5))
        if process.poll() is None:
            kill_all(process)
            process.wait()
            killed.append(log.stat().st_size)
        if (folder / "result.json").is_file():
            break
    assert finish(folder, processes=processes, **options) == 0, log.read_text(errors="replace")[-2000:]
    content = log.read_bytes()
    # The first start after the kill that lived long enough to say it.
    said = [re.search(rb"resumed after step|starting anew", content[size:])[0] for size in killed]
    return said.count(b"resumed after step"), said.count(b"starting anew")
