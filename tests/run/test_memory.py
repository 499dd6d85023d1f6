import platform
import subprocess
import sys

import pytest

from prevmatch.run.memory import keep_freed_memory

PAGES = 64 * 2**20 // 4096
PROGRAM = """
import resource, sys
import torch
from prevmatch.run.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    """Pages that the kernel handed out while 64 MiB were taken and freed four times, after twenty other times."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_a_step_freed_serves_the_next_one():
    assert page_faults("given back") > PAGES  # else there is nothing to be gained, and nothing to be tested
    assert page_faults("kept") < PAGES / 10


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked for a library"))
    keep_freed_memory()
