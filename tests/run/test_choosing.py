"""`--encoder auto`: which encoder, on what, and what is said."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY

import prevmatch.run.choosing
from prevmatch import train
from prevmatch.run.choosing import LARGE, SMALL, choose_encoder

AUTO = dataclasses.replace(TINY, encoder="auto", encoder_weights="timm")


@pytest.fixture
def choose(monkeypatch):
    """Encoder, weights and the line that is said, on a device and with these weights at hand."""

    def choose(device="cpu", at_hand=(LARGE, SMALL), **changes):
        monkeypatch.setattr(prevmatch.run.choosing, "_at_hand", lambda name: name in at_hand)
        said = []
        machine = SimpleNamespace(is_main_process=True, device=torch.device(device), print=said.append)
        config = choose_encoder(dataclasses.replace(AUTO, **changes), machine)
        [line] = said or [""]
        return config.encoder, config.encoder_weights, line

    return choose


def test_gpus_get_dinov2_and_cpus_a_small_encoder(choose):
    for device in ("cuda", "mps"):
        encoder, weights, line = choose(device)
        assert (encoder, weights) == ("vit_small_patch14_dinov2.lvd142m", "timm")
        assert line.startswith(f"encoder auto: {encoder}, licence apache-2.0, for there is a GPU; --encoder mobilenet")
    encoder, weights, line = choose("cpu")
    assert (encoder, weights) == ("mobilenetv2_100", "timm")
    assert "licence apache-2.0, for training is on a CPU; --encoder dinov2_small" in line
    assert "\n" not in line


def test_without_the_hub_the_small_one_is_taken_and_said_to_be(choose):
    encoder, weights, line = choose("cuda", at_hand=[SMALL])
    assert (encoder, weights) == (SMALL, "timm")
    assert f"for the weights of {LARGE} cannot be had from the Hub" in line
    for device in ("cuda", "cpu"):
        encoder, weights, line = choose(device, at_hand=[])
        assert (encoder, weights) == (SMALL, "none")
        assert "with RANDOM weights, for the Hub cannot be reached" in line
        assert "licence" not in line


def test_given_weights_are_not_looked_for(choose):
    assert choose("cuda", at_hand=[], encoder_weights="w.safetensors")[:2] == (LARGE, "w.safetensors")
    assert choose("cuda", at_hand=[], encoder_weights="none")[:2] == (SMALL, "none")
    assert choose("cuda", encoder="resnet50s") == ("resnet50s", "timm", "")


def test_hub_that_does_not_answer_is_noticed_at_once(monkeypatch):
    monkeypatch.setattr(prevmatch.run.choosing, "try_to_load_from_cache", lambda *_: None)
    assert not prevmatch.run.choosing._at_hand(SMALL)  # tests are offline
    monkeypatch.setattr(prevmatch.run.choosing, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    assert prevmatch.run.choosing._at_hand(SMALL)


def test_records_name_the_encoder_and_a_resumed_run_keeps_it(tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prevmatch.run.choosing, "SMALL", "test_resnet")
    monkeypatch.setattr(prevmatch.run.choosing, "_at_hand", lambda name: False)
    config = dataclasses.replace(AUTO, output_dir=tmp_path / "run", panel_every=0)
    train(config, tiny_data)
    for name in ("config.json", "best/config.json"):
        assert json.loads((tmp_path / "run" / name).read_text())["encoder"] == "test_resnet"
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["config"]["encoder"], result["config"]["encoder_weights"]) == ("test_resnet", "none")
    monkeypatch.setattr(prevmatch.run.choosing, "_at_hand", lambda name: True)
    train(dataclasses.replace(config, resume=True), tiny_data)
    said = capsys.readouterr().out
    assert "encoder auto: test_resnet, as this run began" in said
    assert "resumed after step" in said
