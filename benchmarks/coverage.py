"""How often the interval that --folds prints holds the truth, on procedural scenes, of which there is no end.

    python benchmarks/coverage.py --output_dir results/coverage

Each redraw draws 20 new scenes with their masks, runs the folds and the final model on them as `--folds 5` does, and
scores all six networks on the same 1,000 scenes that no redraw learns from. Two truths are looked for in the interval:
what the fold networks come to on the fresh scenes, their matrices added as those of the masks are, which is what the
interval is about, and what the final model comes to, which it knows nothing of. A third count leaves out the luck of
what was learned from: fresh scenes are dealt to the same fold networks many times. What a redraw found is a file, so
that the command goes on where it was interrupted; the summary is COVERAGE.md.
"""

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from prevmatch.config import TrainConfig
from prevmatch.data.shapes import CLASSES, draw_scene
from prevmatch.intervals import LEVEL, pooled_miou, scores
from prevmatch.metrics import confusion_matrix
from prevmatch.models.segmenter import Segmenter
from prevmatch.studies.folds import pool, run_all

FRESH_SEED, REDRAW_SEED = 90_000, 91_000
"""Scenes are drawn from (seed, number), apart from those of the data set `shapes`."""
BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What to measure."""

    output_dir: Path = Path("results/coverage")
    """Where the files of the redraws and COVERAGE.md go."""
    redraws: int = 30
    """How often masks are drawn anew."""
    masks: int = 20
    """Scenes with a mask in a redraw."""
    folds: int = 5
    """Folds of a redraw."""
    steps: int = 120
    """Optimiser steps of each training."""
    fresh: int = 1000
    """Scenes that the truth is measured on."""
    dealings: int = 40
    """How often fresh scenes are dealt to the fold networks of a redraw."""


def settings(run: Path, data: Path, what: Coverage, seed: int) -> TrainConfig:
    """A smaller network than that of `recipes/shapes.py`, on labels only and for a short time: what is tested is the
    interval, which is of whatever networks there are."""
    return TrainConfig(
        dataset="custom", data_dir=data, folds=what.folds, allow_absent_classes=True, method="supervised",
        crop_size=49, scale_range=(0.8, 1.25), encoder="test_resnet", encoder_weights="none", decoder_channels=16,
        low_level_channels=8, atrous_rates=(1, 2, 3), batch_size=4, optimizer="adamw", lr=3e-3,
        decoder_lr_multiplier=1.0, epochs=1, epoch_images=4 * what.steps, num_workers=0, panel_every=0, seed=seed,
        split_seed=seed, output_dir=run,
    )  # fmt: skip


def write_scenes(folder: Path, seed: int, count: int) -> None:
    """Write `count` scenes and masks as own data."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for i in range(count):
        image, mask = draw_scene(np.random.default_rng((seed, i)))
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")


