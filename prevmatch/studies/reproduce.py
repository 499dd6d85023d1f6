"""Running whatever of a table has not been run yet: methods × encoders × splits × seeds of one recipe."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import get_args

from prevmatch.config import ALL, MethodName, TableConfig, full_name
from prevmatch.errors import ConfigError, TrainingError
from prevmatch.ownership import OwnFiles
from prevmatch.studies.table import published_results, read_results, table
from prevmatch.writing import write_text

NEEDS_NO_DATA = {"shapes"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a table."""

    method: str
    encoder: str | None
    split: str | None
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        parts = (self.method, self.encoder, self.split and self.split.replace("/", "_"), f"seed{self.seed}")
        return "-".join(part for part in parts if part)


def folder_of(plan: TableConfig) -> Path:
    """Where the runs of a recipe and their table are."""
    return plan.results_dir / plan.recipe.stem


def reproduce(plan: TableConfig, *, only_plan: bool = False) -> str:
    """Show the plan, run what is missing, and write TABLE.md after every run; returns the table.

    A run that has a result.json is not run again; one that was cut off is started anew. One that fails, for lack of a
    download say, does not hold up the others.
    Raises ConfigError if the results folder holds runs with other settings or foreign tables, TrainingError if runs
    failed.
    """
    if not plan.recipe.is_file():
        raise ConfigError(f"recipe {plan.recipe} does not exist; name a file of recipes/")
    plan = _with_published_axes(plan)
    _require_own_tables(plan)
    cells = list(_cells(plan))
    todo = [cell for cell in cells if not (folder_of(plan) / cell.name / "result.json").is_file()]
    print(describe(plan, cells, todo), flush=True)
    no_data = plan.data_dir is None and plan.recipe.stem not in NEEDS_NO_DATA and "--dataset_name" not in plan.args
    if not only_plan and not no_data:
        _begin(plan, begun=len(todo) < len(cells))
        failed = []
        for number, cell in enumerate(todo, 1):
            print(f"\n== {number}/{len(todo)} {cell.name}", flush=True)
            if not _run(plan, cell):
                failed.append(cell.name)
            write_table(plan)
        if failed:
            raise TrainingError(
                f"{len(failed)} of {len(todo)} runs failed, {', '.join(failed)}, each with its error above; the "
                "others are kept, and the same command tries these again"
            )
    return write_table(plan, no_data=no_data)


def describe(plan: TableConfig, cells: Sequence[Cell], todo: Sequence[Cell]) -> str:
    """How many runs there are, how many of them are done, and how long the others should take."""
    lines = [f"{plan.recipe.stem}: {len(cells)} runs, {len(cells) - len(todo)} done, {len(todo)} to do"]
    results = read_results(folder_of(plan))
    for (method, encoder), count in _groups(todo).items():
        lines.append(
            f"  {method:<11} {encoder or '':<12} {count:>3} runs: {hours(plan, results, method, encoder, count)}"
        )
    return "\n".join(lines)


def hours(plan: TableConfig, results: Sequence[dict], method: str, encoder: str | None, count: int = 1) -> str:
    """How long `count` runs should take: as measured on finished ones, or else by the public logs."""
    done = [r for r in results if r["config"]["method"] == method and encoder in (None, r["config"]["encoder"])]
    logged = published_results().get(plan.recipe.stem, {}).get("hours", {}).get(encoder)
    if done:
        return f"{mean(r['seconds'] for r in done) / 3600 * count:.2f} h, measured on the {len(done)} done"
    if logged and method == "prevmatch":
        return f"{logged[0] * count:g} to {logged[1] * count:g} h by the public logs, on their GPUs"
    return f"less than PrevMatch's {logged[1] * count:g} h" if logged else "unknown until one has run"


