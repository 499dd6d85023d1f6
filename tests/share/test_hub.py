"""The card of a model: every value from the run's own files, and metadata that the Hub's client reads back."""

import dataclasses
import json
import re

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from prevmatch.config import TrainConfig
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.share.hub import check_can_push, collect, model_card, shortened

RESULT = {
    "best_miou": 43.214, "best_epoch": 6, "final_miou": 41.5, "seconds_per_iteration": 0.25, "seconds": 5400.0,
    "class_iou": {"_background_": 80.5, "a|b": 5.928}, "labelled": 23, "unlabelled": 344, "validation": 101,
    "command": "accelerate launch recipes/camvid.py --data_dir /home/me/secret/CamVid --lr=0.1",
    "environment": {"device": "cpu", "mixed_precision": "bf16", "processes": 2, "prevmatch": "0.1.0", "commit": "abc"},
}  # fmt: skip
CAMVID = TrainConfig(
    dataset="camvid", split="1_16", seed=3, encoder="resnet50", epochs=9, eval_window=480, data_dir="/home/me/secret"
)


@pytest.fixture
def make(tmp_path):
    """A run's folder with these settings, without any training."""

    def make(config=CAMVID, result=RESULT):
        for name in ("best", "curves", "panels"):
            (tmp_path / name).mkdir()
        (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
        (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0, "miou": 30.0, "iou": [50.0, 10.0]}\n')
        if result:
            (tmp_path / "result.json").write_text(json.dumps(result))
        model = {"encoder": config.encoder, "num_classes": 2, "class_names": list(RESULT["class_iou"]),
                 "eval_window": config.eval_window, "image_size": 240}  # fmt: skip
        if config.encoder.startswith("vit"):
            model["decoder_kind"] = {"auto": "dpt"}.get(config.decoder_kind, config.decoder_kind)
        (tmp_path / "best/config.json").write_text(json.dumps(model))
        (tmp_path / "best/model.safetensors").write_bytes(b"weights")
        for name in ("curves/miou", "curves/lr", "panels/epoch_0005", "panels/epoch_0009"):
            Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png")
        return tmp_path

    return make


def card_of(folder, **options):
    return model_card(collect(folder), "me/streets", **options)


def test_metadata_is_read_back_as_it_was_meant(make, tmp_path):
    card_of(make(), license="mit").save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    (score,) = data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_type, score.dataset_name) == (
        "mean_iou", 43.21, "camvid", "camvid",
    )  # fmt: skip
    assert (data.library_name, data.pipeline_tag, data.license) == ("prevmatch", "image-segmentation", "mit")
    assert (data.base_model, data.datasets, data.metrics) == ("timm/resnet50.a1_in1k", ["camvid"], ["mean_iou"])
    assert data.model_name == "streets"


def test_text_tells_what_the_run_files_say(make):
    text = card_of(make()).text
    for told in (
        "method **prevmatch**, on **camvid** with\n23 labelled and 344 unlabelled images", "| seed | 3 |",
        "split 1_16 (23 images)", "| a\\|b | 5.93 |", "| \\_background\\_ | 80.50 |", "**43.21**", "1 h 30 min",
        "epoch 7 of 9", "On 101 validation images, sliding window of 480 pixels, long side 240 pixels, in fp32",
        "After the last epoch it was\n41.50",
        "mean over all\n2 classes", "## Licence\n\nNot stated", "arXiv:2405.20610",
        'Segmenter.from_pretrained("me/streets")', "](pictures/miou.png)", "](pictures/samples.png)",
    ):  # fmt: skip
        assert told in text, told
    assert "pictures/lr.png" not in text


def test_no_folder_of_this_machine_reaches_the_card(make):
    text = str(card_of(make()))
    assert "/home" not in text
    assert "--data_dir CamVid" in text


def test_tables_have_no_gaps_that_would_end_them(make):
    tables = re.findall(r"\|---.*?\n\n", card_of(make()).text, re.DOTALL)
    assert [table.count("\n") > 3 for table in tables] == [True] * 3


