"""Machines that misbehave: full disks, held folders, dying workers, no home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from data.raw_layouts import make_ade20k

from faults.runs import finish, kill_all, outcome, reached, start

ROOT = Path(__file__).parents[2]
TINY = (
    "--encoder test_resnet --encoder_weights none --decoder_channels 8 --low_level_channels 4 --atrous_rates 1 2 3 "
    "--crop_size 33 --epochs 1 --batch_size 2 --num_workers 0 --labelled 2"
)


def last_line(folder):
    return (folder.parent / f"{folder.name}.log").read_text().splitlines()[-1]


def test_second_run_in_the_same_folder_is_refused(tmp_path):
    folder = tmp_path / "run"
    slow = "import prevmatch.loop as m, time; m.score = lambda *a, **k: time.sleep(600)"
    first = start(folder, before=slow)
    assert reached(folder, "output in", process=first)
    assert finish(folder) == 1
    assert f"error: another run is at work in {folder}" in (tmp_path / "run.log").read_text()  # the first writes too
    kill_all(first)
    first.wait()
    assert finish(folder) == 0  # the lock ended with its process


def test_full_disk_during_a_checkpoint_is_told_and_training_goes_on(whole, tmp_path):
    folder = tmp_path / "run"
    before = """
import prevmatch.run.checkpoint as c
real, calls = c.write, []
def full(snapshot, folder):
    calls.append(None)
    if len(calls) in (3, 4):
        raise OSError(28, "No space left on device")
    real(snapshot, folder)
c.write = full
"""
    assert finish(folder, before=before) == 0
    log = (tmp_path / "run.log").read_text()
    assert log.count("could not be written ([Errno 28] No space left on device); the ones before it stay") == 2
    assert outcome(folder) == whole


EVERY_EPOCH_IS_THE_BEST = """
from prevmatch.run.state import TrainState
record = TrainState.record
TrainState.record = lambda self, iou, **_: record(self, iou, newest=True)  # whatever this processor's scores are
"""


def test_disk_that_is_really_full_leaves_the_older_checkpoint(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    assert finish(tmp_path / "undisturbed", before=EVERY_EPOCH_IS_THE_BEST) == 0
    before = f"""{EVERY_EPOCH_IS_THE_BEST}
import prevmatch.loop as m, shutil
real, calls = m.step, []
def filling(*args, **kwargs):
    calls.append(None)
    if len(calls) == 5 and not Path({str(tmp_path / "filled")!r}).exists():
        Path({str(tmp_path / "filled")!r}).touch()
        Path({str(disk / "filler")!r}).write_bytes(b"0" * (shutil.disk_usage({str(disk)!r}).free - 50_000))
    return real(*args, **kwargs)
m.step = filling
"""
    try:
        folder = tmp_path / "run"
        folder.symlink_to(disk)
        status = finish(folder, before=before)
        log = (tmp_path / "run.log").read_text()
        assert "No space left on device" in log
        assert "Traceback" not in log
        assert status == 1  # the best model, of all things, must not be lost silently
        assert "free space or choose another" in last_line(folder)
        (disk / "filler").unlink()
        assert finish(folder, before=before) == 0
        assert outcome(folder) == outcome(tmp_path / "undisturbed")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


DEADLY_SAMPLE = """
import os, time, prevmatch.data.loader as m, prevmatch.loop as loop
real, step = m.TripleDataset._sample, loop.step
def deadly(self, triple):
    if triple.position == 5 and triple.epoch == 1:
        {death}
    return real(self, triple)
def slow(*args, **kwargs):
    time.sleep({seconds})
    return step(*args, **kwargs)
m.TripleDataset._sample, loop.step = deadly, slow
"""


def test_failing_sample_in_a_loader_worker_is_named(tmp_path):
    before = DEADLY_SAMPLE.format(death="raise MemoryError('too large')", seconds=0)
    assert finish(tmp_path / "run", before=before, num_workers=2) == 1
    assert "error: sample 5 of epoch 1, images 'train_00" in last_line(tmp_path / "run")


LOADING, COMPUTING = 0, 0.5
"""Seconds of a step: torch tells a death wherever training then is."""


@pytest.mark.parametrize(
    ("signal", "seconds"),  # signal 7: a full /dev/shm
    [
        (9, LOADING),
        (7, COMPUTING),
        *(pytest.param(*case, marks=pytest.mark.variation) for case in ((7, LOADING), (9, COMPUTING))),
    ],
)
def test_dying_loader_worker_is_one_line(tmp_path, signal, seconds):
    before = DEADLY_SAMPLE.format(death=f"os.kill(os.getpid(), {signal})", seconds=seconds)
    assert finish(tmp_path / "run", before=before, num_workers=2) == 1
    # A helper thread of Python's in the worker may still have something to say after that line.
    # Torch's own line about signal 7 ends with a zero byte.
    log = (tmp_path / "run.log").read_text(errors="replace").replace("\0", "")
    said = [line for line in log.splitlines() if "error: " in line]
    assert len(said) == 1
    assert said[0].startswith("error: a loader process died")
    assert "/dev/shm" in said[0]


def test_read_only_data_and_no_home_are_enough(tmp_path):
    make_ade20k(tmp_path / "raw")
    for path in (tmp_path / "raw").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "recipes/ade20k.py", *TINY.split(), "--data_dir", str(tmp_path / "raw")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HOME": "/nowhere", "HF_HOME": "/nowhere/hf"}
    done = subprocess.run([*command, "--output_dir", str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True,
                          timeout=300, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/result.json").is_file()


def test_output_folder_that_cannot_be_written_is_one_line(tmp_path):
    make_ade20k(tmp_path / "raw")
    done = warm.run("recipes/ade20k.py", *TINY.split(), "--data_dir", tmp_path / "raw", "--output_dir", "/proc/run")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: output_dir /proc/run cannot be written")
    assert "Traceback" not in done.stderr
