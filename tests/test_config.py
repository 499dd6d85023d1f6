import dataclasses
import json
import re

import pytest
from conftest import TINY

from prevmatch.config import SegmenterConfig, TrainConfig, material
from prevmatch.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"epochs": -1}, "epochs"),
        ({"confidence_threshold": 1.5}, "confidence_threshold"),
        ({"lr": -1.0}, "lr"),
        ({"scale_range": (2.0, 0.5)}, "scale_range"),
        ({"eval_window": 0}, "eval_window"),
        ({"num_workers": -1}, "num_workers"),
        ({"seed": -1}, "seed"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"threshold_floor": -0.1}, "threshold_floor"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"checkpointing_steps": 0}, "checkpointing_steps"),
        ({"decoder_channels": -1}, "decoder_channels"),
        ({"val_share": 1.0}, "val_share"),
        ({"hours": float("inf")}, "hours is inf but must be finite"),
        ({"lr": float("inf")}, "lr is inf but must be finite"),
        ({"scale_range": (1.0, float("inf"))}, "scale_range is .* but must be finite"),
        ({"seed": 2**32}, "seed is 4294967296 but must be below"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, named):
    with pytest.raises(ConfigError, match=named):
        dataclasses.replace(TINY, **changes)


def test_settings_survive_json(tmp_path):
    config = dataclasses.replace(TINY, output_dir=tmp_path, report_to=("tensorboard",), data_dir=tmp_path)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="colour_jitter"):
        TrainConfig.from_json({"colour_jitter": 1})


def test_class_names_must_match_the_class_count():
    with pytest.raises(ConfigError, match="class_names has 2 entries but num_classes is 3"):
        SegmenterConfig(encoder="resnet50s", num_classes=3, class_names=("a", "b"))
    with pytest.raises(ConfigError, match=r"decoder_channels is 0 but must lie in 1..4096"):  # open in training only
        SegmenterConfig(encoder="resnet50s", num_classes=3, decoder_channels=0)


def test_every_setting_is_either_material_or_free_to_change():
    """One list for what a resumed run may change, a table does not compare and a card does not show."""
    config = TrainConfig().to_json()
    free = set(config) - set(material(config))
    assert {"output_dir", "resume", "max_hours", "data_dir", "num_workers", "hub_private", "logging_steps"} <= free
    assert not free & {"method", "lr", "seed", "split", "crop_size", "encoder", "score", "eval_every"}


def test_settings_that_an_earlier_version_did_not_know_have_their_defaults():
    config = json.loads(json.dumps(TrainConfig().to_json()))
    earlier = {name: value for name, value in config.items() if name not in ("ema_decay", "optimizer", "score")}
    assert material(earlier) == material(config) == material(TrainConfig().to_json())


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", "abc"), ("epochs", 2.5), ("twin", 1), ("atrous_rates", 3), ("method", "magic"), ("image_size", True),
     ("merge_classes", [1, 2]), ("scale_range", ["a", "b"])],
)  # fmt: skip
def test_value_of_another_kind_is_named(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is {re.escape(repr(value))}, which is of the wrong kind$"):
        TrainConfig.from_json({name: value})


def test_content_that_is_no_table_is_refused():
    with pytest.raises(ConfigError, match=r"no table of names and values; is config\.json damaged"):
        TrainConfig.from_json([])
