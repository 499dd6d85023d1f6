"""Systems with fewer signals than Linux: their names are taken away, and loader processes are spawned."""

import os
import signal

import pytest

from faults.runs import finish, reached, start
from prevmatch.writing import replace_folder

ABSENT = {
    "macOS": ["signal.sigwaitinfo", "signal.sigtimedwait"],
    "Windows": [
        "signal.SIGUSR1", "signal.SIGUSR2", "signal.SIG_BLOCK", "signal.pthread_sigmask", "signal.sigwait",
        "signal.sigwaitinfo", "signal.sigtimedwait", "os.setpgrp", "os.setsid",
    ],
}  # fmt: skip
SPAWN = 'import multiprocessing; multiprocessing.set_start_method("spawn", force=True)'


@pytest.mark.parametrize(
    ("system", "number"),
    [
        pytest.param("macOS", signal.SIGTERM, marks=pytest.mark.variation),  # all that it lacks, Windows lacks too
        pytest.param("macOS", signal.SIGINT, marks=pytest.mark.soak),
        ("Windows", signal.SIGINT),
    ],
)  # Windows knows no signal from another process; its Ctrl-C reaches every process of a console
def test_run_stops_in_order_and_goes_on(tmp_path, monkeypatch, system, number):
    (tmp_path / "site").mkdir()
    lines = ["import os, signal", *(f"del {name}" for name in ABSENT[system])]
    (tmp_path / "site/sitecustomize.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    folder = tmp_path / "run"
    options = {"num_workers": 1, "epochs": 1, "epoch_images": 80, "before": SPAWN, "fresh": True}
    process = start(folder, **options)
    assert reached(folder, "loss=", process=process), (tmp_path / "run.log").read_text()
    os.killpg(process.pid, number)  # the group, as a terminal or a scheduler does
    assert process.wait(timeout=120) == 75
    assert finish(folder, **options | {"num_workers": 0}) == 0
    log = (tmp_path / "run.log").read_text()
    assert f"stopped: {signal.Signals(number).name}, after step " in log
    assert "Traceback" not in log
    assert (folder / "result.json").is_file()


def test_folder_is_replaced_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    real = os.open

    def refusing(path, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)
    with replace_folder(tmp_path / "model") as aside:
        (aside / "file").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["file"]
