"""What a run tells while it lasts: progress bar, metrics.jsonl, trackers; and the watch over non-finite losses."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from prevmatch.config import TrainConfig
from prevmatch.errors import TrainingError
from prevmatch.progress import progress
from prevmatch.run.faults import Outcome, dump
from prevmatch.run.state import TrainState
from prevmatch.writing import write_bytes

Key = tuple[int, int]
"""Epoch and position of a sample."""


@dataclass(frozen=True)
class Entry:
    """One batch: part of optimiser step `step`; one that was left out does not count."""

    step: int
    lr: float
    losses: dict[str, Tensor]
    keys: Sequence[Key]
    counts: bool


class Logbook:
    """Collects the losses of each batch on the device and writes their means every `every` batches.

    Only writing waits for the device; a non-finite loss is therefore noticed then, but with its exact step.
    `names` says which images a sample holds.
    """

    def __init__(
        self, accelerator: Accelerator, config: TrainConfig, *, batches: int, names: Callable[[Key], str] = str
    ):
        self.accelerator, self.every, self.names = accelerator, config.logging_steps, names
        self.folder, self.limit = config.output_dir, config.nonfinite_limit
        self.path = config.output_dir / "metrics.jsonl"
        self.bar = progress(total=batches, disable=not accelerator.is_main_process, unit="it")
        self.shown: dict[str, str] = {}
        self.pending: list[Entry] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
        for tracker in self.accelerator.trackers:  # not end_training, which parts the processes; folds go on together
            tracker.finish()

    def batch(
        self, state: TrainState, lr: float, losses: dict[str, Tensor], keys: Sequence[Key], outcome: Outcome
    ) -> None:
        """Note the losses (scalars on the device) of one batch; only those of steps that were taken are averaged.

        Raises TrainingError if more steps were left out as faults than the settings allow.
        """
        if outcome == "fault":
            self.pending = [replace(e, counts=e.counts and e.step != state.step) for e in self.pending]
            self._fault(state, lr, losses, keys)
        losses = {name: value.detach() for name, value in losses.items()}
        self.pending.append(Entry(state.step, lr, losses, keys, outcome == "taken"))
        self.bar.update()
        if len(self.pending) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Write the mean of what was noted; raises TrainingError at the first loss that was not finite."""
        if not self.pending:
            return
        counting = [entry for entry in self.pending if entry.counts]
        self.pending = []
        if not counting:
            return
        names, values = self._read(counting)
        last = counting[-1]
        means = {name: round(mean, 6) for name, mean in zip(names, values.mean(0).tolist(), strict=True)}
        self.write({"step": last.step, "lr": last.lr, **means})
        self.show(loss=f"{means['loss']:.3f}")
        accepted = {name.removesuffix("/mask_ratio"): value for name, value in means.items() if "/mask_ratio" in name}
        self.show(**{f"{guide} accepts": f"{share:.2f}" for guide, share in accepted.items()})

    def look(self) -> None:
        """Raise TrainingError at the first loss noted, but not written yet, that was not finite."""
        counting = [entry for entry in self.pending if entry.counts]
        if counting:
            self._read(counting)

    def _read(self, entries: Sequence[Entry]) -> tuple[list[str], Tensor]:
        """Names and values (entries, names) of the losses, on the host; raises TrainingError if one is not finite."""
        names = list(entries[0].losses)
        values = torch.stack([torch.stack([entry.losses[n].float() for n in names]) for entry in entries])
        values = self.accelerator.reduce(values, "mean").cpu()  # over the processes, which all read at the same batch
        for entry, row in zip(entries, values, strict=True):
            if not row.isfinite().all():
                noted = self._dump(entry.step, entry.lr, dict(zip(names, row.tolist(), strict=True)), entry.keys)
                raise TrainingError(
                    f"loss or gradient is not finite at step {entry.step} (learning rate {entry.lr:.2e}); the models "
                    f"saved before stay in place, {noted} names the images. Lower --lr, leave such steps out with "
                    "--nonfinite skip, or train in bf16 or fp32 instead of fp16"
                )
        return names, values

    def _fault(self, state: TrainState, lr: float, losses: dict[str, Tensor], keys: Sequence[Key]) -> None:
        state.skipped += 1
        noted = self._dump(state.step, lr, {name: value.item() for name, value in losses.items()}, keys)
        tqdm.write(f"WARNING: loss or gradient is not finite at step {state.step}; it is left out, see {noted}")
        if state.skipped > self.limit:
            raise TrainingError(
                f"loss or gradient was not finite in {state.skipped} steps, the last one is {state.step}; {noted} "
                "names the images. Lower --lr, or raise --nonfinite_limit"
            )

    def _dump(self, step: int, lr: float, losses: dict[str, float], keys: Sequence[Key]) -> str:
        return dump(self.folder, step, lr, losses, [self.names(key) for key in keys]).name

    def epoch(self, state: TrainState, facts: Mapping[str, Any]) -> None:
        """Write the scores of the epoch that `state` has just recorded, and what the guides have to say."""
        scores = {}
        if state.final_iou:
            self.show(mIoU=f"{state.final_miou:.2f}", best=f"{state.best_miou:.2f}")
            scores = {"miou": state.final_miou, "iou": state.final_iou, "best_miou": state.best_miou}
        self.write({"step": state.step, "epoch": state.epoch - 1, **scores, **facts})

    def to_json(self) -> list:
        """What this process noted but has not written, so that a resumed run writes the same lines."""
        return [
            [e.step, e.lr, {name: value.item() for name, value in e.losses.items()}, list(e.keys), e.counts]
            for e in self.pending
        ]

    def resume(self, pending: list, content: bytes, *, batches: int) -> None:
        """Go on after `batches` batches with what `to_json` gave in this process and what metrics.jsonl then held."""
        device = self.accelerator.device
        for step, lr, losses, keys, counts in pending:
            tensors = {name: torch.tensor(value, device=device) for name, value in losses.items()}
            self.pending.append(Entry(step, lr, tensors, [(epoch, position) for epoch, position in keys], counts))
        if self.accelerator.is_main_process:
            write_bytes(self.path, content)
        self.bar.initial = self.bar.n = batches  # what was done before tells nothing of the time that is left

    def content(self) -> bytes:
        """metrics.jsonl as it is."""
        return self.path.read_bytes() if self.path.is_file() else b""

    def show(self, **values: Any) -> None:
        """Put values beside the progress bar."""
        self.shown |= {name: str(value) for name, value in values.items()}
        self.bar.set_postfix(self.shown)

    def write(self, line: dict) -> None:
        """Append a line to metrics.jsonl and hand its numbers to the trackers."""
        if self.accelerator.is_main_process:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:  # half a line may stay; --resume replaces the file
                raise TrainingError(
                    f"{self.path} cannot be written ({error.strerror}); free space, then go on with --resume"
                ) from error
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float) and name != "step"}
        self.accelerator.log(numbers, step=line["step"])
