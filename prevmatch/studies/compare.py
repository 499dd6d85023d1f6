"""Putting finished runs side by side: one table of their scores, and pictures of what each model sees."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from PIL import Image

from prevmatch.config import TrainConfig, material
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError, DataError
from prevmatch.intervals import FEWEST, answer
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.run.results import settings_of
from prevmatch.share.pictures import colour_mask, grid, legend, stacked
from prevmatch.studies.gain import gain

ROWS_PER_SHEET = 4
TABLE = "TABLE.md"
KINDS = {
    "best_miou": float | int, "final_miou": float | int, "best_epoch": int, "class_iou": dict, "labelled": int,
    "unlabelled": int, "validation": int, "seconds_per_iteration": float | int,
}  # fmt: skip
"""What result.json has to hold."""


def compare(runs: Sequence[Path], output_dir: Path, *, count: int = 12, overwrite: bool = False) -> str:
    """Write TABLE.md and side-by-side pictures of `count` validation images to output_dir; returns the table.

    The runs must be finished and of one data set; those that differ in their seed alone count as one method. Raises
    DataError where one has no result.json, ConfigError if a file would be replaced that this function did not write
    and `overwrite` does not say so.
    """
    if not runs:
        raise DataError("no run is named; give the output folders of finished runs")
    runs = list({run.resolve(): run for run in runs}.values())  # a run that is named twice is one
    results = [_read_result(run) for run in runs]
    kinds = {(r["config"]["dataset"], tuple(r["class_iou"])) for r in results}
    if len(kinds) > 1:
        raise DataError("the runs are of different data sets; compare runs of one")
    names = _names(runs, results)
    table = score_table(results, names)
    own = OwnFiles(output_dir, overwrite=overwrite)
    sheets = [output_dir / f"side_by_side_{number + 1}.png" for number in range(-(-count // ROWS_PER_SHEET))]
    own.require([output_dir / TABLE, *sheets])
    config = TrainConfig.from_json(results[0]["config"])
    data = load_training_data(config)
    shown = [group[0] for group in _by_settings(results)]
    models = [Segmenter.from_pretrained(runs[number] / "best") for number in shown]
    captions = ["image", "truth", *(names[number] for number in shown)]
    chosen = np.linspace(0, len(data.val) - 1, min(count, len(data.val))).round().astype(int)
    rows = [_row(data, int(index), models, config.image_size) for index in chosen]
    for path, start in zip(sheets, range(0, len(rows), ROWS_PER_SHEET), strict=False):  # fewer images than asked for
        sheet = grid(rows[start : start + ROWS_PER_SHEET], captions)
        classes = legend(data.source.class_names, data.source.palette, width=sheet.width)
        file = io.BytesIO()
        stacked(sheet, classes).save(file, "PNG")
        own.write(path, file.getvalue())
    table = "\n".join([table, *_answers(runs, results)])
    own.write(output_dir / TABLE, f"{table}\n".encode())
    return table


def _by_settings(results: Sequence[dict]) -> list[list[int]]:
    """The places of the runs that differ in their seed alone, in the order of the seeds."""
    groups = dict[str, list[int]]()
    for place, result in enumerate(results):
        settings = material(result["config"]) | {"seed": None}
        if result["config"].get("fold") == 0:
            settings["epochs"] = None  # for the final model, as many as its folds found sensible
        groups.setdefault(json.dumps([settings, result["labelled"], result["unlabelled"]], sort_keys=True), []).append(
            place
        )
    return [sorted(group, key=lambda place: results[place]["config"]["seed"]) for group in groups.values()]


def _answers(runs: Sequence[Path], results: Sequence[dict]) -> list[str]:
    """Whether the first run, with those of its other seeds, is better than the others, where all keep what they were
    scored on; with intervals."""
    names = _names(runs, results)
    lines = ["", *(f"{name}: {r['told']}" for name, r in zip(names, results, strict=True) if r.get("told"))]
    first, *groups = _by_settings(results)
    for group in groups:
        pairs = _of_equal_seeds(first, group, results)
        count, question = len(pairs[0]), f"is {names[first[0]]} better than {names[group[0]]}"
        sure = settings_of(runs[first[0]]).fold == 0 or count >= FEWEST
        try:
            difference = gain(*([runs[place] for place in side] for side in pairs))
        except DataError as error:  # runs of other images, or of an earlier version
            lines.append(f"{question}? cannot be told: {error}")
            continue
        found = answer(difference, other=results[group[0]]["config"]["method"] if sure else None)
        if sure:
            lines.append(f"{question}{f' over {count} seeds' if count > 1 else ''}? {found}")
        else:  # over images alone the interval knows nothing of another training
            trained = "one training" if count == 1 else f"{count} trainings"
            lines.append(f"{question}? of these networks: {found}; of the methods: cannot be told from {trained} each")
    return lines if len(lines) > 1 else []


def _of_equal_seeds(
    first: Sequence[int], second: Sequence[int], results: Sequence[dict]
) -> tuple[list[int], list[int]]:
    """The runs of both sides whose seeds are on both, or the first of each where none is."""
    places = [{results[place]["config"]["seed"]: place for place in side} for side in (first, second)]
    common = [seed for seed in places[0] if seed in places[1]]
    if not common:
        return [first[0]], [second[0]]
    return [places[0][seed] for seed in common], [places[1][seed] for seed in common]


def score_table(results: Sequence[dict], names: Sequence[str]) -> str:
    """A Markdown table of the runs' scores, from the contents of their result.json; those that differ in their seed
    alone have a line with their mean, and deviation, below them."""
    images = {_images(result) for result in results}
    lines = [
        f"mIoU in % on {images.pop() if len(images) == 1 else 'different images, so rows do not compare'}",
        "",
        "| method     | labelled | unlabelled |   seed |  best mIoU | at epoch | final mIoU | s / iteration |",
        "|------------|---------:|-----------:|-------:|-----------:|---------:|-----------:|--------------:|",
    ]
    for group in _by_settings(results):
        for place in group:
            r = results[place]
            lines.append(
                f"| {names[place]:<10} | {r['labelled']:>8} | {r['unlabelled']:>10} | {r['config']['seed']:>6} | "
                f"{r['best_miou']:>10.2f} | {r['best_epoch'] + 1:>8} | {r['final_miou']:>10.2f} | "
                f"{r['seconds_per_iteration']:>13.3f} |"
            )
        if len(group) > 1:
            best, final = (_spread([results[p][score] for p in group]) for score in ("best_miou", "final_miou"))
            blanks = [" " * width for width in (8, 10, 8, 13)]
            lines.append("| {:<10} | {} | {} |   mean | {:>10} | {} | {:>10} | {} |".format(
                names[group[0]], *blanks[:2], best, blanks[2], final, blanks[3]
            ))  # fmt: skip
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def _row(data: TrainingData, index: int, models: Sequence[Segmenter], image_size: int | None) -> list[Image.Image]:
    image, mask = read_pair(data.val[index], data.source, image_size)
    truth = np.array(mask)
    predictions = [model.predict(image) for model in models]
    palette = data.source.palette
    return [image, colour_mask(truth, palette), *(colour_mask(ids, palette) for ids in predictions)]


def _read_result(run: Path) -> dict:
    try:
        result = json.loads((run / "result.json").read_text())
        TrainConfig.from_json(result["config"])
        wrong = [name for name, kind in KINDS.items() if not isinstance(result[name], kind)]
        if wrong or not (result["validation"] or isinstance(result["interval"], dict)):
            raise ValueError(f"{(*wrong, 'interval')[0]} is of the wrong kind")
        return result
    except ConfigError as error:
        raise DataError(f"{run / 'result.json'} has {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run} has no readable result.json ({error}); it is no finished run") from error


def _images(result: dict) -> str:
    """What a run was scored on."""
    if result["validation"]:
        return f"{result['validation']} validation images"
    return f"{result['interval']['masks']} images, each scored by a network that never saw it"


def _names(runs: Sequence[Path], results: Sequence[dict]) -> list[str]:
    """The runs' methods, with the name of the folder where another setting of one method is compared too."""
    methods = [
        r["config"]["method"] + "+prev" * (r["config"]["previous_guidance"] and r["config"]["method"] != "prevmatch")
        for r in results
    ]
    groups = _by_settings(results)
    of_group = [methods[group[0]] for group in groups]
    return [
        f"{method} ({run.name})" if of_group.count(method) > 1 else method
        for run, method in zip(runs, methods, strict=True)
    ]
