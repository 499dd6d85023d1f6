"""Programs that tests start: forked from a parent that has imported everything, instead of importing torch anew."""

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "pytest", "tyro", "jinja2", "matplotlib.pyplot", "torch.distributed", "accelerate.tracking", "prevmatch.loop",
    "prevmatch.data.prepare", "prevmatch.use.predict_files", "prevmatch.use.scores", "prevmatch.use.convert",
    "prevmatch.studies.compare", "prevmatch.studies.reproduce", "prevmatch.share.report_page",
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


def start(program, *words, output, errors=None, **environment):
    """Start a file, or `prevmatch` as the command, in a session of its own, with one thread; output is appended."""
    own = {"OMP_NUM_THREADS": "1"}
    before = dict(os.environ)
    os.environ.update(own)  # libraries of threads look once, when the parent loads them
    try:
        FORKS.set_forkserver_preload(list(PRELOADED))
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    argv, kind = [str(program), *map(str, words)], multiprocessing.get_start_method()
    process = FORKS.Process(
        target=_run, args=(argv, str(output), str(errors or output), before | own | environment, kind)
    )  # fmt: skip
    process.start()
    return Program(process)


def run(program, *words, timeout=300, **environment):
    """Run to the end; returns what subprocess.run returns with captured text."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        status = start(program, *words, output=output, errors=errors, **environment).wait(timeout)
        return subprocess.CompletedProcess([program, *words], status, output.read_text(), errors.read_text())


def _run(argv, output, errors, environment, start_method):
    multiprocessing.set_start_method(start_method, force=True)  # not the one that this process was started by
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = argv
    if argv[0] == "prevmatch":
        from prevmatch.cli import main

        main()
    else:
        runpy.run_path(argv[0], run_name="__main__")
