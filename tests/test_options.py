"""Options of training as users see them: sections, whole sentences, and what a mistyped one meant."""

import dataclasses
import re

import pytest
import tyro

from prevmatch.cli import parse_recipe
from prevmatch.config import OWN_DATA, TrainConfig
from prevmatch.errors import ConfigError
from prevmatch.options import MEANT, flattened, require_known, sectioned


def test_sections_hold_every_setting_once_and_give_back_what_was_put_in():
    sections = [field.name for field in dataclasses.fields(sectioned(OWN_DATA))]
    assert sections == ["data", "method", "network", "schedule", "records"]
    assert flattened(sectioned(OWN_DATA)()) == OWN_DATA
    assert parse_recipe(OWN_DATA, args=["--lr", "0.5", "--image-size", "None"]) == dataclasses.replace(
        OWN_DATA, lr=0.5, image_size=None
    )


def test_help_has_sections_and_unbroken_sentences(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        tyro.cli(sectioned(TrainConfig()), args=["--help"], use_underscores=True)
    said = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    titles = [f" {name} options " for name in ("data", "method", "network", "schedule", "records")]
    assert all(title in said for title in titles)
    assert "or over epoch_images of them; 0 fits both to their number. (default: 80)" in said


@pytest.mark.parametrize(
    ("given", "meant"),
    [("--learning_rate", "lr"), ("--lr_rate", "lr"), ("--outdir", "output_dir"), ("--out-dir=x", "output_dir"),
     ("--num_epochs", "epochs"), ("--batchsize", "batch_size"), ("--data", "data_dir"), ("--image_szie", "image_size"),
     ("--wokers", "num_workers"), ("--labeled", "labelled"), ("--no_strickt", "strict"), ("--qqq", None)],
)  # fmt: skip
def test_mistyped_option_is_one_line_with_what_was_meant(given, meant):
    hint = f"did you mean --{meant}\\? --help lists all" if meant else "--help lists them all"
    with pytest.raises(ConfigError, match=f"^{given.partition('=')[0]} is no option; {hint}$"):
        require_known(["--epochs", "3", given])


def test_what_there_is_passes():
    require_known(["--help", "-h", "--no_strict", "--no-strict", "--lr=3", "-1", "x"])
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(MEANT.values()) <= known
    assert not known & set(MEANT)
