"""What a run tells while it lasts: progress bar, metrics.jsonl, trackers; and the watch over non-finite losses."""

import json
from typing import Self

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from prevmatch.config import TrainConfig
from prevmatch.errors import TrainingError
from prevmatch.state import TrainState


class Logbook:
    """Collects the losses of each batch on the device and writes their means every `every` batches.

    Only writing waits for the device; a non-finite loss is therefore noticed then, but with its exact step.
    """

    def __init__(self, accelerator: Accelerator, config: TrainConfig, *, batches: int):
        self.accelerator, self.every = accelerator, config.logging_steps
        self.path = config.output_dir / "metrics.jsonl"
        self.bar = tqdm(total=batches, disable=not accelerator.is_main_process, unit="it", dynamic_ncols=True)
        self.shown: dict[str, str] = {}
        self.pending: list[tuple[int, float, dict[str, Tensor]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
        self.accelerator.end_training()

    def batch(self, step: int, lr: float, losses: dict[str, Tensor]) -> None:
        """Note the losses (scalars on the device) of one batch, part of optimiser step `step`."""
        self.pending.append((step, lr, {name: value.detach() for name, value in losses.items()}))
        if len(self.pending) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Write the mean of what was noted; raises TrainingError at the first loss that was not finite."""
        if not self.pending:
            return
        names = list(self.pending[0][2])
        values = torch.stack([torch.stack([losses[n].float() for n in names]) for *_, losses in self.pending]).cpu()
        for (step, lr, _), row in zip(self.pending, values, strict=True):
            if not row.isfinite().all():
                raise TrainingError(
                    f"the loss is not finite at step {step} (learning rate {lr:.2e}); the models saved before stay in "
                    "place. Lower --lr, or train in bf16 or fp32 instead of fp16"
                )
        step, lr, _ = self.pending[-1]
        means = {name: round(mean, 6) for name, mean in zip(names, values.mean(0).tolist(), strict=True)}
        self.write({"step": step, "lr": lr, **means})
        self.bar.update(len(self.pending))
        self.pending.clear()
        self.show(loss=f"{means['loss']:.3f}")
        for guide, label in (("student", "mask"), ("previous", "prev_mask")):
            if f"{guide}/mask_ratio" in means:
                self.show(**{label: f"{means[f'{guide}/mask_ratio']:.2f}"})

    def epoch(self, state: TrainState, *, bank: int) -> None:
        """Write the scores of the epoch that `state` has just recorded."""
        self.show(mIoU=f"{state.final_miou:.2f}", best=f"{state.best_miou:.2f}")
        scores = {"miou": state.final_miou, "iou": state.final_iou, "best_miou": state.best_miou}
        self.write({"step": state.step, "epoch": state.epoch - 1, **scores, "bank": bank})

    def show(self, **values: str | int) -> None:
        """Put values beside the progress bar."""
        self.shown |= {name: str(value) for name, value in values.items()}
        self.bar.set_postfix(self.shown)

    def write(self, line: dict) -> None:
        """Append a line to metrics.jsonl and hand its numbers to the trackers."""
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float) and name != "step"}
        self.accelerator.log(numbers, step=line["step"])
