"""What this machine decides of settings left open, and that a run keeps it elsewhere."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from data import exports

from prevmatch import train
from prevmatch.errors import Stopped
from prevmatch.run.here import fit_here


@pytest.fixture
def on(tiny_data):
    """Fitted settings on a device, and what is said there."""

    def on(device, config):
        said = []
        machine = SimpleNamespace(
            is_main_process=True, num_processes=1, device=torch.device(device), print=lambda line: said.append(line)
        )
        return fit_here(config, tiny_data, machine), said

    return on


def test_a_line_says_what_is_smaller_without_a_gpu_and_how_to_have_more(tiny_config, on):
    config = dataclasses.replace(tiny_config, decoder_channels=0)
    fitted, said = on("cpu", config)
    assert fitted.decoder_channels == 64
    assert said == [
        "no GPU: decoder_channels 64 instead of 256, so that training ends within hours; --decoder_channels or a GPU "
        "give more"
    ]
    assert on("cuda", config)[0].decoder_channels == 256
    assert on("cuda", config)[1] == on("cpu", tiny_config)[1] == []


def test_a_run_that_goes_on_elsewhere_keeps_its_sizes_and_its_length(tiny_config, tiny_data, on):
    config = dataclasses.replace(
        tiny_config, decoder_channels=0, image_size=0, crop_size=0, epochs=0, epoch_images=0, resume=True
    )
    begun = on("cpu", config)[0]
    assert on("cuda", config)[0] != begun
    config.output_dir.mkdir()
    (config.output_dir / "config.json").write_text(json.dumps(begun.to_json()))
    assert on("cuda", config)[0] == begun
    longer = dataclasses.replace(config, epochs=7, crop_size=97, resume=True)
    assert (on("cuda", longer)[0].epochs, on("cuda", longer)[0].crop_size) == (7, 97)


def test_training_fits_by_its_device(tiny_config, tiny_data):
    train(dataclasses.replace(tiny_config, decoder_channels=0, epochs=1, panel_every=0), tiny_data)
    for name in ("config.json", "best/config.json"):
        assert json.loads((tiny_config.output_dir / name).read_text())["decoder_channels"] == 64


def test_a_run_goes_on_without_a_photo_that_was_deleted_and_says_that_it_is_another(tmp_path, tiny_config, capsys):
    folder = exports.plain(tmp_path / "mine")
    config = dataclasses.replace(
        tiny_config, dataset="custom", data_dir=folder, epochs=0, crop_size=0, image_size=0, max_hours=1e-9,
        panel_every=0,
    )  # fmt: skip
    with pytest.raises(Stopped):
        train(config)
    begun = (config.output_dir / "config.json").read_text()
    sorted((folder / "images").iterdir())[-1].unlink()
    capsys.readouterr()
    with pytest.raises(Stopped):
        train(dataclasses.replace(config, resume=True))
    said = capsys.readouterr()
    assert "other unlabelled images than before: it goes on, not the same run bit by bit" in said.out + said.err
    now, then = json.loads((config.output_dir / "config.json").read_text()), json.loads(begun)
    assert {name for name in now if now[name] != then[name]} == {"resume"}
