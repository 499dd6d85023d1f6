"""Whether the photos that `prevmatch suggest` names are better to label next than photos drawn at random.

    python benchmarks/suggesting.py --data_dir CamVid --output_dir results/suggesting

For each seed: some photos are labelled at random; folds are trained on their masks, and `suggest` names more of the
others. Two networks are then trained on the labels alone, one with the masks of the suggested photos added, one with
as many of photos drawn at random, and scored on the data set's validation images. It goes on where it was interrupted.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from own_folders import Folder, Sizes, class_count, lay_out, read_folder, settings

from prevmatch.intervals import answer
from prevmatch.loop import train
from prevmatch.studies.gain import gain
from prevmatch.studies.study import study
from prevmatch.studies.suggest import suggest


@dataclass(frozen=True, kw_only=True)
class Suggesting(Sizes):
    """What to measure."""

    output_dir: Path = Path("results/suggesting")
    """Where runs and SUGGESTING.md go."""
    labelled: int = 12
    """Masks at first."""
    count: int = 10
    """Masks that are added."""
    folds: int = 3
    """Folds of the study that suggests."""
    study_steps: int = 300
    """Steps of each of its trainings."""
    steps: int = 700
    """Steps of the trainings that are compared."""
    seeds: int = 3
    """Draws of the first masks."""


def measure(what: Suggesting, train_part: Folder, val_part: Folder, seed: int) -> dict[str, str | float]:
    """Train what one seed asks for; the scores of both, and whether the difference means anything, in a sentence."""
    place, classes = what.output_dir / f"seed_{seed}", class_count(val_part)
    rng = np.random.default_rng((seed, 21))
    order = [train_part.names[i] for i in rng.permutation(len(train_part.names))]
    first, others = order[: what.labelled], order[what.labelled :]
    named = place / "suggested.json"
    if not named.is_file():
        shutil.rmtree(place / "first", ignore_errors=True)
        lay_out(place / "first", train_part, first, classes=classes)
        study(settings(what, place / "first", place / "study", steps=what.study_steps, seed=seed, folds=what.folds))
        found = suggest(place / "study", place / "suggestions", count=what.count)
        named.write_text(json.dumps([row["image"] for row in found]))
    added = {"suggested": json.loads(named.read_text()), "random": others[: what.count]}
    for name, more in added.items():
        if not (place / name / "result.json").is_file():
            data = place / f"{name}_data"
            shutil.rmtree(data, ignore_errors=True)
            lay_out(data, train_part, [*first, *more], classes=classes, val=val_part, bare=False)
            train(settings(what, data, place / name, steps=what.steps, seed=seed))
    scores = {name: json.loads((place / name / "result.json").read_text())["final_miou"] for name in added}
    better = gain([place / "suggested"], [place / "random"])
    return {"seed": seed, **scores, "answer": answer(better, other="random")}


def summary(rows: list[dict[str, str | float]]) -> str:
    """A Markdown table, and the mean difference."""
    lines = ["| seed | suggested | random | are the suggested better? |", "|---:|---:|---:|---|"]
    lines += [f"| {r['seed']} | {r['suggested']:.1f} | {r['random']:.1f} | {r['answer']} |" for r in rows]
    mean = np.mean([float(r["suggested"]) - float(r["random"]) for r in rows])
    return "\n".join([*lines, "", f"suggested − random: {mean:+.1f} mIoU on average over {len(rows)} seeds"])


def main(what: tyro.conf.OmitArgPrefixes[Suggesting]) -> None:
    """Measure what is missing, then sum up."""
    train_part, val_part = (read_folder(what.data_dir, part) for part in ("train", "val"))
    rows = []
    for seed in range(what.seeds):
        rows.append(measure(what, train_part, val_part, seed))
        (what.output_dir / "SUGGESTING.md").write_text(summary(rows) + "\n")
    print(summary(rows))


if __name__ == "__main__":
    main(tyro.cli(Suggesting, use_underscores=True))
