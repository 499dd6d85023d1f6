"""The settings of training as command-line options: sections of --help, and what a mistyped one most likely meant."""

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, get_type_hints

import tyro

from prevmatch.config import (
    DataConfig,
    DecoderConfig,
    GuidanceConfig,
    NetworkConfig,
    OptimiserConfig,
    PlaceConfig,
    RunConfig,
    SampleConfig,
    ScoreConfig,
    TrainConfig,
)
from prevmatch.errors import ConfigError

SECTIONS = {
    "data": (PlaceConfig, DataConfig, SampleConfig),
    "method": (GuidanceConfig,),
    "network": (NetworkConfig, DecoderConfig),
    "schedule": (OptimiserConfig, ScoreConfig),
    "records": (RunConfig,),
}
"""Parts of the settings by the title under which --help lists them."""

MEANT = {
    "learning_rate": "lr", "base_lr": "lr", "lr_rate": "lr", "out": "output_dir", "outdir": "output_dir",
    "out_dir": "output_dir", "output": "output_dir", "save_dir": "output_dir", "save_path": "output_dir",
    "work_dir": "output_dir", "log_dir": "output_dir", "num_epochs": "epochs", "max_epochs": "epochs",
    "num_train_epochs": "epochs", "max_steps": "steps", "iterations": "steps", "max_iters": "steps",
    "data": "data_dir", "data_root": "data_dir", "data_path": "data_dir", "root": "data_dir", "backbone": "encoder",
    "model": "encoder", "arch": "encoder", "weights": "encoder_weights", "pretrained": "encoder_weights",
    "bs": "batch_size", "workers": "num_workers", "imgsz": "image_size", "img_size": "image_size",
    "resolution": "image_size", "crop": "crop_size", "labeled": "labelled",
    "grad_accum": "gradient_accumulation_steps",
    "accumulation_steps": "gradient_accumulation_steps", "wd": "weight_decay", "tau": "confidence_threshold",
    "overwrite": "overwrite_output_dir", "ema": "ema_decay", "val_split": "val_share", "teacher": "method",
}  # fmt: skip
"""Settings by the names that they have elsewhere."""


def sectioned(default: TrainConfig) -> type:
    """A class with a section per part of the settings, each holding its options, for `tyro` to parse into.

    `flattened` makes settings of what was parsed.
    """
    types, texts = get_type_hints(TrainConfig), _texts()
    sections = []
    for title, parts in SECTIONS.items():
        options: list[tuple[str, Any, Any]] = [
            (name, Annotated[types[name], tyro.conf.arg(help=texts[name])], getattr(default, name))
            for part in parts
            for name in inspect.get_annotations(part)
        ]
        section: Any = dataclasses.make_dataclass(title, options, frozen=True)
        section.__doc__ = ""
        sections.append((title, Annotated[section, tyro.conf.OmitArgPrefixes], section()))
    return dataclasses.make_dataclass("Settings", sections, frozen=True)


def flattened(settings: Any) -> TrainConfig:
    """The settings of all sections; raises ConfigError for what cannot be."""
    values: dict[str, Any] = {}
    for section in dataclasses.fields(settings):
        part = getattr(settings, section.name)
        values |= {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return TrainConfig(**values)


def require_known(args: Sequence[str]) -> None:
    """Raise ConfigError, with the option that was probably meant, for the first of the arguments that is none."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    for arg in args:
        name = arg[2:].partition("=")[0].replace("-", "_")
        if not arg.startswith("--") or name in known or name.removeprefix("no_") in known:
            continue
        if name != "help" and not name.startswith("tyro_"):
            meant = _meant(name, known)
            hint = f"did you mean --{meant}? --help lists all" if meant else "--help lists them all"
            raise ConfigError(f"{arg.partition('=')[0]} is no option; {hint}")


def _meant(name: str, known: Iterable[str]) -> str | None:
    name = name.removeprefix("no_")
    close = difflib.get_close_matches(name, [*known, *MEANT], n=1, cutoff=0.75)
    return MEANT.get(close[0], close[0]) if close else None


@cache
def _texts() -> dict[str, str]:
    """What stands below each setting in the source, as one paragraph, for a line's end means nothing there."""
    texts = {}
    for part in {part for parts in SECTIONS.values() for part in parts}:
        [definition] = ast.parse(inspect.getsource(part)).body
        assert isinstance(definition, ast.ClassDef)
        for setting, text in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name):
                assert isinstance(text, ast.Expr)
                assert isinstance(text.value, ast.Constant)
                texts[setting.target.id] = " ".join(str(text.value.value).split())
    return texts
