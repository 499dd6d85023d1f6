"""Schedules in hours and in steps."""

import dataclasses
import json

import pytest
from accelerate import Accelerator

import prevmatch.run.measuring
from prevmatch.config import TrainConfig
from prevmatch.run.fitting import fit, steps_of
from prevmatch.run.measuring import seconds_per_step, size_to_hours


@pytest.mark.parametrize(("steps", "taken"), [(1, 1), (7, 7), (50, 50), (1300, 1300), (1301, 1323)])
def test_steps_give_the_schedule_up_to_the_next_whole_epoch(tiny_config, tiny_data, steps, taken):
    fitted = fit(dataclasses.replace(tiny_config, steps=steps), tiny_data, 1)
    assert steps_of(fitted, tiny_data, 1) == taken
    assert fitted.epochs <= 50


def test_hours_become_steps_by_what_one_takes(tiny_config, tiny_data, monkeypatch, capsys):
    monkeypatch.setattr(prevmatch.run.measuring, "seconds_per_step", lambda *_: 2.0)
    config = dataclasses.replace(tiny_config, hours=0.5)
    assert size_to_hours(config, tiny_data, Accelerator(cpu=True)).steps == 720
    assert "hours 0.5: 720 steps" in capsys.readouterr().out
    assert size_to_hours(tiny_config, tiny_data, Accelerator(cpu=True)) is tiny_config


def test_a_run_that_goes_on_keeps_its_steps(tiny_config, tiny_data, monkeypatch):
    monkeypatch.setattr(prevmatch.run.measuring, "seconds_per_step", lambda *_: pytest.fail("measured again"))
    config = dataclasses.replace(tiny_config, hours=0.5, resume=True)
    config.output_dir.mkdir()
    (config.output_dir / "config.json").write_text(json.dumps(dataclasses.replace(config, steps=55).to_json()))
    assert size_to_hours(config, tiny_data, Accelerator(cpu=True)).steps == 55


def test_measured_time_grows_with_what_a_method_looks_at(tiny_config, monkeypatch):
    import torch

    clock = iter(range(1000))
    monkeypatch.setattr(prevmatch.run.measuring.time, "perf_counter", lambda: float(next(clock)))
    takes = {
        method: seconds_per_step(dataclasses.replace(tiny_config, method=method), 3, torch.device("cpu"))
        for method in ("supervised", "fixmatch", "unimatch")
    }
    assert 0 < takes["supervised"] < takes["fixmatch"] < takes["unimatch"]
    assert isinstance(TrainConfig().hours, type(None))
