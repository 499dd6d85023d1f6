"""Settings and data brought together: what is left open (0) follows from the data, and what cannot be is refused."""

import dataclasses
import math
from collections.abc import Sequence

from prevmatch.config import TrainConfig, full_name
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError, DataError
from prevmatch.methods import Method
from prevmatch.models.encoder import patch_size
from prevmatch.models.vit import FEWEST, nearest_multiple

EPOCHS, JOINS = 50, 25
SMALLEST_CROP, LARGEST_CROP, LARGEST_OF_PATCHES = 65, 513, 518
LONGEST_SIDE, FITTED_SIDE = 1536, 1024
CHANNELS = 256
FEWEST_STEPS, MOST_STEPS = 5_000, 100_000
CPU_SIDE, CPU_CROP, CPU_CHANNELS = 384, 257, 64
"""Without a GPU: a step of mean_teacher over MobileNetV2 then took 0.68 s on two idle cores, 5,000 are an hour."""
CO_ENCODERS = ("resnet50.dct",)
CLIP = "openai/clip-vit-base-patch16"
"""SemiVL's."""


def require_unlabelled(method: Method, data: TrainingData) -> None:
    """Raise DataError if the method learns from unlabelled images and there are none."""
    if method.uses_unlabelled and not len(data.unlabelled):
        raise DataError(
            "no image is unlabelled; add images without masks, label fewer with --labelled 20% or another --split, or "
            "use --method supervised without previous guidance"
        )


