"""How often two runs that differ in nothing but their seed are told apart, on procedural scenes.

    python benchmarks/another_seed.py --output_dir results/another_seed

Each redraw draws 20 new scenes with their masks and runs the folds on them twice, as `--folds 5` does, the same folds
with other weights and another order. `prevmatch compare` should say of one in ten at most that a run is better: its
interval is a 90 % one. What a redraw found is a file, so that the command goes on where it was interrupted; the
summary is ANOTHER_SEED.md.
"""

import contextlib
import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from coverage import Coverage, settings, write_scenes
from tqdm import tqdm

from prevmatch.intervals import Interval, answer
from prevmatch.studies.folds import run_all
from prevmatch.studies.gain import gain

REDRAW_SEED = 95_000


@dataclass(frozen=True, kw_only=True)
class AnotherSeed(Coverage):
    """What to measure; `fresh` and `dealings` are not asked for here."""

    output_dir: Path = Path("results/another_seed")
    """Where the files of the redraws and ANOTHER_SEED.md go."""
    redraws: int = 20
    """How often masks are drawn anew."""


def redraw(number: int, what: AnotherSeed) -> Interval:
    """By how much a study's mIoU is higher than that of the same study with another seed."""
    with tempfile.TemporaryDirectory() as folder:
        data, runs = Path(folder) / "data", [Path(folder) / "first", Path(folder) / "second"]
        write_scenes(data, REDRAW_SEED + number, what.masks)
        log = what.output_dir / "log.txt"
        with log.open("a") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            for place, run in enumerate(runs):
                config = dataclasses.replace(settings(run, data, what, number), seed=1000 * place + number)
                run_all(config, time.monotonic())
        return gain(runs[:1], runs[1:])


def summary(found: list[Interval]) -> str:
    """How often what was said, and a Markdown table of all redraws."""
    said = [answer(each) for each in found]
    apart = sum(not each.startswith("cannot be told") for each in said)
    lines = [f"* told apart: {apart} of {len(found)} pairs that differ in their seed alone", "", "| redraw | said |"]
    return "\n".join([*lines, "|---:|---|", *(f"| {number} | {each} |" for number, each in enumerate(said))])


def main(what: tyro.conf.OmitArgPrefixes[AnotherSeed]) -> None:
    """Measure what is missing, then sum up."""
    what.output_dir.mkdir(parents=True, exist_ok=True)
    found = []
    for number in tqdm(range(what.redraws), desc="redraws"):
        path = what.output_dir / f"redraw_{number:02d}.json"
        if not path.is_file():
            path.write_text(json.dumps(dataclasses.asdict(redraw(number, what))) + "\n")
        found.append(Interval(**json.loads(path.read_text())))
    text = summary(found)
    (what.output_dir / "ANOTHER_SEED.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(AnotherSeed, use_underscores=True))
