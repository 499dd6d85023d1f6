"""Fixtures that many tests share: a data set of a few tiny scenes, and settings that train on it in a second."""

import atexit
import dataclasses
import os
import shutil
import tempfile

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="prevmatch-tests-")

from prevmatch.config import TrainConfig
from prevmatch.data.shapes import load_shapes
from prevmatch.data.sources import TrainingData
from prevmatch.data.splits import every_nth, select

atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

TINY = TrainConfig(
    dataset="shapes",
    crop_size=33,
    encoder="test_resnet",
    encoder_weights="none",
    decoder_channels=8,
    low_level_channels=4,
    atrous_rates=(1, 2, 3),
    epochs=2,
    batch_size=2,
    num_workers=0,
    logging_steps=2,
    confidence_threshold=0.2,
    previous_threshold=0.2,
)


def divide(source, split="1_4") -> TrainingData:
    labelled, unlabelled = select(source.train, every_nth(source.train["id"], split))
    return TrainingData(source=source, labelled=labelled, unlabelled=unlabelled)


@pytest.fixture(scope="session")
def tiny_source():
    return load_shapes(train=8, val=3)


@pytest.fixture(scope="session")
def tiny_data(tiny_source) -> TrainingData:
    return divide(tiny_source)


@pytest.fixture
def tiny_config(tmp_path) -> TrainConfig:
    return dataclasses.replace(TINY, output_dir=tmp_path / "run")


@pytest.fixture
def one_thread():
    """Sums in one order, so that equal runs give equal bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
