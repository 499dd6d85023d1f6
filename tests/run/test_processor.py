import dataclasses
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from prevmatch.run.launch import start_accelerator
from prevmatch.run.processor import bf16_over_fp32, keep_freed_memory, tell_slow_bf16

PAGES = 64 * 2**20 // 4096
PROGRAM = """
import resource, sys
import torch
from prevmatch.run.processor import keep_freed_memory

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


@pytest.mark.parametrize(
    ("precision", "guides", "times", "remedies"),
    [
        ("bf16", "training", 4.5, ["train with --mixed_precision no"]),
        ("no", "bf16", 4.5, ["leave --guide_precision out"]),
        ("bf16", "bf16", 4.5, ["train with --mixed_precision no", "leave --guide_precision out"]),
        ("bf16", "bf16", 0.5, []),
        ("no", "training", 4.5, []),
    ],
)
def test_slow_bf16_is_told_before_training_where_it_was_asked_for(
    tiny_config, monkeypatch, capsys, precision, guides, times, remedies
):
    monkeypatch.setattr("prevmatch.run.processor.bf16_over_fp32", lambda: times)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(True)
    try:
        start_accelerator(dataclasses.replace(tiny_config, guide_precision=guides))
    finally:
        AcceleratorState._reset_state(True)
    beginning = "WARNING: a convolution in bf16 takes 4.5 times as long as in fp32 on this processor; "
    assert capsys.readouterr().out == (f"{beginning}{' and '.join(remedies)}\n" if remedies else "")


def test_a_gpus_run_is_not_asked_about_the_processor(monkeypatch):
    monkeypatch.setattr("prevmatch.run.processor.bf16_over_fp32", lambda: pytest.fail("was measured"))
    tell_slow_bf16(SimpleNamespace(device=torch.device("cuda"), mixed_precision="bf16"), "bf16")


def test_measuring_leaves_threads_and_random_state_as_they_are():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert bf16_over_fp32(rounds=1) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
