"""Fixtures that many tests share: a data set of a few tiny scenes, and settings that train on it in a second."""

import atexit
import dataclasses
import os
import shutil
import string
import tempfile

import pytest
import torch
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="prevmatch-tests-")

import prevmatch.share.curves
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


def blank(path, title, draw, *, height=0):
    """In place of a picture of curves, which takes longer to draw than all the rest of a tiny run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 3)).save(path)
    return path


DRAWN = prevmatch.share.curves._picture
prevmatch.share.curves._picture = blank


@pytest.fixture(scope="module")
def drawn_curves():
    """Curves as users get them, for the tests that are about pictures and pages."""
    prevmatch.share.curves._picture = DRAWN
    yield
    prevmatch.share.curves._picture = blank


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


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A tiny random CLIP of transformers, whose tokenizer spells."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    letters = [*string.ascii_lowercase, "."]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=40).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "projection_dim": 8}
    text = {"num_hidden_layers": 2, "vocab_size": len(tokens), "bos_token_id": 54, "eos_token_id": 55,
            "max_position_embeddings": 40, **sizes}  # fmt: skip
    vision = {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8, **sizes}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder
