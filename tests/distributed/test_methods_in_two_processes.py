"""Methods with several networks in two gloo processes: both hold the same ones after every step."""

import json
from pathlib import Path

import warm

TRAIN = """
import dataclasses, json, os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import prevmatch.loop
from conftest import TINY, divide
from prevmatch.config import SegmenterConfig
from prevmatch.data.shapes import load_shapes
from prevmatch.models.segmenter import Segmenter

folder, rank = Path({folder!r}), int(os.environ["RANK"])
model = Segmenter(SegmenterConfig(encoder="test_resnet", num_classes=5, decoder_channels=8))
model.save_pretrained(folder / f"model{{rank}}")
data, sums, follow = divide(load_shapes(train=16, val=2)), [], prevmatch.loop.follow

def noted(students, labelled, mask, outcome):
    follow(students, labelled, mask, outcome)
    networks = [network for student in students for network in student.networks.values()]
    sums.append([sum(p.double().abs().sum().item() for p in network.parameters()) for network in networks])

prevmatch.loop.follow = noted
for method, settings in {methods!r}.items():
    if "outside_model" in settings:
        settings = settings | {{"outside_model": str(folder / "model0")}}
    config = dataclasses.replace(TINY, output_dir=folder / method, method=method, epochs=2, panel_every=0, **settings)
    prevmatch.loop.train(config, data)
(folder / f"rank{{rank}}.json").write_text(json.dumps(sums))
"""
METHODS = {
    "augseg": {},
    "dual_teacher": {"previous_guidance": True},
    "cps": {},
    "co_training": {"co_encoders": ("test_resnet.dct", "test_convnext")},
    "semivl": {"outside_model": "", "outside_threshold": 0.2},
}


def test_both_processes_hold_the_same_networks_after_every_step(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TRAIN.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), methods=METHODS))
    done = warm.run(script, processes=2, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert [len(step) for step in first[::6]] == [2, 2, 2, 3, 1]
    assert len({tuple(step) for step in first}) == len(first) == 30
    for method in METHODS:
        result = json.loads((tmp_path / method / "result.json").read_text())
        assert result["config"]["method"] == method