def fresh_scenes(count: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (count, 3, H, W) and masks uint8 (count, H, W)."""
    images, masks = zip(*(draw_scene(np.random.default_rng((FRESH_SEED, i))) for i in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(np.stack(masks))


@torch.no_grad()
def confusions_of(model: Path, images: Tensor, masks: Tensor) -> np.ndarray:
    """What a finished model says of each scene: int64 (N, C, C), rows true."""
    network, each = Segmenter.from_pretrained(model), []
    for pixels, truth in zip(images.split(BATCH), masks.split(BATCH), strict=True):
        said = network(network.normalize(pixels)).argmax(1)
        each += [confusion_matrix(*pair, len(CLASSES)).numpy() for pair in zip(said, truth, strict=True)]
    return np.stack(each)


def held(each: np.ndarray, fold: np.ndarray, dealings: int, seed: int) -> int:
    """In how many of `dealings` the interval of fresh scenes holds what the fold networks come to on all of them.

    each: int64 (K, N, C, C), of each fold's network; fold: int (M), from 1 on, how many scenes each is dealt.
    """
    truth, rng, found = _pooled(each.sum(1), fold), np.random.default_rng((seed, 23)), 0
    for _ in range(dealings):
        dealt = rng.choice(each.shape[1], len(fold), replace=False)
        interval = scores(each[fold - 1, dealt]).miou
        found += interval.low <= truth <= interval.high
    return found


def redraw(number: int, what: Coverage, fresh: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Train on masks that were drawn anew: what was said of each of them and of the fresh scenes, as JSON values."""
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        write_scenes(data, REDRAW_SEED + number, what.masks)
        log = what.output_dir / "log.txt"
        with log.open("a") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run_all(settings(run, data, what, number), time.monotonic())
        validation, fold = pool(run, what.folds)
        models = [*(run / f"fold_{k}" for k in range(1, what.folds + 1)), run]
        each = np.stack([confusions_of(model / "best", *fresh) for model in models])
        return {
            "fold": fold.tolist(),
            "confusions": validation.confusions.tolist(),
            "fresh": each.sum(1).tolist(),
            "dealings": what.dealings,
            "held": held(each[:-1], fold, what.dealings, number),
        }


def row_of(found: dict[str, Any]) -> dict[str, float]:
    """The interval of a redraw and the two truths, mIoU in %; and in how many dealings the interval held."""
    interval = scores(np.array(found["confusions"])).miou
    fresh = np.array(found["fresh"])
    return {
        "value": interval.value, "low": interval.low, "high": interval.high,
        "fold_networks": _pooled(fresh[:-1], np.array(found["fold"])), "final_model": pooled_miou(fresh[-1:]),
        "dealings": found.get("dealings", 0), "held": found.get("held", 0),
    }  # fmt: skip


def summary(rows: list[dict[str, float]]) -> str:
    """A Markdown table of all redraws and, above it, how often which truth lay in the interval."""
    lines = []
    for truth in ("fold_networks", "final_model"):
        below = sum(row[truth] < row["low"] for row in rows)
        above = sum(row[truth] > row["high"] for row in rows)
        bias = np.mean([row["value"] - row[truth] for row in rows])
        lines.append(
            f"* {truth.replace('_', ' ')}: in the {100 * LEVEL:.0f} % interval {len(rows) - below - above} of "
            f"{len(rows)} times, {below} times below, {above} times above; the pooled number is {bias:+.1f} off on "
            "average"
        )
    if dealings := sum(row["dealings"] for row in rows):
        share = 100 * sum(row["held"] for row in rows) / dealings
        lines.append(f"* fresh scenes dealt to the same fold networks: in {share:.1f} % of {dealings:.0f} intervals")
    half = np.mean([(row["high"] - row["low"]) / 2 for row in rows])
    off = np.std([row["value"] - row["fold_networks"] for row in rows])
    lines.append(f"* half an interval is {half:.1f} on average; the pooled number is off by {off:.1f} (deviation)")
    lines += ["", "| redraw | pooled | interval | fold networks | final model |", "|---:|---:|---:|---:|---:|"]
    for number, row in enumerate(rows):
        shown = f"[{row['low']:.1f}, {row['high']:.1f}]"
        lines.append(
            f"| {number} | {row['value']:.1f} | {shown} | {row['fold_networks']:.1f} | {row['final_model']:.1f} |"
        )
    return "\n".join(lines)


def main(what: tyro.conf.OmitArgPrefixes[Coverage]) -> None:
    """Measure what is missing, then sum up."""
    what.output_dir.mkdir(parents=True, exist_ok=True)
    fresh = fresh_scenes(what.fresh)
    rows = []
    for number in tqdm(range(what.redraws), desc="redraws"):
        path = what.output_dir / f"redraw_{number:02d}.json"
        if not path.is_file():
            path.write_text(json.dumps(redraw(number, what, fresh)) + "\n")
        rows.append(row_of(json.loads(path.read_text())))
    text = summary(rows)
    (what.output_dir / "COVERAGE.md").write_text(text + "\n")
    print(text)


def _pooled(totals: np.ndarray, fold: np.ndarray) -> float:
    """The mean IoU in % of the fold networks' matrices int64 (K, C, C), each as often as its fold has masks."""
    return pooled_miou(totals * np.bincount(fold)[1:, None, None])


if __name__ == "__main__":
    main(tyro.cli(Coverage, use_underscores=True))
