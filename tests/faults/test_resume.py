"""Killed runs go on bit by bit."""

import json
import signal
import subprocess

import pytest
from safetensors.torch import load_file

from faults.runs import finish, kill_all, killed_and_resumed, outcome, reached, start
from prevmatch import Segmenter
from prevmatch.config import SegmenterConfig
from prevmatch.run.checkpoint import join
from prevmatch.writing import write_manifest


def test_run_killed_three_times_ends_bit_identical(whole, tmp_path):
    assert sum(killed_and_resumed(tmp_path / "run", 3, seed=1)) >= 1
    assert outcome(tmp_path / "run") == whole


# Kill exactly there: within an epoch, while a checkpoint is written, in an evaluation, before the best model is kept.
PLACES = {
    "step": "import prevmatch.loop as m; name = 'step'; at = 7",
    "write": "import prevmatch.run.checkpoint as m; name = 'write_manifest'; at = 4",
    "rename": "import prevmatch.writing as m; name = '_flush'; at = 6",
    "evaluation": "import prevmatch.loop as m; name = 'score'; at = 2",
    "records": "import prevmatch.run.resume as m; name = 'Keeper.save_best'; at = 2",
}
KILL = """
{place}
import os, signal, functools
holder = m
for part in name.split(".")[:-1]: holder = getattr(holder, part)
real, calls = getattr(holder, name.split(".")[-1]), []
@functools.wraps(real)
def deadly(*args, **kwargs):
    calls.append(None)
    if len(calls) == at and not Path({mark!r}).exists():
        Path({mark!r}).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(holder, name.split(".")[-1], deadly)
"""


@pytest.mark.parametrize("place", [pytest.param(p, marks=[] if p == "write" else pytest.mark.soak) for p in PLACES])
def test_run_killed_at_a_chosen_place_ends_bit_identical(whole, tmp_path, place):
    before = KILL.format(place=PLACES[place], mark=str(tmp_path / "killed"))
    assert finish(tmp_path / "run", before=before) == -signal.SIGKILL
    assert finish(tmp_path / "run", before=before) == 0
    assert "resumed after step" in (tmp_path / "run.log").read_text()
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.soak) for n in (signal.SIGINT, signal.SIGUSR1))],
)
def test_signal_ends_the_run_in_order_and_it_goes_on_bit_identical(whole, tmp_path, number):
    folder = tmp_path / "run"
    process = start(folder, num_workers=1)
    assert reached(folder, "output in")
    assert reached(folder, "epoch=2", process=process)
    kill_all(process, number)
    assert process.wait(timeout=120) == 75
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert last.startswith(f"stopped: {signal.Signals(number).name}, after step ")
    assert not (folder / "result.json").exists()
    assert finish(folder, num_workers=1) == 0
    assert outcome(folder) == whole


@pytest.mark.soak
def test_time_limit_ends_the_run_with_the_documented_status(whole, tmp_path):
    folder, tries = tmp_path / "run", 0
    while (status := finish(folder, max_hours=0.6 / 3600)) == 75:
        tries += 1
        assert tries < 40
    assert status == 0
    assert tries >= 1
    assert outcome(folder) == whole


