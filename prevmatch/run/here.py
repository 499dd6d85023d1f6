"""Open settings made whole on this machine: by its device, the data, the time, or as the run that goes on began."""

import dataclasses
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from prevmatch.config import TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError
from prevmatch.run.choosing import choose_encoder
from prevmatch.run.fitting import fit, spared
from prevmatch.run.launch import earlier_settings, has_gpu
from prevmatch.run.measuring import size_to_hours
from prevmatch.run.validation import is_kept


def fit_here(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> TrainConfig:
    """Replace every setting that is left open, and say in a line each what this machine decided.

    The same values in every process. Raises what `fit` raises, and ConfigError for folds of too many masks.
    """
    config = as_begun(choose_encoder(config, accelerator), accelerator)
    if smaller := spared_here(config, data, accelerator):
        accelerator.print(_told(smaller))
    if config.fold and not is_kept(len(data.val), data.source.num_classes):
        raise ConfigError(
            f"folds note of each mask which class was taken for which: too much for {len(data.val)} masks of "
            f"{data.source.num_classes} classes in a fold; leave --folds out, or join classes with --merge_classes"
        )
    config = size_to_hours(config, data, accelerator)
    return fit(config, data, accelerator.num_processes, gpu=has_gpu(accelerator))


def spared_here(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> dict[str, tuple[object, object]]:
    """What is smaller on this machine than it would be with a GPU, by name both values."""
    return {} if has_gpu(accelerator) else spared(config, data, accelerator.num_processes)


def as_begun(config: TrainConfig, accelerator: Accelerator) -> TrainConfig:
    """The settings, where a run goes on with those that it fitted when it began, maybe on another device."""
    earlier = broadcast_object_list([earlier_settings(config) if accelerator.is_main_process else None])[0]
    open_ones = [name for name in ("image_size", "crop_size", "decoder_channels") if getattr(config, name) == 0]
    if not (config.epochs or config.steps or config.hours):
        open_ones += ["epochs"] + ["epoch_images"] * (not config.epoch_images)
    kept: dict[str, Any] = {name: earlier[name] for name in open_ones if name in earlier}
    size, parts = (earlier.get(name, 0) for name in ("batch_size", "gradient_accumulation_steps"))
    if size < config.batch_size and size * parts == config.batch_size * config.gradient_accumulation_steps:
        # What `smaller_batches_if_needed` had made of it.
        kept |= {"batch_size": size, "gradient_accumulation_steps": parts}
        accelerator.print(f"goes on as it began, with --batch_size {size} --gradient_accumulation_steps {parts}")
    return dataclasses.replace(config, **kept)


def _told(smaller: dict[str, tuple[object, object]]) -> str:
    """What is smaller because there is no GPU, and how to have more."""
    values = ", ".join(f"{name} {here} instead of {there}" for name, (here, there) in smaller.items())
    flags = " ".join(f"--{name}" for name in smaller)
    return f"no GPU: {values}, so that training ends within hours; {flags} or a GPU give more"
