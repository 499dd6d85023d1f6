"""What is going to be trained, in a few lines, before it begins."""

from prevmatch.config import TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.run.fitting import steps_of


def summary(config: TrainConfig, data: TrainingData, processes: int) -> str:
    """Data, method and schedule of a run, and what the user should know about them, one fact a line."""
    previous = " with previous guidance" if config.previous_guidance and config.method != "prevmatch" else ""
    batch = config.batch_size * processes * config.gradient_accumulation_steps
    steps = steps_of(config, data, processes)
    lines = [
        f"{len(data.labelled)} labelled and {len(data.unlabelled)} unlabelled images, {len(data.val)} for validation, "
        f"{data.source.num_classes} classes",
        *data.source.notes,
        f"{config.method}{previous}, {config.encoder}, crops of {config.crop_size}"
        + (f" from images of {config.image_size}" if config.image_size else ""),
        f"{config.epochs} epochs, {steps} steps of {batch} + {batch} images, learning rate {config.lr:g}",
    ]
    if config.total_batch_size not in (None, batch):
        lines.append(
            f"NOTE: these settings were chosen for steps of {config.total_batch_size} + {config.total_batch_size} "
            "images; change --batch_size, --gradient_accumulation_steps or the number of processes"
        )
    return "\n".join(lines)