def test_every_picture_in_the_card_is_uploaded(make):
    upload = collect(make())
    assert set(re.findall(r"\]\((pictures/[^)]+)\)", model_card(upload, "me/x").text)) == set(upload.pictures)
    assert upload.pictures["pictures/samples.png"].name == "epoch_0009.png"


@pytest.mark.parametrize(
    ("changes", "base", "datasets"),
    [
        ({"encoder_weights": "none"}, None, ["camvid"]),
        ({"encoder_weights": "/weights/mine.safetensors"}, None, ["camvid"]),
        ({"dataset": "custom"}, "timm/resnet50.a1_in1k", None),
        ({"dataset": "custom", "dataset_name": "someone/leaves"}, "timm/resnet50.a1_in1k", ["someone/leaves"]),
        ({"dataset": None}, "timm/resnet50.a1_in1k", None),
        ({"encoder": "xception65.published"}, "timm/xception65.ra3_in1k", ["camvid"]),
    ],
)
def test_only_what_is_known_to_be_on_the_hub_is_linked(make, changes, base, datasets):
    data = card_of(make(dataclasses.replace(CAMVID, **changes))).data
    assert (data.base_model, data.datasets) == (base, datasets)
    assert len(data.eval_results) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "[timm/resnet50.a1_in1k](https://huggingface.co/timm/resnet50.a1_in1k), whose licence is `apache-2.0`."),
        (
            {"encoder": "vit_small_patch14_dinov2.lvd142m"},
            "DPT over the timm encoder `vit_small_patch14_dinov2.lvd142m`",
        ),
        ({"encoder": "vit_small_patch14_dinov2.lvd142m"}, "whose licence is `apache-2.0`"),
        ({"encoder": "vit_small_patch16_dinov3.lvd1689m"}, "whose licence is `dinov3-license`"),
        ({"encoder": "vit_small_patch14_dinov2", "decoder_kind": "linear"}, "a linear map over the timm encoder"),
        ({"freeze_encoder": True}, "| encoder | resnet50, frozen |"),
        ({"encoder_weights": "/weights/mine.safetensors"}, "## Licence\n\nNot stated"),
    ],
)
def test_decoder_and_licence_of_the_weights_are_those_of_the_run(make, changes, told):
    text = card_of(make(dataclasses.replace(CAMVID, **changes))).text
    assert told in text
    assert ("whose licence" in text) == ("encoder_weights" not in changes)


def test_interrupted_run_gives_no_scores_and_says_why(make):
    card = card_of(make(result=None))
    assert card.data.eval_results is None
    assert "had not finished when it was uploaded (1 of\n9 epochs)" in card.text
    assert "43.21" not in card.text


def test_best_of_a_run_is_the_run_itself(make):
    folder = make()
    assert collect(folder / "best") == collect(folder)


def test_folder_without_weights_is_refused(make):
    folder = make()
    (folder / "best/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no model.*name a run or model folder"):
        collect(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "segformer"}'])
def test_model_of_another_library_is_refused(make, content):
    folder = make()
    (folder / "best/config.json").write_text(content)
    with pytest.raises(CheckpointError, match="not the configuration of a prevmatch Segmenter"):
        collect(folder)


def test_command_keeps_everything_but_absolute_folders():
    command = "accelerate launch /a/b/train.py --data_dir=/x/y --split 1_16 --output_dir 'out/my run'"
    assert shortened(command) == "accelerate launch train.py --data_dir=y --split 1_16 --output_dir 'out/my run'"


@pytest.mark.parametrize(
    ("model_id", "token", "message"),
    [("a/b/c", "hf_x", "hub_model_id 'a/b/c' is no repository name"), ("a/b", None, "hf auth login")],
)
def test_upload_that_cannot_succeed_is_refused_before_training(monkeypatch, model_id, token, message):
    monkeypatch.setattr("prevmatch.share.hub.get_token", lambda: token)
    config = dataclasses.replace(CAMVID, push_to_hub=True, hub_model_id=model_id)
    with pytest.raises(ConfigError, match=message):
        check_can_push(config)
    check_can_push(dataclasses.replace(config, push_to_hub=False))
