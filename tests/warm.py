"""Programs that tests start: forked from a parent that has imported everything, instead of importing torch anew."""

import importlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "pytest", "tyro", "jinja2", "matplotlib.pyplot", "torch.distributed", "accelerate.tracking", "prevmatch.loop",
    "prevmatch.data.prepare", "prevmatch.use.predict_files", "prevmatch.use.scores", "prevmatch.use.convert",
    "prevmatch.studies.compare", "prevmatch.studies.reproduce", "prevmatch.share.report_page", "prevmatch.cli",
    "typeguard", "einops._torch_specific", "warmed",
)  # fmt: skip
FORKS = multiprocessing.get_context("forkserver")


class Program:
    """A program at work, with what subprocess.Popen has of it."""

    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.process), timeout)
        return self.process.exitcode


def start(program, *words, output, errors=None, processes=1, **environment):
    """Start a file, or `prevmatch` as the command, in a session of its own, with one thread; output is appended.

    Several `processes` find each other as those of torchrun do; if one fails, the others are ended.
    """
    own = {"OMP_NUM_THREADS": "1"}
    before = dict(os.environ)
    os.environ.update(own)  # libraries of threads look once, when the parent loads them
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), *filter(None, [before.get("PYTHONPATH")])])
    try:
        FORKS.set_forkserver_preload(list(PRELOADED))
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    argv, kind = [str(program), *map(str, words)], multiprocessing.get_start_method()
    process = FORKS.Process(
        target=_run, args=(argv, str(output), str(errors or output), before | own | environment, kind, processes)
    )  # fmt: skip
    process.start()
    return Program(process)


def run(program, *words, timeout=300, **environment):
    """Run to the end; returns what subprocess.run returns with captured text."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        status = start(program, *words, output=output, errors=errors, **environment).wait(timeout)
        return subprocess.CompletedProcess([program, *words], status, output.read_text(), errors.read_text())


def _run(argv, output, errors, environment, start_method, processes):
    multiprocessing.set_start_method(start_method, force=True)  # not the one that this process was started by
    os.setsid()
    os.chdir(ROOT)
    of_the_hub = [{k: v for k, v in each.items() if k.startswith("HF_")} for each in (os.environ, environment)]
    os.environ.clear()
    os.environ.update(environment)
    if of_the_hub[0] != of_the_hub[1]:
        _read_hub_settings_again()
    for number, path in ((1, output), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = argv
    if processes == 1:
        _program()
    else:
        _together(processes)


def _program():
    if sys.argv[0] == "prevmatch":
        from prevmatch.cli import main

        main()
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def _together(count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(count))
    forks = multiprocessing.get_context("fork")
    ranks = [forks.Process(target=_as_rank, args=(rank,)) for rank in range(count)]
    for process in ranks:
        process.start()
    while left := [process.sentinel for process in ranks if process.exitcode is None]:
        multiprocessing.connection.wait(left)
        if any(process.exitcode for process in ranks):
            for process in ranks:
                process.kill()
    sys.exit(int(any(process.exitcode for process in ranks)))


def _as_rank(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    _program()


def _read_hub_settings_again():
    """The Hub's client and `datasets` read the environment when they are imported, which the parent did."""
    import datasets.config
    from huggingface_hub import constants, hf_api

    before = {name: value for name, value in vars(constants).items() if name.isupper()}
    for module in (constants, datasets.config):
        importlib.reload(module)
    hf_api.api.endpoint = constants.ENDPOINT
    for module in list(sys.modules.values()):
        for name, value in before.items():
            if getattr(module, "__dict__", {}).get(name, sys) is value:
                setattr(module, name, getattr(constants, name))
