"""Looking at data before training: what was found, what the settings will be and why, and how long that takes."""

import dataclasses
import sys
import webbrowser
from pathlib import Path

import numpy as np

from prevmatch.config import TrainConfig
from prevmatch.data.cells import open_cell
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.sources import TrainingData
from prevmatch.methods import method_of
from prevmatch.run.choosing import SMALL
from prevmatch.run.fitting import require_unlabelled, steps_of
from prevmatch.run.here import fit_here, spared_here
from prevmatch.run.launch import start_accelerator
from prevmatch.run.measuring import seconds_per_step
from prevmatch.run.plan import make_plan, write_plan
from prevmatch.run.summary import summary
from prevmatch.share.check_page import write_page
from prevmatch.share.report_page import duration

LONG_HOURS = 6


def check(config: TrainConfig) -> tuple[Path, Path]:
    """Print what the settings find and would do, and write check.html and plan.json to output_dir.

    Of folds that is the first one. Returns their paths. Raises what training would raise before its first step;
    nothing is written then.
    """
    trainings = 1
    if config.folds and config.fold is None:
        trainings = config.folds + 1  # the folds, and the final model
        config = dataclasses.replace(config, fold=1, hours=config.hours and config.hours / trainings)
    accelerator = start_accelerator(config)
    data = load_training_data(config)
    fitted = fit_here(config, data, accelerator)
    require_unlabelled(method_of(fitted), data)
    named = dataclasses.replace(config, encoder=fitted.encoder)
    plan = make_plan(config, fitted, data, spared_here(named, data, accelerator))
    steps = steps_of(fitted, data, accelerator.num_processes)
    seconds = seconds_per_step(fitted, data.source.num_classes, accelerator.device)
    facts = {
        "data": str(config.dataset_name or config.data_dir),
        "images": f"{len(data.labelled)} labelled, {len(data.unlabelled)} unlabelled, {len(data.val)} for validation",
        "sizes": _sizes(data),
        "training": f"{fitted.method}, {fitted.encoder}, {steps} steps",
        "time here": f"about {duration(steps * seconds)} on {accelerator.device.type}, {seconds:.2g} s a step; "
        "loading and validation come on top",
    }
    if trainings > 1:
        whole = duration(trainings * steps * seconds)
        facts["folds"] = f"{config.folds} trainings and that of the final model, {whole} in all; shown is the first"
    print(summary(fitted, data, accelerator.num_processes))
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print("\n".join(f"{name} = {entry['value']}: {entry['why']}" for name, entry in plan.items()))
    if accelerator.device.type == "cpu" and trainings * steps * seconds > LONG_HOURS * 3600:
        smaller = f"a smaller encoder (--encoder {SMALL}), " if fitted.encoder != SMALL else ""
        print(f"NOTE: that is long; {smaller}--image_size, --crop_size or --hours takes less")
    config.output_dir.mkdir(parents=True, exist_ok=True)
    page, plan_file = config.output_dir / "check.html", config.output_dir / "plan.json"
    write_page(page, data, title=f"Check of {facts['data']}", facts=facts, plan=plan)
    write_plan(plan_file, plan)
    if sys.stdout.isatty():
        webbrowser.open(page.resolve().as_uri())
    return page, plan_file


def _sizes(data: TrainingData) -> str:
    """Smallest, median and largest size of at most 200 photos."""
    rows = data.epoch_rows.select_columns(["id", "image"])
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(200, len(rows))).astype(int))
    sizes = sorted(
        (open_cell(rows[int(i)], "image", header_only=True).size for i in chosen), key=lambda s: s[0] * s[1]
    )
    return ", ".join(
        f"{name} {width}×{height}"
        for name, (width, height) in zip(
            ("smallest", "median", "largest"), (sizes[0], sizes[len(sizes) // 2], sizes[-1]), strict=True
        )
    )
