"""Plans of many runs: what is run, what is not run again."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from test_table import result

from prevmatch.config import MethodName, TableConfig
from prevmatch.errors import ConfigError, TrainingError
from prevmatch.studies.reproduce import reproduce

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def started(monkeypatch):
    """Instead of training, write a result for each run that is started; returns their commands."""
    commands = []

    def run(command):
        commands.append(command)
        given = dict(pairwise(command))
        folder = Path(given["--output_dir"])
        folder.mkdir(parents=True)
        content = result(given["--method"], given.get("--encoder", "own"), given.get("--split", "1_32"),
                         int(given["--seed"]))  # fmt: skip
        (folder / "result.json").write_text(json.dumps(content))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("prevmatch.studies.reproduce.subprocess.run", run)
    return commands


def plan(tmp_path, recipe="shapes", **settings):
    return TableConfig(recipe=RECIPES / f"{recipe}.py", results_dir=tmp_path, **settings)


def test_every_missing_run_is_started_once(tmp_path, started, capsys):
    config = plan(tmp_path, methods=("supervised", "prevmatch"), seeds=(0, 1))
    text = reproduce(config)
    assert len(started) == 4
    assert "shapes: 4 runs, 0 done, 4 to do" in capsys.readouterr().out
    assert "70.0 ± 0.0 (n=2)" in text
    assert (tmp_path / "TABLE.md").read_text() == f"## shapes\n\n{text}"
    (tmp_path / "shapes/prevmatch-seed1/result.json").unlink()  # as if it had been interrupted
    (tmp_path / "shapes/prevmatch-seed1").rmdir()
    reproduce(config)
    assert len(started) == 5
    assert "expected" not in capsys.readouterr().out
    assert reproduce(config) == text
    assert len(started) == 5


def test_published_encoders_and_splits_are_the_default(tmp_path, started, capsys):
    reproduce(plan(tmp_path, "pascal", data_dir=tmp_path, seeds=(0,), methods=("prevmatch",)))
    runs = {(c[c.index("--encoder") + 1], c[c.index("--split") + 1]) for c in started}
    assert runs == {(e, s) for e in ("resnet50s", "resnet101s") for s in ("92", "183", "366", "732", "1464")}
    assert "5 runs: 37.5 to 95 h by the public logs" in capsys.readouterr().out


def test_without_data_nothing_is_started_and_the_table_says_so(tmp_path, started):
    text = reproduce(plan(tmp_path, "cityscapes", seeds=(0,)))
    assert not started
    assert "no data: give DATA_DIR" in text


def test_only_plan_starts_nothing(tmp_path, started, capsys):
    reproduce(plan(tmp_path), only_plan=True)
    assert not started
    assert "9 to do" in capsys.readouterr().out


def test_measured_hours_replace_published_ones(tmp_path, started, capsys):
    settings = {"data_dir": tmp_path, "encoders": ("resnet50s",), "splits": ("92",), "methods": ("prevmatch",)}
    reproduce(plan(tmp_path, "pascal", seeds=(0,), **settings))
    reproduce(plan(tmp_path, "pascal", seeds=(0, 1, 2), **settings), only_plan=True)
    assert "2 runs: 2.00 h, measured on the 1 done" in capsys.readouterr().out


def test_other_arguments_are_refused_before_anything_is_run(tmp_path, started):
    reproduce(plan(tmp_path, seeds=(0,)))
    with pytest.raises(ConfigError, match="was begun with ARGS='', not '--epochs 1'"):
        reproduce(plan(tmp_path, seeds=(0, 1), args="--epochs 1"))
    assert len(started) == 3


def test_failed_run_is_named_at_the_end_and_the_others_are_run(tmp_path, started, monkeypatch):
    run = subprocess.run  # the fixture's

    def fails_once(command):
        return subprocess.CompletedProcess(command, 1) if command.count("unimatch") else run(command)

    monkeypatch.setattr("prevmatch.studies.reproduce.subprocess.run", fails_once)
    with pytest.raises(
        TrainingError, match=r"^1 of 3 runs failed, unimatch-seed0, each with its error above"
    ) as caught:
        reproduce(plan(tmp_path, seeds=(0,)))
    assert "\n" not in str(caught.value)
    assert len(started) == 2
    assert "70.0 (n=1)" in (tmp_path / "TABLE.md").read_text()


def test_a_table_that_was_changed_is_not_replaced(tmp_path, started):
    reproduce(plan(tmp_path, seeds=(0,)))
    reproduce(plan(tmp_path, seeds=(0, 1)))
    with (tmp_path / "TABLE.md").open("a") as file:
        file.write("what I think of it\n")
    with pytest.raises(ConfigError, match=r"TABLE\.md is not as this command left it; move it, or choose another"):
        reproduce(plan(tmp_path, seeds=(0, 1, 2)))
    assert len(started) == 6
    assert "what I think of it" in (tmp_path / "TABLE.md").read_text()


def test_all_methods_can_be_asked_for_and_the_oracle(tmp_path, started):
    text = reproduce(plan(tmp_path, methods=("all",), seeds=(0,), oracle=True))
    runs = [dict(pairwise(command)) for command in started]
    assert [run["--method"] for run in runs] == [*get_args(MethodName), "supervised"]
    assert runs[-1]["--split"] == "all"
    assert all(f"| {label} |" in text for label in ("Dual Teacher", "SemiVL", "Diverse Co-training", "CPS"))


def test_make_passes_on_what_is_asked_for():
    command = ["make", "--dry-run", "reproduce-table", "RECIPE=coco", "METHODS=all", "ORACLE=1", "SEEDS=0 1"]
    done = subprocess.run(command, cwd=RECIPES.parent, capture_output=True, text=True)
    said = " ".join(done.stdout.replace("\\", " ").split())
    assert "table --recipe recipes/coco.py --results_dir results --methods all --seeds 0 1 --oracle" in said


def test_unknown_recipe_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.py does not exist"):
        reproduce(plan(tmp_path, "nothing"))
