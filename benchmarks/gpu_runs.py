"""Whole runs on a GPU: interrupted and resumed, under DistributedDataParallel, and CamVid. Sections of on_gpu.py."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, GradientState
from gpu_checks import GPU
from on_gpu import FOLDER, Line
from safetensors.torch import load_file

from prevmatch.config import TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.sources import TrainingData
from prevmatch.errors import Stopped
from prevmatch.loop import train
from prevmatch.run.logbook import Logbook
from prevmatch.run.results import TrainResult
from prevmatch.run.state import TrainState
from prevmatch.run.stopping import StopRequest

STEPS_PER_EPOCH, EPOCHS, STOPPED_AFTER = 5, 3, 8


def shapes_run(folder: Path, *, small: bool, **more: Any) -> TrainConfig:
    """Settings of a run of a few steps on procedural scenes, with previous models from its second epoch on."""
    given: dict[str, Any] = {
        "dataset": "shapes", "split": "1_16", "encoder": "mobilenetv2_100", "encoder_weights": "none",
        "decoder_channels": 64, "crop_size": 65 if small else 97, "batch_size": 4, "epochs": EPOCHS,
        "epoch_images": 4 * STEPS_PER_EPOCH, "num_workers": 2 if GPU else 0, "panel_every": 0, "logging_steps": 1,
        "confidence_threshold": 0.3, "previous_threshold": 0.3, "eval_every": EPOCHS, "output_dir": folder,
    }  # fmt: skip
    return TrainConfig(**given | more)


def run(config: TrainConfig, precision: str = "no", data: TrainingData | None = None) -> TrainResult:
    """Train as if the process had just begun, in a precision that a launcher would name, without a report."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    with (
        patch.dict(os.environ, {"ACCELERATE_MIXED_PRECISION": precision}),
        patch("prevmatch.loop.close", lambda result, *_: result),
    ):
        return train(config, data)


@contextmanager
def deterministic(active: bool) -> Iterator[None]:
    """Kernels that sum in one order, where torch has them."""
    torch.use_deterministic_algorithms(active, warn_only=True)
    torch.backends.cudnn.deterministic = active
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


# --------------------------------------------------------------------------------------------------------- resume


def check_resume(options: argparse.Namespace) -> Iterator[Line]:
    """A run that was stopped and went on, against the same uninterrupted, and against the same once more."""
    cases = [("no", False), ("no", True), ("bf16", True)] + ([("fp16", True)] if GPU else [])
    data = load_training_data(shapes_run(Path("unused"), small=options.small))
    with tempfile.TemporaryDirectory() as folder:
        for precision, ordered in cases:
            configs = [
                shapes_run(Path(folder) / f"{precision}_{ordered}_{name}", small=options.small)
                for name in ("whole", "again", "resumed")
            ]
            with deterministic(ordered):
                for config in configs[:1] if ordered else configs[:2]:
                    run(config, precision, data)
                stop_after(configs[2], STOPPED_AFTER, precision, data)
                run(replace(configs[2], resume=True), precision, data)
            whole, resumed = outcome_of(configs[0]), outcome_of(configs[2])
            found = difference(whole, resumed)
            noise = 0.0 if ordered else difference(whole, outcome_of(configs[1]))
            kernels = "deterministic kernels" if ordered else "torch's default kernels"
            steps = EPOCHS * STEPS_PER_EPOCH
            yield Line(
                f"run of {steps} steps stopped after {STOPPED_AFTER} and resumed, {precision}, {kernels}",
                told(found) + ("" if ordered else f"; the whole run twice: {told(noise)}"),
                "same bits" if ordered else "no farther apart than the whole run twice",
                found == 0 if ordered else found <= 10 * noise,
                {"resumed": found, "twice": noise},
            )


