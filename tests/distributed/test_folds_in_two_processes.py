"""Folds in two gloo processes: each mask is counted once, as one process counts it with the same network."""

import json
import sys
from pathlib import Path

import numpy as np
import warm

TRAIN = """
import dataclasses, os, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/studies"]
import numpy as np
import prevmatch.loop
from prevmatch.data.loader import evaluation_loader
from prevmatch.studies.study import study
from test_folds import OWN, make_scenes

folder, first, score = Path({folder!r}), os.environ["RANK"] == "0", prevmatch.loop.score

def twice(student, loader, source, config, accelerator, stop):
    # Both processes look at all images, as one alone would, and then at their shares.
    whole = evaluation_loader(source, image_size=config.image_size, rank=0, processes=1, num_workers=0)
    if (each := score(student, whole, source, config, accelerator, stop)[1]) and first:
        np.save(config.output_dir / "whole.npy", np.stack(each))
    return score(student, loader, source, config, accelerator, stop)

prevmatch.loop.score = twice
study(dataclasses.replace(OWN, data_dir=folder / "data", output_dir=folder / "run", epochs=1))
print("finished", flush=True)
"""


def test_pooled_counts_of_two_processes_are_those_of_one(tmp_path):
    tests = Path(__file__).parents[1]
    sys.path.append(str(tests / "studies"))
    from test_folds import make_scenes

    from prevmatch.studies.folds import pool

    make_scenes(tmp_path / "data", masks=7)  # folds of 3, 2 and 2, so that the shares of a fold differ
    script = tmp_path / "script.py"
    script.write_text(TRAIN.format(tests=str(tests), folder=str(tmp_path)))
    done = warm.run(script, processes=2, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("finished") == 2
    run = tmp_path / "run"
    pooled, _ = pool(run, 3)
    assert sorted(pooled.ids) == [f"{i:02d}" for i in range(7)]
    alone = np.concatenate([np.load(run / f"fold_{k}/whole.npy") for k in (1, 2, 3)])
    assert np.array_equal(pooled.confusions, alone)
    assert pooled.confusions.sum() == 7 * 40 * 40
    assert json.loads((run / "folds.json").read_text())["miou"]["masks"] == 7
