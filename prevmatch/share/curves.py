"""Curves of a run, drawn from its metrics.jsonl: whatever is there, be the run finished, interrupted or torn."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 300
MOST_LINES = 12
PER_EPOCH = ("miou", "class_iou", "bank", "bank_ages")
CLASS_TITLE = "IoU of each class, %"
Points = list[tuple[float, float]]
COLOURS = ("#1f77b4", "#d95f02", "#2a9d4a", "#c51b7d", "#7b5fb5", "#8c6d31", "#17a2b8", "#666666")


def read_metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """The lines of metrics.jsonl about steps and about epochs; none if the file is missing.

    Lines that are torn or no JSON objects are left out. Where a later line goes back to an earlier step, the run was
    continued from there, and what followed that step is forgotten.
    """
    steps: list[dict] = []
    epochs: list[dict] = []
    text = path.read_text(errors="replace") if path.is_file() else ""
    for raw in text.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if not isinstance(line, dict) or not _is_number(line.get("step")):
            continue
        for kept in (steps, epochs):
            while kept and kept[-1]["step"] > line["step"]:
                kept.pop()
        if "epoch" not in line:
            steps.append(line)
        else:
            if epochs and epochs[-1]["step"] == line["step"]:  # an epoch that was evaluated again
                epochs.pop()
            epochs.append(line)
    return steps, epochs


def series(lines: Sequence[dict], name: str, x: str = "step") -> Points:
    """The pairs (x, value) of every line that has both as finite numbers."""
    return [(line[x], line[name]) for line in lines if _is_number(line.get(x)) and _is_number(line.get(name))]


def thinned(points: Points, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, mean, smallest and largest value of at most `most` runs of neighbouring points, float64 each."""
    groups = np.array_split(np.array(points, dtype=float), min(most, len(points)))
    x, mean = (np.array([group[:, i].mean() for group in groups]) for i in (0, 1))
    low, high = (np.array([pick(group[:, 1]) for group in groups]) for pick in (np.min, np.max))
    return x, mean, low, high


def draw_curves(run: Path, class_names: Sequence[str] = ()) -> list[Path]:
    """Write run/curves/*.png, one for each kind of number that metrics.jsonl has; returns them in reading order."""
    steps, epochs = read_metrics(run / "metrics.jsonl")
    named = sorted({name for line in steps for name in line})
    losses = ["loss", "supervised", *(n for n in named if "/" in n and not n.endswith("/mask_ratio"))]
    ratios = [name for name in named if name.endswith("/mask_ratio")]
    epochs = [line | {"epoch": line["epoch"] + 1} for line in epochs if _is_number(line["epoch"])]
    drawn: list[Path | None] = [
        _lines(run, "miou", "mIoU on the validation images, %",
               {"best so far": series(epochs, "best_miou", "epoch"), "each epoch": series(epochs, "miou", "epoch")}),
        _class_curves(run, epochs, class_names),
        _lines(run, "loss", "loss terms", {name: series(steps, name) for name in losses}),
        _lines(run, "mask_ratio", "share of pixels whose pseudo-label counts",
               {name.removesuffix("/mask_ratio"): series(steps, name) for name in ratios}, limits=(0, 1)),
        _lines(run, "grad_norm", "norm of the gradient", {"grad_norm": series(steps, "grad_norm")}),
        _lines(run, "bank", "bank: number of earlier versions", {"versions": series(epochs, "bank", "epoch")}),
        _ages(run, epochs),
        _lines(run, "lr", "learning rate of the encoder", {"lr": series(steps, "lr")}),
    ]  # fmt: skip
    return [path for path in drawn if path is not None]