def stop_after(config: TrainConfig, step: int, precision: str, data: TrainingData) -> None:
    """Let a run be asked to stop after an optimiser step; raises RuntimeError if it goes on."""

    def after(self: StopRequest, now: int) -> bool:
        self.reason = "a check" if now >= step else None
        return now >= step

    try:
        with patch.object(StopRequest, "after", after):
            run(config, precision, data)
    except Stopped:
        return
    raise RuntimeError("the run did not stop")


def outcome_of(config: TrainConfig) -> dict[str, torch.Tensor]:
    """All tensors of a run's newest checkpoint, and the losses that it wrote down."""
    newest = max((config.output_dir / "checkpoints").glob("step_*"), key=lambda path: int(path.name.split("_")[1]))
    found = {"losses": torch.tensor(losses_of(config.output_dir))}
    for file in sorted(newest.rglob("*.safetensors")):
        found |= {f"{file.name}/{name}": tensor for name, tensor in load_file(file).items()}
    return found


def losses_of(folder: Path) -> list[float]:
    """The loss of each step that a run wrote down."""
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between equally named tensors, as a share of the largest value; infinite where they are
    not named or shaped alike."""
    if one.keys() != other.keys() or any(one[n].shape != other[n].shape for n in one):
        return float("inf")
    worst = 0.0
    for name, tensor in one.items():
        if not torch.equal(tensor, other[name]):
            a, b = tensor.double(), other[name].double()
            worst = max(worst, ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item())
    return worst


def told(found: float) -> str:
    """A difference in words."""
    return "same bits" if found == 0 else f"{found:.1e} apart"


# ------------------------------------------------------------------------------------------------------------ ddp


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
from accelerate import PartialState
if sys.argv[2] == "gloo":
    PartialState(cpu=not torch.cuda.is_available(), backend="gloo")
    barrier = torch.distributed.barrier  # Accelerate names a device for each process; here they share one
    torch.distributed.barrier = lambda *_, **__: barrier()
torch.use_deterministic_algorithms(True, warn_only=True)
torch.backends.cudnn.deterministic = True
import json
import prevmatch.loop as loop
import prevmatch.students as students
from prevmatch.config import TrainConfig
def told(config, method, data, accelerator):
    built = students.build_students(config, method, data, accelerator)
    if accelerator.is_main_process:
        norms = {type(m).__name__ for m in built[0].network.modules() if "Norm" in type(m).__name__}
        print("WRAPPED", type(built[0].prepared).__name__, accelerator.num_processes, accelerator.device,
              torch.distributed.get_backend(), ",".join(sorted(norms)), flush=True)
    return built
loop.build_students = told
loop.train(TrainConfig.from_json(json.loads(Path(sys.argv[1]).read_text())))
"""


