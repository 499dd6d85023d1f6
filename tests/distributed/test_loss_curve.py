"""Without BatchNorm (a ViT with DPT), two processes that share a batch learn what one learns from all of it."""

import json
from pathlib import Path

import pytest
import warm

TRAIN = """
import sys
sys.path.insert(0, {tests!r})
import dataclasses
from pathlib import Path
import prevmatch.loop
from conftest import TINY, divide
from prevmatch.data.shapes import load_shapes

prevmatch.loop.Keeper.save = lambda *args, **options: None
prevmatch.loop.Keeper.save_best = lambda *args, **options: None
# No padding, so that both halves of a batch have as many valid pixels; no feature dropout, which every process draws.
config = dataclasses.replace(
    TINY, output_dir=Path({folder!r}), batch_size={batch_size}, epochs=3, logging_steps=1, method="fixmatch",
    previous_guidance=True, scale_range=(1.0, 1.5), lr=0.05, panel_every=0, encoder="test_vit", crop_size=48,
    gradient_checkpointing={processes} > 1, freeze_encoder={frozen},
)
prevmatch.loop.train(config, divide(load_shapes(train=20, val=2), "1_4"))
"""


def curve(folder, processes, *, frozen):
    script = folder / f"{processes}.py"
    run = folder / f"run{processes}"
    script.write_text(TRAIN.format(
        tests=str(Path(__file__).parents[1]), folder=str(run), batch_size=4 // processes, processes=processes,
        frozen=frozen,
    ))  # fmt: skip
    done = warm.run(script, processes=processes, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.variation)])
def test_two_processes_have_the_loss_curve_of_one(tmp_path, frozen):
    """Also where they compute the blocks twice, or have parameters without a gradient."""
    alone, pair = curve(tmp_path, 1, frozen=frozen), curve(tmp_path, 2, frozen=frozen)
    assert len(alone) == len(pair) == 9
    assert alone[0]["loss"] > alone[-1]["loss"]
    assert any("previous/strong1" in line for line in alone)
    for one, two in zip(alone, pair, strict=True):
        for name in ("loss", "supervised", "student/strong1", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=2e-4, abs=2e-5), (one["step"], name)
