"""A device whose memory runs out: one more attempt in smaller batches, then an error that helps."""

import dataclasses
import json
import shutil

import pytest
import torch

import prevmatch.loop
from prevmatch import train
from prevmatch.errors import ConfigError, TrainingError
from prevmatch.run.memory import REMEDY

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


@pytest.fixture
def runs_out(monkeypatch):
    """Let the first steps raise these errors; returns how many are left."""

    def runs_out(*errors):
        left, step = list(errors), prevmatch.loop.step

        def raising(*args, **kwargs):
            if left:
                raise left.pop(0)
            return step(*args, **kwargs)

        monkeypatch.setattr(prevmatch.loop, "step", raising)
        return left

    return runs_out


@pytest.mark.parametrize(("batch", "smaller", "accumulation"), [(4, 2, 2), (9, 3, 3)])
@pytest.mark.parametrize("error", [CUDA, CPU])
def test_once_it_begins_anew_in_smaller_batches_with_as_many_images_a_step(
    tiny_config, tiny_data, runs_out, capsys, batch, smaller, accumulation, error
):
    left = runs_out(error)
    config = dataclasses.replace(tiny_config, batch_size=batch, epochs=1, epoch_images=18, panel_every=0)
    train(config, tiny_data)
    assert not left
    said = capsys.readouterr().out
    assert f"memory ran out with --batch_size {batch}; training begins anew with --batch_size {smaller}" in said
    written = json.loads((config.output_dir / "config.json").read_text())
    assert (written["batch_size"], written["gradient_accumulation_steps"]) == (smaller, accumulation)
    assert (config.output_dir / "result.json").is_file()


def test_the_same_command_goes_on_in_the_smaller_batches(tiny_config, tiny_data, runs_out, capsys):
    runs_out(CUDA)
    config = dataclasses.replace(tiny_config, batch_size=4, epochs=2, epoch_images=8, panel_every=0)
    train(dataclasses.replace(config, save_total_limit=9), tiny_data)
    shutil.rmtree(sorted((config.output_dir / "checkpoints").glob("step_*"))[-1])
    capsys.readouterr()
    train(dataclasses.replace(config, resume=True), tiny_data)
    said = capsys.readouterr().out
    assert "goes on as it began, with --batch_size 2 --gradient_accumulation_steps 2" in said
    assert "resumed after step 2 " in said


def test_what_cannot_be_helped_is_one_line(tiny_config, tiny_data, runs_out, monkeypatch):
    config = dataclasses.replace(tiny_config, batch_size=4, epochs=1, panel_every=0)
    left = runs_out(CUDA, CPU, CUDA)
    with pytest.raises(TrainingError, match="memory ran out again with --batch_size 2; use a smaller --crop_size"):
        train(config, tiny_data)
    assert len(left) == 1
    again = dataclasses.replace(config, overwrite_output_dir=True)
    for size in (2, 3, 5):
        left[:] = [CUDA]
        with pytest.raises(TrainingError, match=f"--batch_size {size}, which has no half of at least 2") as caught:
            train(dataclasses.replace(again, batch_size=size), tiny_data)
        assert str(caught.value).endswith(REMEDY)
    left[:] = [RuntimeError("shapes differ")]
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(again, tiny_data)
    assert not left
    saved = again.output_dir / "checkpoints/step_7"
    saved.mkdir(parents=True)
    monkeypatch.setattr(prevmatch.loop.Keeper, "resume", lambda *_: (_ for _ in ()).throw(CUDA))
    with pytest.raises(TrainingError, match=r"memory ran out after step_7, .*with --resume goes on"):
        train(dataclasses.replace(again, resume=True), tiny_data)


def test_one_of_several_processes_does_not_begin_anew_alone(monkeypatch, tiny_config):
    from prevmatch.run.memory import _smaller

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="one of several processes; use a --batch_size below 2"):
        _smaller(tiny_config, held=True)


def test_run_that_was_there_stays_where_memory_runs_out_before_the_folder_is_taken(
    tiny_config, tiny_data, monkeypatch
):
    config = dataclasses.replace(tiny_config, batch_size=4, epochs=1, panel_every=0)
    train(config, tiny_data)
    shutil.rmtree(config.output_dir / "checkpoints")
    before = (config.output_dir / "best/model.safetensors").read_bytes()
    build, left = prevmatch.loop.build_students, [torch.OutOfMemoryError("CUDA out of memory")]
    monkeypatch.setattr(
        prevmatch.loop, "build_students", lambda *args: (_ for _ in ()).throw(left.pop()) if left else build(*args)
    )
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config, tiny_data)
    assert not left
    assert (config.output_dir / "best/model.safetensors").read_bytes() == before
