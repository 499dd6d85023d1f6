"""The report of a run: its curves, and one HTML page that holds everything and needs no other file."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from PIL import Image

from prevmatch.errors import DataError
from prevmatch.printable import printable
from prevmatch.share.curves import draw_curves, read_metrics
from prevmatch.share.pages import inline, render
from prevmatch.writing import write_text

MOST_PANELS = 4
STUDY, CURVE, SUSPICIOUS = "study.json", "curve.json", "suspicious.png"
"""What studies of own data leave in the run's folder."""
SUSPECTS, DOUBTED = 10, 1.0
"""At most so many masks are shown, if so many % of their pixels are contradicted."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the files of a run say; scores in %, None where the run has not come to them."""

    folder: Path
    settings: dict[str, Any]
    result: dict[str, Any]
    """result.json; empty while the run is not finished."""
    study: dict[str, Any] = field(default_factory=dict)
    """study.json: what the run says besides its scores; empty where there is none."""
    curve: dict[str, Any] = field(default_factory=dict)
    """curve.json: what more masks would bring; empty where it was not asked for."""
    class_names: tuple[str, ...] = ()
    epochs_done: int = 0
    best_miou: float | None = None
    best_epoch: int | None = None
    """Counted from 1."""
    final_miou: float | None = None
    class_iou: dict[str, float | None] = field(default_factory=dict)
    """At the best epoch; None for a class that does not count."""

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.result)


@contextmanager
def told_by_files(folder: Path) -> Iterator[None]:
    """Raise DataError instead of what comes of values of the wrong kind in the files of a run."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, TemplateError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise DataError(
            f"a file of {folder} (result.json, study.json or curve.json) has a value of the wrong kind "
            f"({type(error).__name__}: {reason}); restore it, or train with --overwrite_output_dir"
        ) from error


def read_run(folder: Path) -> Run:
    """Gather what a finished or interrupted run left in its folder; raises DataError if it is none."""
    with told_by_files(folder):
        return _gathered(folder)


def _gathered(folder: Path) -> Run:
    settings = read_json(folder / "config.json")
    if "method" not in settings:
        raise DataError(f"{folder} holds no run (no config.json with training settings); name a run's output folder")
    result = read_json(folder / "result.json")
    names = tuple(result.get("class_iou", ())) or class_names(read_json(folder / "best" / "config.json"))
    study, curve = read_json(folder / STUDY), read_json(folder / CURVE)
    run = Run(folder=folder, settings=settings, result=result, study=study, curve=curve, class_names=names)
    if run.finished:
        return replace(
            run,
            epochs_done=settings["epochs"],
            best_miou=result["best_miou"],
            best_epoch=result["best_epoch"] + 1,
            final_miou=result["final_miou"],
            class_iou=result["class_iou"],
        )
    _, epochs = read_metrics(folder / "metrics.jsonl")
    scored = [(line["epoch"] + 1, line["miou"], line["iou"]) for line in epochs if {"miou", "iou"} <= line.keys()]
    if not scored:
        return run
    epoch, miou, iou = max(scored, key=lambda score: score[1])
    names = names or tuple(f"class {i}" for i in range(len(iou)))
    return replace(
        run,
        epochs_done=scored[-1][0],
        best_miou=miou,
        best_epoch=epoch,
        final_miou=scored[-1][1],
        class_iou=dict(zip(names, iou, strict=False)),
    )


def class_names(model_config: dict) -> tuple[str, ...]:
    """The class names in a model folder's config.json, in the order of the ids; none if it has none."""
    if model_config.get("class_names"):
        return tuple(model_config["class_names"])
    labels = model_config.get("id2label") or {}
    return tuple(labels[key] for key in sorted(labels, key=int))


def write_report(folder: Path) -> Path:
    """Draw the curves of the run in `folder` and write folder/report.html; returns its path.

    Works for interrupted runs, too. Raises DataError if the folder holds no run.
    """
    run = read_run(folder)
    with told_by_files(folder):
        page = _page(run)
    path = folder / "report.html"
    write_text(path, page)
    return path


def _page(run: Run) -> str:
    folder = run.folder
    panels = sorted((folder / "panels").glob("epoch_*.png"))
    places = np.unique(np.linspace(0, len(panels) - 1, min(MOST_PANELS, len(panels))).round().astype(int))
    return render(
        "report.html",
        run=run,
        facts=facts(run),
        settings={name: _shown(value) for name, value in run.settings.items()},
        curves=[(path.stem, inline(path.read_bytes(), "png")) for path in draw_curves(folder, run.class_names)],
        panels=[(f"after epoch {int(panels[i].stem[6:])}", smaller(panels[i])) for i in places],
        panel_count=len(panels),
        suspects=[row for row in run.study.get("suspicious", []) if row["contradicted"] >= DOUBTED][:SUSPECTS],
        suspicious=smaller(folder / SUSPICIOUS) if (folder / SUSPICIOUS).is_file() else None,
    )


def facts(run: Run) -> dict[str, str]:
    """What a reader wants to know first, by name."""
    settings, result = run.settings, run.result
    data = settings.get("dataset_name") or settings.get("dataset") or "handed to train()"
    chosen = f"{settings['labelled']}, split_seed {settings['split_seed']}" if settings.get("labelled") else (
        f"split {settings['split']}" if settings.get("split") else "every image with a mask"
    )  # fmt: skip
    shown = {
        "data": data,
        "labelled images": chosen + (f" ({result['labelled']} images)" if result else ""),
        "method": settings["method"] + (" with previous guidance" if settings.get("previous_guidance") else ""),
        "encoder": settings["encoder"] + (", frozen" if settings.get("freeze_encoder") else ""),
        "seed": str(settings["seed"]),
    }
    if result:
        environment, of_folds = result["environment"], settings.get("fold") == 0
        precision = {"no": "fp32"}.get(environment["mixed_precision"], environment["mixed_precision"])
        shown |= {
            "unlabelled images": f"{result['unlabelled']}",
            **(
                {"masks scored": f"{result['interval']['masks']}, in {settings['folds']} folds"}
                if of_folds
                else {"validation images": f"{result['validation']}"}
            ),
            "training time": duration(result["seconds"]) + f", {result['seconds_per_iteration']:.3f} s per iteration",
            "machine": f"{environment['processes']} × {environment['device']}, {precision}",
            "code": " ".join(filter(None, (f"prevmatch {environment['prevmatch']}", environment["commit"]))),
        }
    return shown


def duration(seconds: float) -> str:
    """A time for people: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def smaller(path: Path) -> str:
    """A picture file as data URI, stored anew as WebP."""
    file = io.BytesIO()
    Image.open(path).save(file, "WEBP", quality=85)
    return inline(file.getvalue(), "webp")


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def read_json(path: Path) -> dict:
    """The object in a file; empty where it is missing or torn."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
