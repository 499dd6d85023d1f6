"""Settings and data brought together: what is left open (0) follows from the data, and what cannot be is refused."""

import dataclasses
from statistics import median

import numpy as np

from prevmatch.config import TrainConfig
from prevmatch.data.reading import open_cell
from prevmatch.data.sources import TrainingData
from prevmatch.errors import DataError
from prevmatch.methods import Method

EPOCHS, JOINS = 50, 25
SMALLEST_CROP, LARGEST_CROP = 65, 513
LONGEST_SIDE, FITTED_SIDE = 1536, 1024


def require_unlabelled(method: Method, data: TrainingData) -> None:
    """Raise DataError if the method learns from unlabelled images and there are none."""
    if method.uses_unlabelled and not len(data.unlabelled):
        raise DataError(
            "no image is unlabelled; add images without masks, label fewer with --labelled 20% or another --split, or "
            "use --method supervised without previous guidance"
        )


def fit(config: TrainConfig, data: TrainingData, processes: int) -> TrainConfig:
    """Replace every open setting; the others stay as they are.

    Long images are brought to 1024 pixels; crops cover nine tenths of the median short side; the schedule takes ten
    optimiser steps per unlabelled image (per labelled one where all are), at least 5,000 and at most 100,000 (Pascal's
    published schedule has 105,000), in 50 epochs; earlier versions join the bank 25 times. The learning rate is the
    published .001 for long schedules; for short ones .004 was better (CamVid, 1,290 steps, UniMatch, one seed: best
    mIoU 46.8 against 43.7 at .002 and 42.4 at .001). AdamW has 3e-4.
    """
    width, height = median_size(data)
    if config.image_size == 0:
        config = dataclasses.replace(config, image_size=FITTED_SIDE if max(width, height) > LONGEST_SIDE else None)
    if config.crop_size == 0:
        scale = config.image_size / max(width, height) if config.image_size else 1
        side = 16 * int(0.9 * scale * min(width, height) / 16) + 1  # whole strides of the encoder, and one pixel
        config = dataclasses.replace(config, crop_size=max(SMALLEST_CROP, min(side, LARGEST_CROP)))
    if config.epochs == 0:
        steps = max(5_000, min(10 * len(data.epoch_rows), 100_000))
        per_step = config.batch_size * processes * config.gradient_accumulation_steps
        config = dataclasses.replace(
            config, epochs=EPOCHS, epoch_images=config.epoch_images or steps // EPOCHS * per_step
        )
    if config.bank_interval == 0:
        config = dataclasses.replace(config, bank_interval=max(1, config.epochs // JOINS))
    if config.lr == 0:
        short = steps_of(config, data, processes) < 20_000
        config = dataclasses.replace(config, lr=3e-4 if config.optimizer == "adamw" else 0.004 if short else 0.001)
    return config


def steps_of(config: TrainConfig, data: TrainingData, processes: int) -> int:
    """Optimiser steps of a whole run."""
    images = config.epoch_images or len(data.epoch_rows)
    return config.epochs * -(-(images // (config.batch_size * processes)) // config.gradient_accumulation_steps)


def median_size(data: TrainingData) -> tuple[int, int]:
    """Median width and height of the images that an epoch passes over, from at most 100 of them."""
    rows = data.epoch_rows.select_columns(["id", "image"])
    chosen = np.linspace(0, len(rows) - 1, min(100, len(rows))).astype(int)
    sizes = [open_cell(rows[int(i)], "image", header_only=True).size for i in chosen]
    return int(median(w for w, _ in sizes)), int(median(h for _, h in sizes))
