"""The curve over the number of masks: which runs it asks for, and what it makes of their matrices."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import TINY

from prevmatch.errors import DataError
from prevmatch.intervals import Interval, pooled_miou
from prevmatch.run.validation import Validation, file_of, write_validation
from prevmatch.studies import curve as module
from prevmatch.studies.curve import _content, curve

MASKS = 15
BASE = dataclasses.replace(TINY, dataset="custom", folds=3, fold=0)


def matrices(skill, fold):
    """Of five images, each of 2 classes with 100 pixels; the better known, the higher the skill."""
    rng = np.random.default_rng((fold, 1))
    right = (100 * np.clip(skill + rng.normal(0, 0.03, (MASKS // 3, 2)), 0, 1)).astype(int)
    found = np.zeros((MASKS // 3, 2, 2), dtype=np.int64)
    for c in (0, 1):
        found[:, c, c], found[:, c, 1 - c] = right[:, c], 100 - right[:, c]
    return found


def finished(config, skill, labelled):
    """What a run of a fold leaves, without any training."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    (config.output_dir / "config.json").write_text(json.dumps(config.to_json()))
    (config.output_dir / "result.json").write_text(json.dumps({"labelled": labelled}))
    ids = tuple(f"{config.fold}_{i}" for i in range(MASKS // 3))
    found = Validation(ids, matrices(skill, config.fold), np.arange(len(ids)) + 10 * config.fold)
    write_validation(file_of(config.output_dir, 2), found)


@pytest.fixture
def run(tmp_path):
    """A finished study of three folds."""
    for fold in (1, 2, 3):
        finished(dataclasses.replace(BASE, fold=fold, output_dir=tmp_path / f"fold_{fold}"), 0.9, 10)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.replace(BASE, output_dir=tmp_path).to_json()))
    return tmp_path


def test_every_fold_is_trained_with_a_quarter_and_half_of_its_masks(run, monkeypatch):
    asked = []

    def train(config):
        asked.append((config.labelled, config.fold, config.epochs, config.resume))
        finished(config, {"25%": 0.7, "50%": 0.8}[config.labelled], {"25%": 2.5, "50%": 5}[config.labelled])

    monkeypatch.setattr(module, "train", train)
    found = curve(run)
    assert asked == [(share, fold, 2, True) for share in ("25%", "50%") for fold in (1, 2, 3)]
    assert [point["learned_from"] for point in found["points"]] == [2.5, 5, 10]
    whole = np.concatenate([matrices(0.9, fold) for fold in (1, 2, 3)])
    assert found["points"][-1]["value"] == pytest.approx(pooled_miou(whole))
    values = [point["value"] for point in found["points"]]
    assert values == sorted(values)
    assert found["double"]["learned_from"] == 20
    lines = np.polyval(np.polyfit([0, 1, 2], values, 1), 3), 2 * values[2] - values[1]
    assert found["double"]["value"] == pytest.approx(np.mean(lines))
    assert found["told"][0].startswith(f"learned from 2.5 masks: {values[0]:.0f} ± ")
    assert json.loads((run / "curve.json").read_text()) == found
    assert found["told"][-1] in (run / "report.html").read_text()


def test_too_few_masks_and_a_single_split_give_no_curve(run, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_MASKS", 16)
    with pytest.raises(DataError, match="has 15 masks; a curve needs at least 16"):
        curve(run)
    config = dataclasses.replace(BASE, folds=0, fold=None, output_dir=run)
    (run / "config.json").write_text(json.dumps(config.to_json()))
    with pytest.raises(DataError, match=r"has no folds, without which a curve is luck; train with --folds 5 first"):
        curve(run)


def test_masks_that_folds_learned_from_are_told_to_a_tenth():
    score = Interval(value=40.0, low=35.0, high=45.0, masks=20)
    told = _content([score, score], [20 / 6, 20 * 2 / 3], score)["told"]
    assert told[0].startswith("learned from 3.3 masks: ")
    assert told[1].startswith("learned from 13.3 masks: ")
    assert told[2].startswith("from 26.7, if ")
