"""What is going to be trained, in a few lines, before it begins."""

from prevmatch.config import TrainConfig
from prevmatch.data.gate import class_table
from prevmatch.data.sources import TrainingData
from prevmatch.methods import method_of
from prevmatch.models.encoder import weights_source
from prevmatch.printable import printable
from prevmatch.run.fitting import FEWEST_STEPS, steps_of


def summary(config: TrainConfig, data: TrainingData, processes: int) -> str:
    """Data, method and schedule of a run, and what the user should know about them, one fact a line.

    What all folds and the final model have in common is told with the first.
    """
    previous = " with previous guidance" if config.previous_guidance and config.method != "prevmatch" else ""
    batch = config.batch_size * processes * config.gradient_accumulation_steps
    steps, twice = steps_of(config, data, processes), method_of(config).uses_unlabelled
    in_epoch = f"{config.epoch_images} images" if config.epoch_images else f"{len(data.epoch_rows)} images once each"
    shared = [*data.source.notes, *class_table(data.source)] if config.fold in (None, 1) else []
    lines = [
        f"{len(data.labelled)} labelled and {len(data.unlabelled)} unlabelled images, {len(data.val)} for validation, "
        f"{data.source.num_classes} classes",
        *map(printable, shared),
        f"{config.method}{previous}, {config.encoder}, crops of {config.crop_size}"
        + (f" from images of {config.image_size}" if config.image_size else ""),
        *_origin(config),
        f"{config.epochs} epochs of {in_epoch}, {steps} steps of {_images(batch, twice)}, learning rate {config.lr:g}",
    ]
    if config.dataset == "custom" and 2 * steps < FEWEST_STEPS:
        lines.append(
            f"NOTE: {steps} steps are few; without --epochs, --steps and --hours there are at least {FEWEST_STEPS}"
        )
    if config.total_batch_size not in (None, batch):
        lines.append(
            f"NOTE: these settings were chosen for steps of {_images(config.total_batch_size, twice)}; change "
            "--batch_size, --gradient_accumulation_steps or the number of processes"
        )
    return "\n".join(lines)


def _origin(config: TrainConfig) -> list[str]:
    """Where the encoder's weights come from, as far as it is known, in a line."""
    source = weights_source(config.encoder) if config.encoder_weights == "timm" else None
    return [] if source is None else [f"encoder from {source[0]}, licence {source[1]}"]


def _images(labelled: int, twice: bool) -> str:
    """The images of a step, and as many unlabelled ones if there are twice as many."""
    return f"{labelled} + {labelled} images" if twice else f"{labelled} images"