def fit(config: TrainConfig, data: TrainingData, processes: int, *, gpu: bool = True) -> TrainConfig:
    """Replace every open setting, and an encoder's short name; the others stay as they are.

    Long images are brought to 1024 pixels; crops cover nine tenths of the median short side; the schedule takes ten
    optimiser steps per unlabelled image (per labelled one where all are), at least 5,000 and at most 100,000 (Pascal's
    published schedule has 105,000), in 50 epochs; earlier versions join the bank 25 times; the optimiser follows from
    the encoder. Without a GPU all of this is such that training ends within hours.

    Raises ConfigError for crops and windows that cut a plain ViT's patches, for SGD over one without a learning rate,
    and for several students that are alike or see images differently.
    """
    others = tuple(map(full_name, config.co_encoders or (CO_ENCODERS if config.method == "co_training" else ())))
    model = config.outside_model or (CLIP if config.method == "semivl" else None)
    config = dataclasses.replace(config, encoder=full_name(config.encoder), co_encoders=others, outside_model=model)
    require_unlike((config.encoder, *others))
    patch = patch_size(config.encoder)
    width, height = data.median_size
    # Whoever names a size wants to see that much; only where both are open a CPU sees less.
    small = not gpu and config.image_size == config.crop_size == 0
    if config.image_size == 0:
        longest, side = (CPU_SIDE, CPU_SIDE) if small else (LONGEST_SIDE, FITTED_SIDE)
        config = dataclasses.replace(config, image_size=side if max(width, height) > longest else None)
    if config.crop_size == 0:
        scale = config.image_size / max(width, height) if config.image_size else 1
        covered = min(0.9 * scale * min(width, height), CPU_CROP if small else math.inf)
        config = dataclasses.replace(config, crop_size=fitted_crop(covered, patch))
    if config.decoder_channels == 0:
        config = dataclasses.replace(config, decoder_channels=CHANNELS if gpu else CPU_CHANNELS)
    for name in ("crop_size", "eval_window"):
        for encoder in (config.encoder, *others):
            require_whole_patches(name, getattr(config, name), patch_size(encoder), encoder)
    per_step = config.batch_size * processes * config.gradient_accumulation_steps
    if config.steps:
        in_epoch = -(-config.steps // EPOCHS)
        config = dataclasses.replace(config, epochs=-(-config.steps // in_epoch), epoch_images=in_epoch * per_step)
    elif config.epochs == 0:
        steps = fitted_steps(data) if gpu else FEWEST_STEPS
        config = dataclasses.replace(
            config, epochs=EPOCHS, epoch_images=config.epoch_images or steps // EPOCHS * per_step
        )
    if config.bank_interval == 0:
        config = dataclasses.replace(config, bank_interval=max(1, config.epochs // JOINS))
    return fit_optimiser(config, vit=patch > 1, short=steps_of(config, data, processes) < 20_000)


def spared(config: TrainConfig, data: TrainingData, processes: int) -> dict[str, tuple[object, object]]:
    """What `fit` makes smaller of open settings because there is no GPU: by name the value, and that with one."""
    here, there = (fit(config, data, processes, gpu=gpu) for gpu in (False, True))
    deeplab = patch_size(here.encoder) == 1 and here.decoder_kind != "linear"
    names = ["image_size", "crop_size"] + ["decoder_channels"] * deeplab
    values = {name: (getattr(here, name), getattr(there, name)) for name in names}
    if config.hours is None:
        values["steps"] = (steps_of(here, data, processes), steps_of(there, data, processes))
    return {name: (few, many or "that of the files") for name, (few, many) in values.items() if few != many}


def fit_optimiser(config: TrainConfig, *, vit: bool, short: bool) -> TrainConfig:
    """Replace what is open of the optimiser's settings by what suits encoder and length of the schedule.

    SGD has the published .001 for long schedules; for short ones .004 was better (CamVid, 1,290 steps, UniMatch, one
    seed: best mIoU 46.8 against 43.7 at .002 and 42.4 at .001). AdamW has 3e-4, 5e-6 over a plain ViT (UniMatch V2).
    Over a frozen encoder the rate is such that the decoder has its usual one, whatever its multiplier.
    """
    optimizer, decay = config.optimizer, config.weight_decay
    if decay is None:
        decay = 0.01 if optimizer == "adamw" else 1e-4
    usual = 40.0 if vit else 10.0
    multiplier = config.decoder_lr_multiplier or usual
    lr = config.lr
    if lr == 0:
        if vit and optimizer == "sgd":
            raise ConfigError(
                f"lr is 0 but no rate of SGD is known to fit a plain ViT ({config.encoder}); set --optimizer adamw or "
                "a learning rate"
            )
        adamw = 5e-6 if vit else 3e-4
        lr = adamw if optimizer == "adamw" else 0.004 if short else 0.001
        lr = lr * usual / multiplier if config.freeze_encoder else lr
    return dataclasses.replace(
        config, optimizer=optimizer, weight_decay=decay, decoder_lr_multiplier=multiplier, lr=lr
    )


def fitted_crop(side: float, patch: int) -> int:
    """A crop of about that side: whole strides of the encoder and one pixel, or whole patches of a plain ViT."""
    if patch == 1:
        return max(SMALLEST_CROP, min(16 * int(side / 16) + 1, LARGEST_CROP))
    return patch * max(-(-SMALLEST_CROP // patch), min(int(side / patch), LARGEST_OF_PATCHES // patch))


def require_unlike(encoders: Sequence[str]) -> None:
    """Raise ConfigError if two students have one encoder."""
    for place, encoder in enumerate(encoders):
        if encoder in encoders[:place]:
            raise ConfigError(
                f"encoder {encoder!r} is named twice, but students of co_training differ; use --method cps for two of "
                "one kind, or name another"
            )


def require_whole_patches(name: str, side: int | None, patch: int, encoder: str) -> None:
    """Raise ConfigError if a side in pixels is not what the encoder sees: a multiple of its patch."""
    if patch > 1 and side is not None and side != nearest_multiple(side, patch):
        below = side // patch * patch
        near = f"{below} or {below + patch}" if below >= FEWEST * patch else f"{FEWEST * patch}"
        raise ConfigError(
            f"{name} is {side} but must be a multiple of {patch}, the patch of encoder {encoder!r}; set {near}"
        )


def fitted_steps(data: TrainingData) -> int:
    """Optimiser steps that suit the number of images."""
    return max(FEWEST_STEPS, min(10 * len(data.epoch_rows), MOST_STEPS))


def steps_of(config: TrainConfig, data: TrainingData, processes: int) -> int:
    """Optimiser steps of a whole run."""
    images = config.epoch_images or len(data.epoch_rows)
    return config.epochs * -(-(images // (config.batch_size * processes)) // config.gradient_accumulation_steps)
