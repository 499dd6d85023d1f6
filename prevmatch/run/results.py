"""The output folder of a run: config.json at the start, result.json at the end."""

import dataclasses
import json
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from prevmatch import __version__
from prevmatch.config import TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError, DataError
from prevmatch.intervals import Interval, Scores, scores, told
from prevmatch.run.code_version import PATCH_FILE, commit, write_patch
from prevmatch.run.launch import resumes
from prevmatch.run.state import TrainState
from prevmatch.run.summary import summary
from prevmatch.run.validation import FOLDER, POOLED, SUMMARY, file_of, read_validation
from prevmatch.writing import finish_files, locked, write_text

HELD = "in an output_dir that was held"
"""The note of an error that came after the run had taken its folder, so that what lies there is its own."""
STUDY_FOLDERS = ("twin", "twin_time", "curve")
"""What a study trains besides, which is worth nothing beside another run."""
RUN_FILES = (
    "config.json", "metrics.jsonl", "result.json", "best", "checkpoints", "panels", "curves", "report.html",
    PATCH_FILE, FOLDER, "study.json", "curve.json", "suspicious.png",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run came to; mIoU in %, over all classes, or of own data over those that occur in validation."""

    best_miou: float
    best_epoch: int
    """Counted from 0, as in metrics.jsonl."""
    final_miou: float
    class_iou: dict[str, float | None]
    """IoU in % of each class at the best epoch; None for one that does not count, as it does not occur."""
    interval: Interval | None = None
    """How sure best_miou is; None where the validation images are too many to be kept one by one."""
    told: str = ""
    """The same for people."""
    folds: bool = False
    """Whether it is of folds, where no epoch is chosen: the number is that of the last one."""
    seconds_per_iteration: float
    """Mean over all training iterations, loading included, evaluation not."""
    output_dir: Path
    warnings: tuple[str, ...] = ()
    """What was said about the data or the run that puts the scores in doubt."""

    def line(self) -> str:
        """The result in a line, epochs counted from 1; before it what puts it in doubt, a line each."""
        counting = sum(iou is not None for iou in self.class_iou.values())
        mean = f", mean over the {counting} of {len(self.class_iou)} classes that occur in validation"
        mean *= counting < len(self.class_iou)
        if self.folds:
            number = f"mIoU {self.told or f'{self.final_miou:.2f} %'}{mean}"
        else:
            best = f"best mIoU {self.best_miou:.2f} % (epoch {self.best_epoch + 1}), final {self.final_miou:.2f} %"
            number = f"{best}{mean}{': ' * bool(self.told)}{self.told}"
        line = f"{number}; {self.seconds_per_iteration:.3f} s per iteration; see {self.output_dir}"
        return "\n".join([*self.warnings, line])


@contextmanager
def open_output_dir(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> Iterator[None]:
    """Hold the folder for this run: create it, write config.json, and say what is going to be trained.

    Raises ConfigError if the folder cannot be written, is held by another run, or has one that may not be replaced.
    """
    folder = config.output_dir
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder))
                _make_room(config)
                write_text(folder / "config.json", json.dumps(config.to_json(), indent=2) + "\n")
                write_patch(folder)
            except OSError as error:
                raise ConfigError(
                    f"output_dir {folder} cannot be written ({error.strerror}); choose another"
                ) from error
        accelerator.wait_for_everyone()
        accelerator.print(summary(config, data, accelerator.num_processes))
        accelerator.print(
            f"{accelerator.num_processes} x {accelerator.device.type}, mixed precision {accelerator.mixed_precision}; "
            f"output in {folder}"
        )
        settings = {k: v for k, v in config.to_json().items() if isinstance(v, int | float | str)}
        accelerator.init_trackers("prevmatch", config=settings)
        try:
            yield
        except RuntimeError as error:
            error.add_note(HELD)
            raise


def _make_room(config: TrainConfig) -> None:
    """Remove an earlier run if it may be; finish what a killed one was saving."""
    folder = config.output_dir
    finish_files(folder / "best")
    earlier = [folder / name for name in RUN_FILES if (folder / name).exists()]
    if resumes(config) and any(folder.glob("checkpoints/step_*")):
        return
    if earlier and not config.overwrite_output_dir:
        if not resumes(config):
            raise ConfigError(
                f"{folder} already holds a run ({earlier[0].name}); go on with --resume, choose another --output_dir, "
                "or add --overwrite_output_dir"
            )
        if (folder / "result.json").exists() or not _is_run(folder):
            what = "a finished run without checkpoints" if _is_run(folder) else f"{earlier[0].name}, but no run"
            raise ConfigError(
                f"{folder} holds {what}, so there is nothing to resume; choose another --output_dir, or add "
                "--overwrite_output_dir"
            )
    stale = _of_studies(folder, config) if config.overwrite_output_dir else []
    for path in (*earlier, *stale):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def settings_of(run: Path) -> TrainConfig:
    """The settings of a run; DataError, naming the file, where there are none that can be."""
    path = run / "config.json"
    try:
        return TrainConfig.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{run} holds no run (no readable config.json); name a run's output folder") from error
    except ConfigError as error:
        raise DataError(f"{path} has {error}") from error


def _is_run(folder: Path) -> bool:
    """Whether a folder has the settings of a run."""
    try:
        settings_of(folder)
    except DataError:
        return False
    return True


def _of_studies(folder: Path, config: TrainConfig) -> list[Path]:
    """What studies of an earlier run left in its folder, but the folds whose final model this is."""
    folds = {int(path.name[5:]): path for path in folder.glob("fold_*") if path.name[5:].isdecimal()}
    stale = [path for number, path in folds.items() if config.fold != 0 or number > config.folds]
    stale = [path for path in (*stale, *(folder / name for name in STUDY_FOLDERS)) if any(path.rglob("config.json"))]
    summed = [] if config.fold == 0 else [folder / name for name in (POOLED, SUMMARY) if (folder / name).is_file()]
    return stale + summed


def report(
    state: TrainState, config: TrainConfig, data: TrainingData, accelerator: Accelerator, *, iterations: int
) -> TrainResult:
    """Sum a run up and write result.json: scores, settings, and where and with which code they were measured."""
    numbers = read_numbers(config, state.best_epoch + 1, data.source.absent_score)
    iou, best, final = state.best_iou, state.best_miou, state.final_miou
    if config.fold == 0:  # nothing was held out: its numbers are those of the folds
        assert numbers is not None
        best = final = numbers.miou.value
        iou = [c.value if isfinite(c.value) else None for c in numbers.classes]
    result = TrainResult(
        best_miou=best,
        best_epoch=state.best_epoch,
        final_miou=final,
        class_iou=dict(zip(data.source.class_names, iou, strict=True)),
        interval=numbers.miou if numbers else None,
        told=interval_json(numbers, config, data)["told"] if numbers else "",
        folds=config.folds > 0,
        seconds_per_iteration=state.seconds / iterations,
        output_dir=config.output_dir,
        warnings=_warnings(state, data),
    )
    if accelerator.is_main_process:
        content = {
            **dataclasses.asdict(result),
            "interval": numbers and interval_json(numbers, config, data),
            "output_dir": str(result.output_dir),
            "seconds": state.seconds,
            "labelled": len(data.labelled),
            "unlabelled": len(data.unlabelled),
            "validation": len(data.val),
            "command": command(accelerator),
            "config": config.to_json(),
            "environment": environment(accelerator),
        }
        write_text(config.output_dir / "result.json", json.dumps(content, indent=2) + "\n")
    return result


def read_numbers(config: TrainConfig, epochs: int, absent: float) -> Scores | None:
    """The scores after so many epochs with their intervals, or of the folds that the final model is of.

    `absent` is what a class counts that does not occur. None where the images were too many to be kept. Raises
    DataError if the folds are not pooled yet.
    """
    path = config.output_dir / POOLED if config.fold == 0 else file_of(config.output_dir, epochs)
    if not path.is_file() and config.fold != 0:
        return None
    validation = read_validation(path)
    return scores(validation.confusions, units=validation.units, absent=absent)


def interval_json(numbers: Scores, config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """The intervals of a run as JSON, and what is told of its number."""
    whole = config.dataset != "custom" or config.val_part is not None
    masks = len(data.labelled) + len(data.val)
    return {
        **numbers.miou.to_json(),
        "told": told(numbers.miou, folds=config.fold == 0, whole=whole or config.fold is not None, masks=masks),
        "classes": {n: c.to_json() for n, c in zip(data.source.class_names, numbers.classes, strict=True)},
    }


def _warnings(state: TrainState, data: TrainingData) -> tuple[str, ...]:
    said = [note for note in data.source.notes if note.startswith("WARNING")]
    if state.skipped:
        said.append(f"WARNING: {state.skipped} steps were left out, as their loss or gradient was not finite")
    return tuple(said)


def command(accelerator: Accelerator) -> str:
    """How this program was started, as a shell line; empty where it was no script (a notebook, `python -c`)."""
    script, words = (sys.argv[0], sys.argv[1:]) if sys.argv else ("", [])
    processes = accelerator.num_processes
    own = Path(script).name == "prevmatch" or script.endswith("prevmatch/__main__.py")
    if own and processes == 1:
        return shlex.join(["prevmatch", *words])
    if not script.endswith(".py") and not own:
        return ""
    several = ["--num_processes", str(processes)] if processes > 1 else []
    return shlex.join(["accelerate", "launch", *several, *(["-m", "prevmatch"] if own else [script]), *words])


def environment(accelerator: Accelerator) -> dict[str, str | int]:
    """Machine, libraries and code version."""
    device = accelerator.device
    packages = ("torch", "accelerate", "timm", "datasets")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "python": platform.python_version(),
        "prevmatch": __version__,
        **{name: version(name) for name in packages},
        "commit": commit(),
    }
