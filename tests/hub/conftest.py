"""A Hub on this machine, and client processes that talk to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.server import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def client(hub, tmp_path):
    """Run Python code, or a module with arguments, in a process whose Hub is the local one."""

    def run(*command, home="home", token=True):
        return subprocess.run(
            [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | hub.environment(str(tmp_path / home), token=token),
        )  # fmt: skip

    return run
