"""A number to rely on from few masks: each is scored once by a network that never saw it; then a model of all masks.

A loop over `train`: OUT/fold_1 … OUT/fold_K are runs like any other, whose networks are those of their last epoch, for
nothing may be chosen on the masks that they are scored on. What they said of all masks goes to OUT/folds.npz, and OUT
itself is the run of the final model, which bears the folds' numbers.
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prevmatch.config import TrainConfig
from prevmatch.errors import DataError
from prevmatch.intervals import difference, pooled_miou, scores, told
from prevmatch.loop import train
from prevmatch.run.launch import is_first, wait_for_all
from prevmatch.run.results import TrainResult, settings_of
from prevmatch.run.validation import (
    POOLED,
    SUMMARY,
    Validation,
    evaluations,
    file_of,
    read_validation,
    write_validation,
)
from prevmatch.share.report_page import duration
from prevmatch.writing import write_text


def pool(run: Path, folds: int) -> tuple[Validation, np.ndarray]:
    """What the folds' networks said of all masks after their last epoch, and the fold of each mask (N).

    Raises DataError if a fold is not finished, or a mask is not there exactly once.
    """
    parts, number = [], []
    for fold in range(1, folds + 1):
        folder = run / f"fold_{fold}"
        if not (folder / "result.json").is_file():
            raise DataError(f"{folder} is no finished run; train it with --folds {folds} --fold {fold} --resume")
        parts.append(read_validation(file_of(folder, settings_of(folder).epochs)))
        number += [fold] * len(parts[-1].ids)
    return _joined(parts), np.array(number)


def by_epoch(run: Path, folds: int) -> dict[int, np.ndarray]:
    """The pooled matrices int64 (N, C, C) after each epoch at which all folds were evaluated."""
    found = [evaluations(run / f"fold_{fold}") for fold in range(1, folds + 1)]
    common = sorted(set.intersection(*(set(files) for files in found)))
    return {epoch: _joined([read_validation(files[epoch]) for files in found]).confusions for epoch in common}


def sensible_epochs(pooled: dict[int, np.ndarray], fold: np.ndarray) -> tuple[int, str]:
    """For how many epochs the final model is to train, and why: all of them, unless the folds were clearly better at
    an earlier one. Clearly: by the paired interval over images and over folds, for the best of many epochs is always
    a little better by luck."""
    last = max(pooled)
    values = {epoch: pooled_miou(confusions) for epoch, confusions in pooled.items()}
    best = max(values, key=lambda epoch: values[epoch])
    gain = difference(pooled[best], pooled[last], units=[None, fold])
    if best == last or not gain.low > 0:
        return last, f"no earlier epoch of the folds was clearly better than the last, so it trains all {last}"
    return best, (
        f"after {best} epochs the folds stood at {values[best]:.1f}, clearly above {values[last]:.1f} after {last} "
        f"({gain.value:+.1f} [{gain.low:.1f}, {gain.high:.1f}]), so it trains {best}"
    )


def run_all(config: TrainConfig, begun: float) -> TrainResult:
    """Train what the settings ask for, in turn: one run, or the folds and the final model, or one of these.

    Returns the result of the last one. `begun` is when max_hours began to count, on the clock of `time.monotonic`.
    Raises the errors of `train`; with `resume` the same call goes on.
    """
    seconds, runs, length = list[float](), list(_runs(config)), dict[str, Any]()
    if config.fold and config.hours and (other := _finished(config)):
        length = length_of(other)
        tell(f"as long as {other.name}: the folds' networks are to be alike, so --hours is not measured again")
    if len(runs) > 1:
        tell(
            f"{config.folds} folds and the final model: {len(runs)} trainings one after another, {len(runs)} times "
            "the time of one; each can also run by itself with --fold 1 and so on, the final model with --fold 0"
        )
    for done, (name, run) in enumerate(runs):
        run = _final(run) if run.fold == 0 else dataclasses.replace(run, **length)
        tell(f"== {name}" if len(runs) > 1 else "")
        since = time.monotonic()
        result = train(dataclasses.replace(run, max_hours=_left(config, begun)))
        wait_for_all()  # for the first process writes the result that all read
        length = length_of(run.output_dir)
        seconds.append(time.monotonic() - since)
        if left := len(runs) - done - 1:
            tell(f"{name}: {result.line()}\nabout {duration(left * sum(seconds) / len(seconds))} to go")
    return result


def _finished(config: TrainConfig) -> Path | None:
    """The first other fold of a study that is finished."""
    folds = (config.output_dir / f"fold_{k}" for k in range(1, config.folds + 1) if k != config.fold)
    return next((run for run in folds if (run / "result.json").is_file()), None)


def _require_equal_length(run: Path, folds: int) -> None:
    """Raise DataError where folds trained for different lengths, for what they say together is of no length then."""
    lengths = {k: length_of(run / f"fold_{k}") for k in range(1, folds + 1)}
    images = {k: length["epochs"] * length["epoch_images"] for k, length in lengths.items()}
    if len({(lengths[k]["epochs"], count) for k, count in images.items()}) > 1:
        few, many = min(images, key=lambda k: images[k]), max(images, key=lambda k: images[k])
        raise DataError(
            f"the folds trained for different lengths, fold {few} on {images[few]} images and fold {many} on "
            f"{images[many]}; train them again with one --steps, or all in one command"
        )


def length_of(run: Path) -> dict[str, Any]:
    """The settings that make another run as long as this one, and as large, whatever it was sized by."""
    fitted = settings_of(run)
    same = (
        "encoder", "encoder_weights", "decoder_channels", "image_size", "crop_size", "epochs", "epoch_images",
        "batch_size", "gradient_accumulation_steps",
    )  # fmt: skip
    return {"hours": None, "steps": 0} | {name: getattr(fitted, name) for name in same}


def _runs(config: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    """The runs that the settings ask for, by what they are called."""
    whole = [*range(1, config.folds + 1), 0] if config.folds else [None]
    wanted = whole if config.fold is None else [config.fold]
    for fold in wanted:
        name, folder = ("final model", "") if not fold else (f"fold {fold} of {config.folds}", f"fold_{fold}")
        hours = config.hours and config.hours / (config.folds + 1)
        own: dict[str, Any] = {"fold": fold, "output_dir": config.output_dir / folder, "twin": False, "hours": hours}
        yield name, dataclasses.replace(config, **own, push_to_hub=config.push_to_hub and not fold)


def _final(config: TrainConfig) -> TrainConfig:
    """Pool the folds and note what they found; the settings of the final model."""
    run, folds = config.output_dir, config.folds
    validation, fold = pool(run, folds)
    _require_equal_length(run, folds)
    pooled = by_epoch(run, folds)
    epochs, why = sensible_epochs(pooled, fold)
    if is_first():
        names = list(json.loads((run / "fold_1" / "result.json").read_text())["class_iou"])
        write_validation(run / POOLED, validation)
        write_text(run / SUMMARY, json.dumps(_summary(validation, fold, pooled, names, epochs, why), indent=2) + "\n")
    tell(f"{told(scores(validation.confusions, units=validation.units).miou, folds=True)}; {why}")
    return dataclasses.replace(config, **length_of(run / "fold_1") | {"epochs": epochs})


def _summary(
    validation: Validation, fold: np.ndarray, pooled: dict[int, np.ndarray], names: list[str], epochs: int, why: str
) -> dict[str, Any]:
    found = scores(validation.confusions, units=validation.units)
    return {
        "miou": found.miou.to_json(),
        "told": told(found.miou, folds=True),
        "classes": {name: iou.to_json() for name, iou in zip(names, found.classes, strict=True)},
        "folds": {int(k): pooled_miou(validation.confusions[fold == k]) for k in np.unique(fold)},
        "masks": {name: int(k) for name, k in zip(validation.ids, fold, strict=True)},
        "miou_after_epoch": {epoch: pooled_miou(confusions) for epoch, confusions in pooled.items()},
        "epochs": epochs,
        "why": why,
    }


def _joined(parts: list[Validation]) -> Validation:
    ids = tuple(name for part in parts for name in part.ids)
    if len(set(ids)) < len(ids):
        raise DataError(
            "some masks are in two folds; the folds were made with other data or settings, train them again"
        )
    return Validation(ids, np.concatenate([p.confusions for p in parts]), np.concatenate([p.units for p in parts]))


def _left(config: TrainConfig, begun: float) -> float | None:
    """The hours that are left of max_hours; none at all still lets a run begin, and stop in order."""
    return config.max_hours and max(1e-6, config.max_hours - (time.monotonic() - begun) / 3600)


def tell(line: str) -> None:
    """Print a line, in one of several processes."""
    if line and is_first():
        print(line, flush=True)
