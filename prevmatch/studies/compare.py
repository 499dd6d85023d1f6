"""Putting finished runs side by side: one table of their scores, and pictures of what each model sees."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.config import TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.data.sources import TrainingData
from prevmatch.errors import DataError
from prevmatch.intervals import answer
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.share.pictures import colour_mask, grid, legend, stacked
from prevmatch.studies.gain import gain, settings_of

ROWS_PER_SHEET = 4
TABLE = "TABLE.md"


def compare(runs: Sequence[Path], output_dir: Path, *, count: int = 12, overwrite: bool = False) -> str:
    """Write TABLE.md and side-by-side pictures of `count` validation images to output_dir; returns the table.

    The runs must be finished and of one data set. Raises DataError where one has no result.json, ConfigError if a file
    would be replaced that this function did not write and `overwrite` does not say so.
    """
    if not runs:
        raise DataError("no run is named; give the output folders of finished runs")
    results = [_read_result(run) for run in runs]
    kinds = {(r["config"]["dataset"], tuple(r["class_iou"])) for r in results}
    if len(kinds) > 1:
        raise DataError("the runs are of different data sets; compare runs of one")
    table = score_table(results)
    own = OwnFiles(output_dir, overwrite=overwrite)
    sheets = [output_dir / f"side_by_side_{number + 1}.png" for number in range(-(-count // ROWS_PER_SHEET))]
    own.require([output_dir / TABLE, *sheets])
    config = TrainConfig.from_json(results[0]["config"])
    data = load_training_data(config)
    models = [Segmenter.from_pretrained(run / "best") for run in runs]
    captions = ["image", "truth", *(_name(result) for result in results)]
    chosen = np.linspace(0, len(data.val) - 1, min(count, len(data.val))).round().astype(int)
    rows = [_row(data, int(index), models, config.image_size) for index in chosen]
    for path, start in zip(sheets, range(0, len(rows), ROWS_PER_SHEET), strict=False):  # fewer images than asked for
        sheet = grid(rows[start : start + ROWS_PER_SHEET], captions)
        names = legend(data.source.class_names, data.source.palette, width=sheet.width)
        file = io.BytesIO()
        stacked(sheet, names).save(file, "PNG")
        own.write(path, file.getvalue())
    table = "\n".join([table, *_answers(runs, results)])
    own.write(output_dir / TABLE, f"{table}\n".encode())
    return table


def _answers(runs: Sequence[Path], results: Sequence[dict]) -> list[str]:
    """Whether the first run is better than each other one, with an interval, where both keep what they were scored
    on."""
    lines = ["", *(f"{_name(result)}: {result['told']}" for result in results if result.get("told"))]
    for run, result in zip(runs[1:], results[1:], strict=True):
        try:
            found = answer(gain(runs[0], run), other=_name(result))
        except DataError:  # runs of other images, or of an earlier version
            continue
        once = "" if settings_of(runs[0]).folds else "; one training each, so another seed may say otherwise"
        lines.append(f"is {_name(results[0])} better than {_name(result)}? {found}{once}")
    return lines if len(lines) > 1 else []


def score_table(results: Sequence[dict]) -> str:
    """A Markdown table of the runs' scores, from the contents of their result.json."""
    lines = [
        f"mIoU in % on {_images(results[0])}",
        "",
        "| method     | labelled | unlabelled | seed | best mIoU | at epoch | final mIoU | s / iteration |",
        "|------------|---------:|-----------:|-----:|----------:|---------:|-----------:|--------------:|",
    ]
    for r in results:
        lines.append(
            f"| {_name(r):<10} | {r['labelled']:>8} | {r['unlabelled']:>10} | {r['config']['seed']:>4} | "
            f"{r['best_miou']:>9.2f} | {r['best_epoch'] + 1:>8} | {r['final_miou']:>10.2f} | "
            f"{r['seconds_per_iteration']:>13.3f} |"
        )
    return "\n".join(lines)


def _row(data: TrainingData, index: int, models: Sequence[Segmenter], image_size: int | None) -> list[Image.Image]:
    image, mask = read_pair(data.val[index], data.source, image_size)
    truth = np.array(mask)
    predictions = [model.predict(image) for model in models]
    palette = data.source.palette
    return [image, colour_mask(truth, palette), *(colour_mask(ids, palette) for ids in predictions)]


def _read_result(run: Path) -> dict:
    try:
        return json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{run} has no readable result.json; it is no finished run") from error


def _images(result: dict) -> str:
    """What a run was scored on."""
    if result["validation"]:
        return f"{result['validation']} validation images"
    return f"{result['interval']['masks']} images, each scored by a network that never saw it"


def _name(result: dict) -> str:
    extra = result["config"]["previous_guidance"] and result["config"]["method"] != "prevmatch"
    return result["config"]["method"] + ("+prev" if extra else "")
