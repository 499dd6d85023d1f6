"""Which of two runs, or of two methods over seeds, is better, and how sure that is, by what they said of images."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prevmatch.errors import DataError
from prevmatch.intervals import FEWEST, Interval, difference
from prevmatch.run.results import settings_of
from prevmatch.run.validation import POOLED, SUMMARY, Validation, evaluations, read_validation


def gain(runs: Sequence[Path], others: Sequence[Path]) -> Interval:
    """By how much the mIoU of runs, or of the folds of each, is higher than that of others, on the same images.

    Runs of one side differ in their seed alone, and each has its partner on the other side at the same place. The
    interval is over images and, as each of them has trained a network of its own, over folds and over three seeds or
    more: images alone know nothing of what another training would give.
    Raises DataError if they were scored on other images, or are not finished.
    """
    first, second = ([numbers_of(run) for run in side] for side in (runs, others))
    ids, count = first[0].ids, len(runs)
    for run, each in zip((*runs, *others), (*first, *second), strict=True):
        if sorted(each.ids) != sorted(ids):
            raise DataError(
                f"{runs[0]} and {run} were scored on other images; compare runs of the same data and folds"
            )
    units = [np.tile(first[0].units, count)]
    seeds = np.repeat(np.arange(count), len(ids))
    if settings_of(runs[0]).fold == 0:
        folds = [_folds_of(run) for run in runs]
        if other := next((run for run in others if _folds_of(run) not in folds), None):
            raise DataError(f"{runs[0]} and {other} have other folds; compare runs with the same masks in each fold")
        fold = np.array([each[name] for each in folds for name in ids])
        units.append(seeds * (fold.max() + 1) + fold)
    if count >= FEWEST:
        units.append(seeds)
    found = difference(
        *(np.concatenate([_in_order(each, ids) for each in side]) for side in (first, second)), units=units
    )
    return replace(found, masks=len(ids))


def _folds_of(run: Path) -> dict[str, int]:
    """The fold of each mask; DataError where that cannot be read."""
    try:
        return json.loads((run / SUMMARY).read_text())["masks"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run / SUMMARY} is missing or damaged; run --fold 0 again with --resume") from error


def _in_order(numbers: Validation, ids: Sequence[str]) -> np.ndarray:
    """The confusion matrices int64 (N, C, C) of these images."""
    place = {name: i for i, name in enumerate(numbers.ids)}
    return numbers.confusions[[place[name] for name in ids]]


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