def check_ddp(options: argparse.Namespace) -> Iterator[Line]:
    """The same short run in this process, in one under DistributedDataParallel, and in two that share the GPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Without dropout and previous models two processes see what one with twice the batch sees.
        plain = shapes_run(folder / "plain", small=options.small, method="fixmatch", epochs=2, eval_every=2)
        with deterministic(True):
            run(plain)
        expected = losses_of(plain.output_dir)
        for what, processes, backend in (
            ("one process, " + ("nccl" if GPU else "gloo"), 1, "nccl" if GPU else "gloo"),
            ("two processes on this device, gloo", 2, "gloo"),
        ):
            config = replace(plain, output_dir=folder / f"processes_{processes}", batch_size=4 // processes)
            try:
                said = launch(config, folder, processes, backend)
            except RuntimeError as error:
                yield Line(f"DistributedDataParallel, {what}", str(error), "", False)
                continue
            losses = losses_of(config.output_dir)
            first, most = (
                abs(losses[0] / expected[0] - 1),
                max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True)),
            )
            bounds = (
                (1e-4, 0.05) if processes == 1 else (1e-2, 0.3)
            )  # several share BatchNorm's statistics on GPUs only
            right = (
                first <= bounds[0] and most <= bounds[1] and len(losses) == len(expected)
                if GPU or processes == 1
                else None
            )
            yield Line(
                f"DistributedDataParallel, {what}",
                f"{said}; first loss {first:.1e}, others up to {most:.1e} from plain",
                f"first ≤ {bounds[0]:.0e}, others ≤ {bounds[1]:.0e}", right, {"losses": losses, "plain": expected},
            )  # fmt: skip


def launch(config: TrainConfig, folder: Path, processes: int, backend: str) -> str:
    """Run settings in processes that torchrun starts; returns what the network became."""
    script, file = folder / "run.py", folder / f"{processes}.json"
    script.write_text(SCRIPT)
    file.write_text(json.dumps(config.to_json()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [str(script), str(file), backend, str(FOLDER.parent)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({} if GPU else {"ACCELERATE_USE_CPU": "true"})
    output = folder / f"{processes}.log"
    with output.open("w") as file_:
        process = subprocess.Popen(command, env=environment, stdout=file_, stderr=subprocess.STDOUT)
        try:
            status: int | str = process.wait(40 if GPU else 300)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends what it started
            status = "none in time"
    said = output.read_text()
    print(said[-12000:], file=sys.stderr, flush=True)
    if status:
        lines = [text for text in said.splitlines() if "Error" in text] or ["?"]
        raise RuntimeError(f"status {status}: {lines[0][-200:]}")
    return next((text[8:] for text in said.splitlines() if text.startswith("WRAPPED ")), "?")


# --------------------------------------------------------------------------------------------------------- camvid

TARGET = 40.0
"""mIoU in % whose time is told."""


def camvid(options: argparse.Namespace) -> Iterator[Line]:
    """PrevMatch on CamVid at half size with 23 labelled frames: the README's run with AdamW and a scored average."""
    if options.camvid is None or options.encoder_weights is None:
        yield Line("CamVid", "left out: needs --camvid FOLDER and --encoder_weights FILE")
        return
    reached: list[tuple[int, float, float, float]] = []
    began = time.monotonic()
    epoch = Logbook.epoch

    def noted(self: Logbook, state: TrainState, facts: Any) -> None:
        reached.append((state.step, state.final_miou, state.seconds, time.monotonic() - began))
        epoch(self, state, facts)

    with tempfile.TemporaryDirectory() as folder, patch.object(Logbook, "epoch", noted):
        given: dict[str, Any] = {"epochs": 10, "eval_every": 1, "num_workers": 6, "max_hours": 105 / 3600}
        if options.small:
            given = {"epochs": 2, "epoch_images": 8, "eval_every": 1, "num_workers": 0}
        config = TrainConfig(
            dataset="camvid", data_dir=options.camvid, split="1_16", image_size=240, crop_size=129,
            encoder="mobilenetv2_100", encoder_weights=str(options.encoder_weights), decoder_channels=64, batch_size=4,
            optimizer="adamw", lr=3e-4, weight_decay=0.01, score="ema", bank_policy="interval", panel_every=0,
            output_dir=Path(folder) / "run", **given,
        )  # fmt: skip
        try:
            run(config)
            told_end = ""
        except Stopped:
            told_end = ", ended for its time"
    steps, last, seconds, _ = reached[-1]
    best = max(miou for _, miou, *_ in reached)
    first = next(((step, s, wall) for step, miou, s, wall in reached if miou >= TARGET), None)
    told_first = f"{first[0]} steps, {first[1]:.0f} s of training, {first[2]:.0f} s in all" if first else "not reached"
    yield Line(
        f"CamVid, PrevMatch, MobileNetV2, 240×180, 23 labelled frames, {steps} steps of 4+4{told_end}",
        f"best mIoU {best:.1f} %, last {last:.1f} %, {1e3 * seconds / steps:.0f} ms a step, "
        f"{TARGET:.0f} % after {told_first}", f"best ≥ {TARGET:.0f} %",
        None if options.small else best >= TARGET,
        {"curve": reached, "best": best, "last": last, "seconds": seconds / steps},
    )  # fmt: skip
