"""Finished runs side by side: their table, and whether one is better."""

import json
from pathlib import Path

import numpy as np
import pytest

from prevmatch.config import TrainConfig
from prevmatch.errors import PrevMatchError
from prevmatch.run.validation import Validation, file_of, write_validation
from prevmatch.studies.compare import _answers, _names, compare, score_table


def result(method, labelled, unlabelled, best, seed=0):
    config = TrainConfig(dataset="shapes", method=method, seed=seed).to_json()
    return {
        "config": config, "labelled": labelled, "unlabelled": unlabelled, "validation": 101, "best_miou": best,
        "best_epoch": 4, "final_miou": best, "seconds_per_iteration": 0.25,
    }  # fmt: skip


def test_each_run_says_how_many_images_it_learned_from():
    results = [result("prevmatch", 23, 344, 60), result("supervised", 367, 0, 65)]
    lines = score_table(results, ["prevmatch", "supervised"]).splitlines()
    assert lines[0] == "mIoU in % on 101 validation images"
    assert lines[-2].startswith("| prevmatch  |       23 |        344 |      0 |      60.00 |        5 |")
    assert lines[-1].startswith("| supervised |      367 |          0 |      0 |      65.00 |        5 |")


def test_seeds_of_one_setting_have_a_mean_and_other_settings_are_told_apart():
    results = [
        result("prevmatch", 23, 344, 60, seed=1),
        result("supervised", 23, 0, 50),
        result("prevmatch", 23, 344, 64),
    ]
    names = _names([Path("a"), Path("b"), Path("c")], results)
    assert names == ["prevmatch", "supervised", "prevmatch"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in score_table(results, names).splitlines()[4:]]
    assert [row[0] for row in rows] == ["prevmatch"] * 3 + ["supervised"]
    assert [row[3:5] for row in rows] == [["0", "64.00"], ["1", "60.00"], ["mean", "62.0 ± 2.8"], ["0", "50.00"]]
    results[0]["config"]["crop_size"] = 97
    assert _names([Path("a"), Path("b"), Path("c")], results) == ["prevmatch (a)", "supervised", "prevmatch (c)"]


@pytest.fixture
def run(tmp_path):
    """A finished run, scored on these shares of right pixels, one image each."""

    def run(method, seed, right):
        folder = tmp_path / f"{method}{seed}"
        said = result(method, 4, 8, 50, seed)
        confusions = np.array([[[r, 100 - r], [100 - r, r]] for r in right])
        names = tuple(map(str, range(len(right))))
        write_validation(file_of(folder, 5), Validation(names, confusions, np.arange(len(right))))
        (folder / "result.json").write_text(json.dumps(said))
        (folder / "config.json").write_text(json.dumps(said["config"]))
        return folder, said

    return run


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ((60, 60, 60), "better than supervised over 3 seeds? yes, +"),
        ((60, 60, 95), "better than supervised over 3 seeds? cannot be told from 20 masks: "),
    ],
)
def test_seeds_that_disagree_make_the_answer_unsure(run, others, says):
    spread = np.linspace(-3, 3, 20).astype(int)
    runs, results = zip(
        *(run("prevmatch", seed, 80 + spread) for seed in range(3)),
        *(run("supervised", seed, right + spread) for seed, right in enumerate(others)),
        strict=True,
    )
    assert says in _answers(runs, results)[-1]
    one = _answers([runs[0], runs[5]], [results[0], results[5]])[-1]
    assert one.endswith("; of the methods: cannot be told from one training each")


def test_only_equal_seeds_are_paired(run):
    made = [run("prevmatch", seed, [90] * 6) for seed in (2, 1)] + [
        run("supervised", seed, [80] * 6) for seed in (0, 1, 2)
    ]
    runs, results = zip(*made, strict=True)
    assert _answers(runs, results)[-1].endswith("; of the methods: cannot be told from 2 trainings each")


def test_runs_scored_on_different_images_are_said_not_to_compare():
    results = [result("prevmatch", 23, 344, 60), result("supervised", 23, 0, 65) | {"validation": 4}]
    assert score_table(results, ["a", "b"]).startswith("mIoU in % on different images, so rows do not compare\n")


@pytest.mark.parametrize(
    ("name", "value"), [("best_miou", "x"), ("best_epoch", "a"), ("labelled", None), ("class_iou", [1])]
)
def test_result_with_a_value_of_the_wrong_kind_is_told(run, tmp_path, name, value):
    folder, said = run("prevmatch", 0, [90] * 6)
    (folder / "result.json").write_text(json.dumps(said | {"class_iou": {}, "interval": None} | {name: value}))
    with pytest.raises(PrevMatchError, match=f"{name} is of the wrong kind"):
        compare([folder], tmp_path / "out")


@pytest.mark.parametrize("content", ["{}", "[]", '{"config": []}', "xx"])
def test_damaged_result_is_no_finished_run(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(PrevMatchError, match=r"no finished run|damaged"):
        compare([tmp_path], tmp_path / "out")
