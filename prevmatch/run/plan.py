"""The fitted settings of a run with their reasons, as a file that a user may edit and a recipe takes back."""

import json
from pathlib import Path
from typing import Any

from prevmatch.config import OWN_DATA, TrainConfig, material
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError
from prevmatch.run.fitting import steps_of
from prevmatch.writing import write_text

OF_ENCODERS = ("encoder_weights", "decoder_channels", "crop_size", "lr", "decoder_lr_multiplier", "weight_decay")
"""What is fitted to the encoder."""
NOT_PLANNED = ("dataset", "fold", "steps")
"""Settings that a plan does not repeat: they are the command's, or said by others."""


def make_plan(
    asked: TrainConfig, fitted: TrainConfig, data: TrainingData, smaller: dict[str, tuple[Any, Any]]
) -> dict[str, dict[str, Any]]:
    """The value of each setting that was left open or named, and why it has it, by name; `smaller` as `spared` gives
    it."""
    width, height = data.median_size
    steps = f"{steps_of(fitted, data, 1)} steps"
    rule = f"ten for each of {len(data.epoch_rows)} images, at least 5,000"
    reasons = {
        "encoder": "DINOv2-S on a GPU, MobileNetV2 on a CPU, whichever the Hub gives",
        "encoder_weights": "pretrained weights wherever they can be had",
        "image_size": f"the median photo is {width}×{height}; those mostly longer than 1536 are brought to 1024",
        "decoder_channels": f"suits {fitted.encoder}",
        "crop_size": f"nine tenths of the short side of the median photo, {width}×{height}",
        "epochs": f"{steps}, as few as pay" if "steps" in smaller else f"{steps}, {rule}",
        "epoch_images": "as many as give these steps",
        "bank_interval": f"{fitted.epochs // fitted.bank_interval} joins in a run",
        "lr": f"suits {fitted.optimizer} over {fitted.encoder}",
        "decoder_lr_multiplier": f"suits {fitted.encoder}",
        "weight_decay": f"usual for {fitted.optimizer}",
    }
    for name, (here, there) in smaller.items():
        changed = "epochs" if name == "steps" else name
        reasons[changed] += f"; {here} instead of {there}, for there is no GPU and training is to end within hours"
    usual = material(OWN_DATA.to_json())
    named = {name for name, value in material(asked.to_json()).items() if value != usual[name]} - {*NOT_PLANNED}
    return {
        name: {"value": getattr(fitted, name), "why": why}
        for name, why in (reasons | dict.fromkeys(sorted(named), "as named")).items()
        if name in named or getattr(fitted, name) != getattr(asked, name)
    }


def write_plan(path: Path, plan: dict[str, dict[str, Any]]) -> None:
    """Write plan.json."""
    write_text(path, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")


def read_plan(path: Path) -> dict[str, Any]:
    """The values of a plan by name; ConfigError, naming the file, where it is none or names no setting."""
    try:
        plan = json.loads(path.read_text())
        values = {name: entry["value"] if isinstance(entry, dict) else entry for name, entry in plan.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"plan {path} cannot be read ({error}); write one with prevmatch check") from error
    if strange := values.keys() - TrainConfig.__dataclass_fields__.keys():
        raise ConfigError(f"plan {path} has {sorted(strange)[0]!r}, which is no setting; remove it")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
