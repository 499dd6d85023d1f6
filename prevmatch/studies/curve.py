"""What more masks would bring: the score of a quarter, half and all of the masks, and what double as many promise."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from prevmatch.errors import DataError
from prevmatch.intervals import Interval, extrapolation, scores
from prevmatch.loop import train
from prevmatch.run.results import settings_of
from prevmatch.share.report_page import CURVE, write_report
from prevmatch.studies.folds import length_of, pool
from prevmatch.writing import write_text

SHARES = ("25%", "50%")
FEWEST_MASKS = 12
"""Masks below which a quarter of a fold's says nothing."""


def curve(run: Path) -> dict[str, Any]:
    """Train the folds of a finished study again with a quarter and with half of their masks, for as many steps.

    The masks that are left out stay in training as unlabelled images, and all are scored on the same held-out ones. It
    goes on where it was interrupted. Returns what it found as plain JSON values, which go to curve.json, too.
    Raises DataError where the study has no folds or too few masks.
    """
    folds = settings_of(run).folds
    if not folds:
        raise DataError(f"{run} has no folds, without which a curve is luck; train with --folds 5 first")
    whole, _ = pool(run, folds)
    if len(whole.ids) < FEWEST_MASKS:
        raise DataError(f"{run} has {len(whole.ids)} masks; a curve needs at least {FEWEST_MASKS}")
    base = settings_of(run / "fold_1")
    points, sizes = [], []
    for share in SHARES:
        folder = run / "curve" / share.removesuffix("%")
        for fold in range(1, folds + 1):
            own = dataclasses.replace(
                base, fold=fold, labelled=share, resume=True, output_dir=folder / f"fold_{fold}", push_to_hub=False,
                **length_of(run / "fold_1"),
            )  # fmt: skip
            train(own)
        points.append(pool(folder, folds)[0])
        sizes.append(_labelled(folder, folds))
    points.append(whole)
    sizes.append(_labelled(run, folds))
    order = [[point.ids.index(name) for name in whole.ids] for point in points]
    confusions = [point.confusions[places] for point, places in zip(points, order, strict=True)]
    promised = extrapolation(confusions, sizes, 2 * sizes[-1], units=whole.units)
    found = [scores(each, units=whole.units).miou for each in confusions]
    content = _content(found, sizes, promised)
    write_text(run / CURVE, json.dumps(content, indent=2) + "\n")
    write_report(run)
    return content


def _labelled(run: Path, folds: int) -> float:
    """Masks that a fold learned from, on average."""
    each = [json.loads((run / f"fold_{k}" / "result.json").read_text())["labelled"] for k in range(1, folds + 1)]
    return sum(each) / folds


def _content(found: list[Interval], sizes: list[float], promised: Interval) -> dict[str, Any]:
    lines = [f"learned from {round(size, 1):g} masks: {iou.rounded}" for size, iou in zip(sizes, found, strict=True)]
    double = f"{promised.value:.0f} [{promised.low:.0f}, {promised.high:.0f}]"
    lines.append(f"from {round(2 * sizes[-1], 1):g}, if it goes on like this: {double}")
    return {
        "points": [{"learned_from": size} | iou.to_json() for size, iou in zip(sizes, found, strict=True)],
        "double": {"learned_from": 2 * sizes[-1]} | promised.to_json() | {"told": lines[-1]},
        "told": lines,
    }
