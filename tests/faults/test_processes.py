"""Several processes: killed together, one of them dying, started again by the launcher."""

import time

import pytest

from faults.runs import finish, kill_all, killed_and_resumed, outcome, reached, start

DIE_ONCE = """
import os, time, prevmatch.loop as m
real, calls = m.step, []
def deadly(*args, **kwargs):
    calls.append(None)
    if os.environ["RANK"] == "1" and len(calls) == 8 and not Path({mark!r}).exists():
        Path({mark!r}).touch()
        {death}
    return real(*args, **kwargs)
m.step = deadly
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert finish(folder, processes=2, launcher=None) == 0
    return outcome(folder)


@pytest.mark.soak
def test_two_processes_killed_and_resumed_end_bit_identical(whole, tmp_path):
    killed_and_resumed(tmp_path / "run", 1, seed=2, processes=2)
    assert outcome(tmp_path / "run") == whole


def test_launcher_starts_again_after_a_death_and_the_run_goes_on_bit_identical(whole, tmp_path):
    # It dies late enough for the checkpoint within the epoch, which holds what each process has yet to report.
    before = DIE_ONCE.format(mark=str(tmp_path / "died"), death="time.sleep(2); os._exit(9)")
    assert finish(tmp_path / "run", processes=2, before=before, launcher=["--max_restarts", "2"], resume=False) == 0
    assert "resumed after step" in (tmp_path / "run.log").read_text()
    assert outcome(tmp_path / "run") == whole


@pytest.mark.soak
def test_dying_process_ends_the_others_with_its_error_within_a_minute(tmp_path):
    death = "raise prevmatch.errors.DataError('the disk of rank 1 burns')"
    before = "import prevmatch.errors, prevmatch\n" + DIE_ONCE.format(mark=str(tmp_path / "died"), death=death)
    started = time.monotonic()
    assert finish(tmp_path / "run", processes=2, before=before) != 0
    assert time.monotonic() - started < 90
    assert "error: the disk of rank 1 burns" in (tmp_path / "run.log").read_text()


@pytest.mark.soak
def test_signal_to_all_processes_saves_and_one_process_can_go_on(whole, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, processes=2)
    assert reached(folder, "epoch=2", process=process)
    kill_all(process, 15)
    process.wait(timeout=60)
    assert "stopped: SIGTERM" in (tmp_path / "run.log").read_text()
    assert finish(folder, processes=1, batch_size=2) == 0
    log = (tmp_path / "run.log").read_text()
    assert "NOTE: saved by 2 processes, it goes on in 1: not the same run bit by bit" in log
    assert finish(folder, processes=1, batch_size=2) == 0  # finished runs only report again
