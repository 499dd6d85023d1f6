"""Looking before training: the page, the plan with its reasons, and that the recipe takes it back."""

import dataclasses
import json
import re

import pytest
from conftest import TINY
from data import exports
from PIL import Image

from prevmatch.cli import _planned
from prevmatch.config import OWN_DATA
from prevmatch.errors import ConfigError, DataError
from prevmatch.run.plan import read_plan
from prevmatch.use.check import check


@pytest.fixture
def config(tmp_path):
    folder = exports.parts(tmp_path / "mine")
    return dataclasses.replace(
        TINY, dataset="custom", data_dir=folder, crop_size=0, image_size=0, epochs=0, lr=0, decoder_lr_multiplier=0,
        weight_decay=None, bank_interval=0, output_dir=tmp_path / "out",
    )  # fmt: skip


def test_page_shows_what_was_found_and_needs_no_other_file(config, capsys):
    page, _ = check(config)
    text = page.read_text()
    assert not re.search(r"@import|url\(|https?://|<script", text)
    said = capsys.readouterr().out
    for told in ("part train: 3 images, 2 with a mask, for training", "nine tenths of the short side", "5000 steps"):
        assert told in text
        assert told in said
    assert text.count("<img ") == 2 + 2 + 1  # validation, labelled, unlabelled
    assert text.count("data:image/jpeg;base64,") == 5
    for name in ("class_0", "class_1", "class_2"):
        assert name in text
    assert "50.0 %" in text
    assert "time here" in said


def test_plan_and_page_say_what_is_smaller_without_a_gpu(config, capsys):
    for photo in config.data_dir.rglob("*.jpg"):
        Image.open(photo).resize((800, 600)).save(photo)
    for mask in config.data_dir.rglob("masks/*.png"):
        Image.open(mask).resize((800, 600), Image.Resampling.NEAREST).save(mask)
    _, path = check(dataclasses.replace(config, decoder_channels=0))
    plan = json.loads(path.read_text())
    names = ("image_size", "crop_size", "decoder_channels")
    assert [plan[name]["value"] for name in names] == [384, 257, 64]
    for name, both in {"image_size": "384 instead of that of the files", "crop_size": "257 instead of 513"}.items():
        assert f"{both}, for there is no GPU" in plan[name]["why"]
    assert "no GPU: image_size 384 instead of that of the files" in capsys.readouterr().out


def test_plan_is_taken_back_edited_where_the_command_line_says_nothing_else(config):
    _, path = check(config)
    plan = json.loads(path.read_text())
    assert plan["crop_size"]["value"] == 65
    assert all(entry["why"] for entry in plan.values())
    plan["crop_size"]["value"] = 97
    path.write_text(json.dumps(plan))
    given = dataclasses.replace(OWN_DATA, plan=str(path), epochs=3)
    planned = _planned(given, OWN_DATA)
    assert (planned.crop_size, planned.epochs, planned.epoch_images) == (97, 3, 0)  # passes, as without a plan
    whole = _planned(dataclasses.replace(given, epochs=0), OWN_DATA)
    assert (whole.epochs, whole.epoch_images) == (50, plan["epoch_images"]["value"])


def test_plan_repeats_what_was_named_and_another_encoder_keeps_nothing_that_suits_the_first(config):
    _, path = check(dataclasses.replace(config, merge_classes=("class_1,class_2=thing",), steps=100))
    plan = json.loads(path.read_text())
    assert plan["encoder"] == {"value": config.encoder, "why": "as named"}
    assert not {"steps", "dataset", "fold", "data_dir", "output_dir"} & plan.keys()
    given = dataclasses.replace(OWN_DATA, plan=str(path))
    planned = _planned(given, OWN_DATA)
    assert (planned.encoder, planned.lr) == (config.encoder, plan["lr"]["value"])
    assert planned.merge_classes == ("class_1,class_2=thing",)
    other = _planned(dataclasses.replace(given, encoder="resnet18"), OWN_DATA)
    assert (other.encoder, other.lr, other.crop_size) == ("resnet18", 0, 0)
    assert other.epochs == planned.epochs
    path.write_text(json.dumps({"merge_classes": [1, 2]}))
    with pytest.raises(ConfigError, match=r"with plan .*plan\.json: merge_classes is \(1, 2\), which is of the wrong"):
        _planned(given, OWN_DATA)


def test_folds_are_looked_at_with_what_stays_together_and_what_they_cost(tmp_path, capsys):
    folder = exports.plain(tmp_path / "mine")
    check(dataclasses.replace(TINY, dataset="custom", data_dir=folder, folds=2, hours=3, output_dir=tmp_path / "out"))
    said = capsys.readouterr().out
    assert "masks in 2 folds of" in said
    assert "folds: 2 trainings and that of the final model," in said
    assert "hours 1:" in said


def test_what_is_no_plan_is_named(tmp_path):
    (tmp_path / "plan.json").write_text('{"croop_size": 3}')
    with pytest.raises(ConfigError, match=r"plan\.json has 'croop_size', which is no setting"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"plan\.json cannot be read"):
        read_plan(tmp_path / "plan.json")


def test_what_training_refuses_is_refused_and_nothing_is_written(config):
    (config.data_dir / "valid/masks/p3.png").unlink()
    (config.data_dir / "valid/masks/p4.png").unlink()
    with pytest.raises(DataError, match="part valid has 3 images"):
        check(config)
    assert not config.output_dir.exists()
