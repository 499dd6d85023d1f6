"""When a run saves and how it goes on: checkpoints written beside training, the newest whole one found again."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError
from tqdm import tqdm

from prevmatch.config import TrainConfig, material
from prevmatch.data.fingerprints import fingerprint
from prevmatch.data.sources import TrainingData
from prevmatch.errors import CheckpointError, ConfigError, Stopped
from prevmatch.run import checkpoint
from prevmatch.run.faults import check_weights
from prevmatch.run.launch import resumes
from prevmatch.run.logbook import Logbook
from prevmatch.run.state import TrainState
from prevmatch.students import Student, named

SIZED_BY = {"steps", "hours"}
"""Settings that mean nothing beyond the epochs and the images in each that they came to."""


class Keeper:
    """Saves and restores one run; use as a context manager, which waits for what is still being written."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        accelerator: Accelerator,
        students: Sequence[Student],
        logbook: Logbook,
    ):
        self.config, self.accelerator, self.logbook = config, accelerator, logbook
        self.networks, self.memory = dict(named(students, "networks")), dict(named(students, "memory"))
        self.scored = students[0].scored
        self.folder = config.output_dir / "checkpoints"
        self.own_data = data.source.pixels is not None
        self.identity = {
            "config": config.to_json(),
            "data": _identity(data, accelerator),
            "processes": accelerator.num_processes,
        }
        self.writer = ThreadPoolExecutor(1)
        self.writing: tuple[int, Future[None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish_writing()
        self.writer.shutdown()

    def save_if_due(self, state: TrainState) -> None:
        """Save within an epoch, every `checkpointing_steps` optimiser steps."""
        every = self.config.checkpointing_steps
        if every is not None and state.step % every == 0:
            self.save(state)

    def save_best(self, state: TrainState) -> None:
        """Keep what was scored as the best model if the score is a new best."""
        if state.improved and self.accelerator.is_main_process:
            self.scored.save_pretrained(self.config.output_dir / "best")

    def save(self, state: TrainState, *, wait: bool = False) -> None:
        """Save the run, in all processes together; only copying to host memory makes training wait.

        A checkpoint that cannot be written is told and does not end the run, unless `wait` says that it matters.
        Raises TrainingError, and saves nothing, where a loss since the last records or a weight is not finite.
        """
        self.logbook.look()
        check_weights(list(self.networks.values()), state.step, self.accelerator)
        several = self.accelerator.num_processes > 1
        ranks = gather_object([checkpoint.own_state(self.networks, buffers=several)])
        pending = gather_object([self.logbook.to_json()])
        if not self.accelerator.is_main_process:
            return
        self.finish_writing()
        snapshot = checkpoint.take_snapshot(
            self.networks,
            self.memory,
            ranks=ranks,
            metrics=self.logbook.content(),
            state=self.identity | {"state": state.to_json(), "pending": pending, "scaler": self._scaler_state()},
        )
        self.writing = (state.step, self.writer.submit(self._write, snapshot, state.step))
        if wait:
            self.finish_writing(strict=True)

    def end_if(self, asked: bool, reason: str | None, state: TrainState) -> None:
        """Save the run and end it by raising Stopped, if it was asked to end."""
        if asked:
            self.save(state, wait=True)
            raise Stopped(
                f"{reason}, after step {state.step}; the same command with --resume goes on from {self.folder}"
            )

    def finish_writing(self, *, strict: bool = False) -> None:
        """Wait for the checkpoint that is being written; if it failed, tell so, or raise CheckpointError."""
        if self.writing is None:
            return
        step, future = self.writing
        self.writing = None
        try:
            future.result()
        except (OSError, SafetensorError, CheckpointError) as error:
            problem = f"the checkpoint after step {step} could not be written ({error}); the ones before it stay"
            if strict:
                raise CheckpointError(problem) from error
            self.tell(f"WARNING: {problem}, training goes on")

    def tell(self, line: str) -> None:
        """Print a line above the progress bar, once."""
        if self.accelerator.is_main_process:
            tqdm.write(line)

    def resume(self, batches_per_epoch: int) -> TrainState:
        """Restore the newest whole checkpoint and return where the run was; a new state where there is none.

        Raises ConfigError if it is of other settings or data, CheckpointError if none is whole.
        """
        found = self._find() if resumes(self.config) else None
        if found is None:
            return TrainState()
        saved = checkpoint.read_state(found)
        state = TrainState.from_json(saved["state"])
        now, then = material(self.identity["config"]), material(saved["config"])
        changed = [part for part, value in self.identity["data"].items() if saved["data"][part] != value]
        other_photos = self.own_data and "unlabelled" in changed
        fitted = {"epoch_images"} if other_photos else set()
        others = [name for name in now if now[name] != then.get(name) and name not in fitted]
        different = [f"{name}={now[name]} (was {then.get(name)})" for name in others]
        if set(others) - SIZED_BY:
            raise ConfigError(f"{found} was made with other settings: {', '.join(different)}; use those to resume")
        if "names" in changed:
            raise ConfigError(f"{found} was made with other images or another split; use those to resume")
        if changed := [part for part in changed if not (other_photos and part == "unlabelled")]:
            raise ConfigError(
                f"{found} was made with other files: some of the {' and '.join(changed)} images, or their masks, have "
                "changed since; restore them, or start anew with --overwrite_output_dir"
            )
        checkpoint.restore(found, self.networks, self.memory, rank=self.accelerator.process_index)
        if self.accelerator.scaler is not None and saved["scaler"]:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.tell(f"resumed after step {state.step} from {found}")
        if other_photos:
            state.batch = min(state.batch, batches_per_epoch)
            self.tell("NOTE: other unlabelled images than before: it goes on, not the same run bit by bit")
        if saved["processes"] != self.accelerator.num_processes:
            self._translate(state, saved["processes"], batches_per_epoch)
        batches = state.epoch * batches_per_epoch + state.batch
        # A process that the checkpoint does not know goes on with the last one's share.
        pending = saved["pending"][min(self.accelerator.process_index, saved["processes"] - 1)]
        self.logbook.resume(pending, (found / "metrics.jsonl").read_bytes(), batches=batches)
        return state

    def _translate(self, state: TrainState, processes: int, batches_per_epoch: int) -> None:
        """Place the run where as many samples are done, in batches of another number of processes."""
        accumulation = self.config.gradient_accumulation_steps
        batch = state.batch * processes // self.accelerator.num_processes
        state.batch = min(batch // accumulation * accumulation, batches_per_epoch)
        state.step = state.epoch * -(-batches_per_epoch // accumulation) + state.batch // accumulation
        self.tell(
            f"NOTE: saved by {processes} processes, it goes on in {self.accelerator.num_processes}: not the same run "
            "bit by bit"
        )

    def _find(self) -> Path | None:
        """The newest whole checkpoint, as the main process sees it; an error there is raised everywhere."""
        answer: list = [None]
        if self.accelerator.is_main_process:
            try:
                answer = [checkpoint.newest(self.folder, self.tell)]
            except CheckpointError as error:
                answer = [error]
        found = broadcast_object_list(answer)[0]
        if isinstance(found, CheckpointError):
            raise found
        if found is None:
            self.tell(f"there is no checkpoint in {self.folder}; starting anew")
        return found

    def _write(self, snapshot: checkpoint.Snapshot, step: int) -> None:
        checkpoint.write(snapshot, checkpoint.folder_of(self.folder, step))
        checkpoint.prune(self.folder, self.config.save_total_limit)

    def _scaler_state(self) -> dict:
        return {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()


def _identity(data: TrainingData, accelerator: Accelerator) -> dict[str, str]:
    """What must be equal for a run to go on: the names of all images, and fingerprints of what they hold.

    Own data may have other unlabelled images, whose fingerprint tells that.
    """
    parts = {"labelled": data.labelled, "unlabelled": data.unlabelled, "validation": data.val}
    told = [rows for part, rows in parts.items() if data.source.pixels is None or part != "unlabelled"]
    names = [data.source.class_names, *(rows["id"][:] for rows in told)]
    identity: dict[str, str] = {"names": hashlib.sha256(repr(names).encode()).hexdigest()}
    if accelerator.is_main_process:
        identity |= {part: fingerprint(rows) for part, rows in parts.items()}
    return broadcast_object_list([identity])[0]