def test_second_interrupt_stops_at_once(tmp_path):
    folder = tmp_path / "run"
    slow = "lambda *a, **k: (print('it evaluates', flush=True), time.sleep(600))"
    process = start(folder, before=f"import prevmatch.loop as m, time; m.score = {slow}")
    assert reached(folder, "it evaluates", process=process)
    kill_all(process, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    kill_all(process, signal.SIGINT)
    assert process.wait(timeout=120) == 130


def test_every_torn_file_is_noticed_and_the_checkpoint_before_is_used(whole, finished, tmp_path):
    folder = finished
    names = sorted(path.relative_to(last_checkpoint(folder)) for path in last_checkpoint(folder).rglob("*")
                   if path.is_file())  # fmt: skip
    assert len(names) >= 7
    from prevmatch.run.checkpoint import newest

    for name in names:
        path = last_checkpoint(folder) / name
        content = path.read_bytes()
        for torn in (content[: len(content) // 2], b"", bytes([content[0] ^ 1]) + content[1:]):
            path.write_bytes(torn)
            told = []
            assert newest(folder / "checkpoints", told.append) == sorted((folder / "checkpoints").glob("step_*"))[0]
            assert last_checkpoint(folder).name in told[0]
        path.write_bytes(content)
    (last_checkpoint(folder) / "previous.safetensors").write_bytes(b"torn")
    (folder / "result.json").unlink()
    assert finish(folder) == 0
    assert "is not used: previous.safetensors is missing or damaged" in (tmp_path / "run.log").read_text()
    assert outcome(folder) == whole


def test_other_settings_and_other_images_are_refused_with_their_names(finished, tmp_path):
    folder = finished
    assert finish(folder, lr=0.5, seed=3) == 1
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert "other settings: lr=0.5 (was 0.001), seed=3 (was 0); use those to resume" in last
    assert finish(folder, before="data = divide(load_shapes(train=24, val=4), '1_4')") == 1
    assert "made with other images or another split" in (tmp_path / "run.log").read_text().splitlines()[-1]
    assert finish(folder, save_total_limit=5) == 0  # these may change


def test_checkpoints_hold_no_pickle_and_are_limited(whole_folder):
    folder = whole_folder
    assert len(list((folder / "checkpoints").iterdir())) == 2
    for path in (folder / "checkpoints").rglob("*"):
        assert path.is_dir() or path.suffix in (".json", ".jsonl", ".safetensors")
    plain = json.loads((last_checkpoint(folder) / "state.json").read_text())["memory"]["previous"]
    assert join(plain, load_file(last_checkpoint(folder) / "previous.safetensors"))["epochs"] == [1, 2, 3]


VIT = {"encoder": "test_vit", "crop_size": 48, "optimizer": "adamw"}
GUIDANCE = {
    "teacher": {"method": "unimatch_v2", "ema_decay": 0.9, "score": "ema", "threshold_kind": "classwise", **VIT},
    "temporary": {"method": "dual_teacher", "previous_guidance": True},
    "students": {"method": "co_training", "co_encoders": ("test_convnext", "test_resnet.dct"),
                 "previous_guidance": True, "previous_ensemble": "weights"},
    "outside": {"method": "semivl", "outside_weight": 1.0, "outside_threshold": 0.2, "freeze_encoder": True},
}  # fmt: skip
LATE_ENOUGH = {"epochs": 3}
"""It is killed in the second epoch and goes on into the third, with two versions in the bank."""


@pytest.mark.parametrize("kind", GUIDANCE)
def test_every_guide_goes_on_bit_identical(tmp_path, kind):
    """Killed within an epoch, after a checkpoint in the middle of it."""
    folder, undisturbed, settings = tmp_path / "run", tmp_path / "undisturbed", GUIDANCE[kind] | LATE_ENOUGH
    if kind == "outside":
        model = Segmenter(SegmenterConfig(encoder="test_resnet", num_classes=5, decoder_channels=8))
        model.save_pretrained(tmp_path / "model")
        settings = settings | {"outside_model": str(tmp_path / "model")}
    before = KILL.format(place=PLACES["step"], mark=str(tmp_path / "killed"))
    assert finish(folder, before=before, **settings) == -signal.SIGKILL
    assert finish(folder, before=before, **settings) == 0
    assert "resumed after step" in (tmp_path / "run.log").read_text()
    assert finish(undisturbed, **settings) == 0
    assert outcome(folder) == outcome(undisturbed)


def test_checkpoint_of_another_version_is_refused_in_one_line(finished, tmp_path):
    folder = finished
    for checkpoint in (folder / "checkpoints").glob("step_*"):
        state = json.loads((checkpoint / "state.json").read_text())
        del state["format"]
        (checkpoint / "state.json").write_text(json.dumps(state))
        (checkpoint / "manifest.json").unlink()
        write_manifest(checkpoint)
    (folder / "result.json").unlink()
    assert finish(folder) == 1
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert "was written by another version of prevmatch" in last
    assert "--overwrite_output_dir" in last


def last_checkpoint(folder):
    return sorted((folder / "checkpoints").glob("step_*"))[-1]
