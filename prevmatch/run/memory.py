"""What becomes of a run that does not fit the device's memory: it begins anew, once, in smaller batches."""

import dataclasses
import gc
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from prevmatch.config import TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.errors import TrainingError
from prevmatch.run.results import HELD

Train = TypeVar("Train", bound=Callable[..., Any])
REMEDY = (
    "use a smaller --crop_size, --encoder or --eval_window, or --gradient_checkpointing, and look what else uses the "
    "device"
)


def smaller_batches_if_needed(train: Train) -> Train:
    """Around `train`: where memory runs out before the first checkpoint, do it all again in smaller batches, with as
    many images in a step, and say so. Raises TrainingError, with the remedy, where that is impossible or not enough.
    """

    @wraps(train)
    def trained(config: TrainConfig, data: TrainingData | None = None) -> Any:
        try:
            return train(config, data)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            smaller = _smaller(config, held=HELD in getattr(error, "__notes__", ()))
        # Only here, outside the handler, nothing holds the tensors of the first attempt any more.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"NOTE: memory ran out with --batch_size {config.batch_size}; training begins anew with --batch_size "
            f"{smaller.batch_size} --gradient_accumulation_steps {smaller.gradient_accumulation_steps}: as many "
            "images in a step, but BatchNorm sees fewer at once",
            flush=True,
        )
        try:
            return train(smaller, data)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            raise TrainingError(f"memory ran out again with --batch_size {smaller.batch_size}; {REMEDY}") from error

    return cast(Train, trained)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _smaller(config: TrainConfig, *, held: bool) -> TrainConfig:
    """The settings with a batch divided by its least factor, and as many images in a step; `held` says that the
    output_dir was taken, so that what lies there is this run's own."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # the others are in the middle of a step
        raise TrainingError(
            f"memory ran out in one of several processes; use a --batch_size below {config.batch_size} with more "
            f"--gradient_accumulation_steps, or {REMEDY}"
        )
    if held and (saved := sorted((config.output_dir / "checkpoints").glob("step_*"))):
        raise TrainingError(
            f"memory ran out after {saved[-1].name}, though it was enough before; look what else uses the device, "
            "then the same command with --resume goes on"
        )
    size = config.batch_size
    parts = next((k for k in range(2, size // 2 + 1) if size % k == 0), None)
    if parts is None:
        raise TrainingError(f"memory ran out with --batch_size {size}, which has no half of at least 2; {REMEDY}")
    return dataclasses.replace(
        config,
        batch_size=size // parts,
        gradient_accumulation_steps=config.gradient_accumulation_steps * parts,
        resume=held or config.resume,
    )
