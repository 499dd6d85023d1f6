"""How many masks that were damaged on purpose are among the first that a study says to look at again.

    python benchmarks/damaged.py --data_dir CamVid --output_dir results/damaged

Of some masks a few are damaged, in turns: the two largest classes are swapped, or the whole mask is shifted. A study
with folds then ranks all masks by how much of them its networks contradict.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from own_folders import Folder, Sizes, class_count, lay_out, read_folder, settings
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.studies.study import study


@dataclass(frozen=True, kw_only=True)
class Damaged(Sizes):
    """What to measure."""

    output_dir: Path = Path("results/damaged")
    """Where runs and DAMAGED.md go."""
    labelled: int = 60
    """Masks."""
    share: float = 0.05
    """Of which so many are damaged."""
    shift: int = 20
    """Pixels by which a mask is shifted, to the right and down."""
    look_at: int = 10
    """Masks that a person would look at."""
    folds: int = 3
    """Folds of the study."""
    steps: int = 300
    """Steps of each of its trainings."""
    seeds: int = 1
    """Draws of masks and of what is damaged."""


def swapped(mask: np.ndarray) -> np.ndarray:
    """A mask uint8 (H, W) whose two largest classes have changed names."""
    ids, counts = np.unique(mask[mask != IGNORE_INDEX], return_counts=True)
    first, second = ids[np.argsort(-counts)[:2]]
    out = mask.copy()
    out[mask == first], out[mask == second] = second, first
    return out


def shifted(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask (H, W) moved right and down by so many pixels; its border repeats."""
    rows, columns = (np.arange(side).clip(by) - by for side in mask.shape)
    return mask[rows[:, None], columns]


def measure(what: Damaged, part: Folder, seed: int) -> list[tuple[str, str, int]]:
    """Of each damaged mask its name, what was done to it, and its place in the ranking, counted from 1."""
    place = what.output_dir / f"seed_{seed}"
    rng = np.random.default_rng((seed, 22))
    labelled = [part.names[i] for i in rng.permutation(len(part.names))[: what.labelled]]
    number = max(1, round(what.share * what.labelled))
    done = {name: ("swapped", "shifted")[(i + seed) % 2] for i, name in enumerate(labelled[:number])}
    if not (place / "run" / "study.json").is_file():
        shutil.rmtree(place / "data", ignore_errors=True)
        lay_out(place / "data", part, labelled, classes=class_count(part), bare=False)
        for name, how in done.items():
            link = place / "data" / "masks" / part.masks[name].name
            mask = np.array(Image.open(link))
            link.unlink()  # not through the link
            Image.fromarray(swapped(mask) if how == "swapped" else shifted(mask, what.shift)).save(link)
        study(settings(what, place / "data", place / "run", steps=what.steps, seed=seed, folds=what.folds))
    ranked = [row["image"] for row in json.loads((place / "run" / "study.json").read_text())["suspicious"]]
    return [(name, how, ranked.index(name) + 1) for name, how in done.items()]


def summary(what: Damaged, found: list[tuple[str, str, int]]) -> str:
    """How many were found, how many chance would find, and each one's place, as Markdown."""
    first = sum(place <= what.look_at for *_, place in found)
    chance = len(found) * what.look_at / what.labelled
    lines = [
        f"{first} of {len(found)} damaged masks are among the first {what.look_at} of {what.labelled}, by chance "
        f"{chance:.1f} would be", "", "| mask | damage | place |", "|---|---|---:|",
    ]  # fmt: skip
    return "\n".join([*lines, *(f"| {name} | {how} | {place} |" for name, how, place in found)])


def main(what: tyro.conf.OmitArgPrefixes[Damaged]) -> None:
    """Measure what is missing, then sum up."""
    part, found = read_folder(what.data_dir, "train"), []
    for seed in range(what.seeds):
        found += measure(what, part, seed)
        (what.output_dir / "DAMAGED.md").write_text(summary(what, found) + "\n")
    print(summary(what, found))


if __name__ == "__main__":
    main(tyro.cli(Damaged, use_underscores=True))