def _lines(
    run: Path, name: str, title: str, curves: dict[str, Points], *,
    limits: tuple[float, float] | None = None, height: float = 3.4,
) -> Path | None:  # fmt: skip
    """Curves over epochs or steps in one picture; where many points became one, a band shows their range."""
    curves = {label: points for label, points in curves.items() if points}
    if not any(any(y for _, y in points) for points in curves.values()):
        return None

    def draw(axes: "Axes") -> None:
        for (label, points), (style, colour) in zip(curves.items(), _looks(), strict=False):
            x, mean, low, high = thinned(points)
            marker = "o" if len(points) <= 30 else ""
            axes.plot(x, mean, style, color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.6)
            if len(x) < len(points):
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("epoch" if name in PER_EPOCH else "optimiser step")
        if limits:
            axes.set_ylim(*limits)
        if len(curves) > 1:
            _legend(axes, len(curves))

    return _picture(run / "curves" / f"{name}.png", title, draw, height=height)


def _class_curves(run: Path, epochs: list[dict], class_names: Sequence[str]) -> Path | None:
    """IoU of each class over the epochs: lines, or beyond a dozen classes rows of colour."""
    rows = [(line["epoch"], line["iou"]) for line in epochs if isinstance(line.get("iou"), list) and line["iou"]]
    rows = [row for row in rows if len(row[1]) == len(rows[-1][1]) and all(x is None or _is_number(x) for x in row[1])]
    if not rows:
        return None
    values = np.array([iou for _, iou in rows], dtype=float).T  # NaN, of a class that does not count, is not drawn
    names = class_names if len(class_names) == len(values) else [f"class {i}" for i in range(len(values))]
    at = [epoch for epoch, _ in rows]
    if len(values) <= MOST_LINES:
        curves = {
            _short(name): list(zip(at, row.tolist(), strict=True))
            for name, row in zip(names, values, strict=True)
            if not np.isnan(row).any()
        }
        return _lines(run, "class_iou", CLASS_TITLE, curves, limits=(0, 100), height=4.2)

    def draw(axes: "Axes") -> None:
        picked = np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST_POINTS)).round().astype(int))
        image = axes.imshow(
            values[:, picked], aspect="auto", cmap="viridis", vmin=0, vmax=100, interpolation="nearest"
        )
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7)
        ticks = np.unique(np.linspace(0, len(picked) - 1, min(len(picked), 6)).round().astype(int))
        axes.set_xticks(ticks, [f"{at[picked[tick]]:g}" for tick in ticks])
        axes.set_xlabel("epoch")
        axes.grid(False)
        axes.figure.colorbar(image, ax=axes, label="IoU, %", fraction=0.05, aspect=40)

    height = 1.2 + 0.15 * len(values)
    return _picture(run / "curves" / "class_iou.png", CLASS_TITLE, draw, height=height)


def _ages(run: Path, epochs: list[dict]) -> Path | None:
    """Age in epochs of every version in the bank, where the lines tell (`bank_ages`: one number per version)."""
    lines = [line for line in epochs if isinstance(line.get("bank_ages"), list)]
    dots = [(line["epoch"], age) for line in lines for age in line["bank_ages"] if _is_number(age)]
    if not dots:
        return None

    def draw(axes: "Axes") -> None:
        axes.scatter([epoch for epoch, _ in dots], [age for _, age in dots], s=12, color=COLOURS[0], clip_on=False)
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)

    return _picture(run / "curves" / "bank_ages.png", "bank: ages of the earlier versions, epochs", draw)


def _picture(path: Path, title: str, draw: Callable[["Axes"], None], *, height: float = 3.4) -> Path:
    """Draw on axes of 5 × `height` inches and write them to `path` as PNG; large enough to read on a phone."""
    # only now, and without pyplot: no window system, no global state
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(5, height), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    draw(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png")
    aside.replace(path)
    return path


def _legend(axes: "Axes", count: int) -> None:
    """Below the picture, where it hides no line."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=min(3, count), fontsize=8, frameon=False)


def _looks() -> Any:
    """Endless line styles and colours, no pair twice among the first two dozen."""
    return cycle((style, colour) for style in ("-", "--", ":") for colour in COLOURS)


def _short(name: str, most: int = 22) -> str:
    """A label that matplotlib takes as it is: it would hide `_name` and read what lies between dollars as formula."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return " " + short.replace("$", r"\$")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
