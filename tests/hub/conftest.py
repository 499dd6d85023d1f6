"""A Hub on this machine, and client processes that talk to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm

from hub.server import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def client(hub, tmp_path):
    """Run a file or `prevmatch`, or Python code after `-c`, in a process whose Hub is the local one.

    A `fresh` one imports everything itself.
    """

    def run(program, *words, home="home", token=True, fresh=False):
        environment = hub.environment(str(tmp_path / home), token=token)
        if program == "-c":
            code, *words = words
            program = tmp_path / "code.py"
            program.write_text(code)
        if not fresh:
            return warm.run(program, *words, **environment)
        return subprocess.run(
            [sys.executable, *map(str, (program, *words))], cwd=ROOT, capture_output=True, text=True, timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )  # fmt: skip

    return run
