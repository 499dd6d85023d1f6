"""Which of two runs is better, and how sure that is, from what both said of the same images."""

import json
from pathlib import Path

import numpy as np

from prevmatch.config import TrainConfig
from prevmatch.errors import DataError
from prevmatch.intervals import Interval, difference
from prevmatch.run.validation import POOLED, Validation, evaluations, read_validation

SUMMARY = "folds.json"
"""What the folds found, in the folder of the final model."""


def gain(run: Path, other: Path) -> Interval:
    """By how much the mIoU of one run, or of the folds of one, is higher than another's, on the same images.

    The interval is over images and, where there are folds, over these too, for each has trained a network of its own.
    Raises DataError if they were scored on other images, or are not finished.
    """
    first, second = numbers_of(run), numbers_of(other)
    if sorted(first.ids) != sorted(second.ids):
        raise DataError(f"{run} and {other} were scored on other images; compare runs of the same data and folds")
    place = {name: i for i, name in enumerate(second.ids)}
    order = [place[name] for name in first.ids]
    units: list[np.ndarray] = [first.units]
    if settings_of(run).fold == 0:
        masks = json.loads((run / SUMMARY).read_text())["masks"]
        units.append(np.array([masks[name] for name in first.ids]))
    return difference(first.confusions, second.confusions[order], units=units)


def settings_of(run: Path) -> TrainConfig:
    """The settings of a run; DataError where there are none."""
    try:
        return TrainConfig.from_json(json.loads((run / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise DataError(f"{run} holds no run (no readable config.json); name a run's output folder") from error


def numbers_of(run: Path) -> Validation:
    """What a finished run's number is made of: its best evaluation, or of the final model what its folds said.

    Raises DataError where there is none.
    """
    if settings_of(run).fold == 0:
        return read_validation(run / POOLED)
    try:
        best = json.loads((run / "result.json").read_text())["best_epoch"] + 1
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{run} has no readable result.json; it is no finished run") from error
    files = evaluations(run)
    if best not in files:
        raise DataError(f"{run} keeps no matrices of its validation images; train it again to compare it")
    return read_validation(files[best])