def write_table(plan: TableConfig, *, no_data: bool = False) -> str:
    """Write the recipe's TABLE.md, and the one of all recipes beside it; returns the recipe's."""
    results = read_results(folder_of(plan))
    # What a recipe has by itself is known once it has run.
    encoders = plan.encoders or tuple(sorted({r["config"]["encoder"] for r in results})) or ("",)
    splits = plan.splits or tuple(sorted({str(r["config"]["split"]) for r in results} - {ALL})) or ("",)
    splits = tuple(split.replace("/", "_") for split in splits)

    def missing(method: str, encoder: str) -> str:
        return "no data: give DATA_DIR" if no_data else f"not run: {hours(plan, results, method, encoder)}"

    text = table(plan.recipe.stem, results, plan.methods, encoders, splits, missing)
    own, (table_of_all, table_of_one) = OwnFiles(plan.results_dir), _tables(plan)
    own.write(table_of_one, f"## {plan.recipe.stem}\n\n{text}".encode())
    tables = sorted(plan.results_dir.glob("*/TABLE.md"))
    own.write(table_of_all, "\n".join(path.read_text() for path in tables).encode())
    return text


def _tables(plan: TableConfig) -> tuple[Path, Path]:
    return plan.results_dir / "TABLE.md", folder_of(plan) / "TABLE.md"


def _require_own_tables(plan: TableConfig) -> None:
    """Raise ConfigError if a table was written or changed by somebody else."""
    own = OwnFiles(plan.results_dir)
    for path in _tables(plan):
        if path.exists() and not own.has(path):
            raise ConfigError(f"{path} is not as this command left it; move it, or choose another RESULTS_DIR")


def _with_published_axes(plan: TableConfig) -> TableConfig:
    known = published_results().get(plan.recipe.stem, {"encoders": (), "splits": ()})
    encoders = tuple(map(full_name, plan.encoders)) or tuple(known["encoders"])
    methods = get_args(MethodName) if "all" in plan.methods else plan.methods
    return replace(plan, methods=methods, encoders=encoders, splits=plan.splits or tuple(known["splits"]))


def _cells(plan: TableConfig) -> Iterator[Cell]:
    for encoder, split, seed, method in product(
        plan.encoders or (None,), plan.splits or (None,), plan.seeds, plan.methods
    ):
        yield Cell(method=method, encoder=encoder, split=split, seed=seed)
    for encoder, seed in product(plan.encoders or (None,), plan.seeds if plan.oracle else ()):
        yield Cell(method="supervised", encoder=encoder, split=ALL, seed=seed)


def _groups(cells: Sequence[Cell]) -> dict[tuple[str, str | None], int]:
    keys = [(cell.method, cell.encoder) for cell in cells]
    return {key: keys.count(key) for key in dict.fromkeys(keys)}


def _begin(plan: TableConfig, *, begun: bool) -> None:
    """Remember what the recipe was called with; all runs of a table are called alike."""
    path = folder_of(plan) / "plan.json"
    if begun and path.is_file() and (earlier := json.loads(path.read_text())["args"]) != plan.args:
        raise ConfigError(
            f"{folder_of(plan)} was begun with ARGS={earlier!r}, not {plan.args!r}; use these, or another RESULTS_DIR"
        )
    folder_of(plan).mkdir(parents=True, exist_ok=True)
    write_text(
        path, json.dumps({"recipe": str(plan.recipe), "args": plan.args, "launch": plan.launch}, indent=2) + "\n"
    )


def _run(plan: TableConfig, cell: Cell) -> bool:
    """Train one cell; says whether that ended well."""
    settings = {
        "method": cell.method, "encoder": cell.encoder, "split": cell.split, "seed": cell.seed,
        "data_dir": plan.data_dir, "output_dir": folder_of(plan) / cell.name,
    }  # fmt: skip
    given = [word for name, value in settings.items() if value is not None for word in (f"--{name}", str(value))]
    done = subprocess.run([
        sys.executable, "-m", "accelerate.commands.launch", *shlex.split(plan.launch), str(plan.recipe), *given,
        "--overwrite_output_dir", *shlex.split(plan.args),
    ])  # fmt: skip
    return done.returncode == 0
