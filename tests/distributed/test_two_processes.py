"""Two gloo processes on one machine against one process."""

import json
from pathlib import Path

import pytest
import warm

TRAIN = """
import dataclasses, json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import TINY, divide
import prevmatch.loop
from prevmatch.bank import PreviousModels
from prevmatch.data.loader import evaluation_loader
from prevmatch.data.shapes import load_shapes
from prevmatch.run.launch import start_accelerator
from prevmatch.methods import method_of
from prevmatch.run.stopping import StopRequest
from prevmatch.run.validation import evaluations, read_validation
from prevmatch.students import build_student

folder = Path({folder!r})
config = dataclasses.replace(TINY, output_dir=folder / "run", batch_size={batch_size}, logging_steps=1, epochs=3)
data = divide(load_shapes(train=16, val=3))

# The validation score of one fixed network.
accelerator = start_accelerator(config)
prevmatch.loop.set_seed(0)
student = build_student(config, method_of(config), data, accelerator)
loader = evaluation_loader(
    data.source, image_size=None, rank=accelerator.process_index, processes=accelerator.num_processes, num_workers=0
)
stop = StopRequest(accelerator, None)
score = prevmatch.loop.score(student, loader, data.source, config, accelerator, stop)[0]

# What each process saw and pushed to its bank in a whole run.
seen, build_views = [], prevmatch.loop.build_views
def watched(batch, *args, **kwargs):
    seen.append(batch["keys"])
    return build_views(batch, *args, **kwargs)
prevmatch.loop.build_views = watched
pushed, push = [], PreviousModels.push
def noted(bank, network, **options):
    push(bank, network, **options)
    pushed.append(sum(t.double().sum().item() for t in bank.state_dict()["models"][-1].values()))
PreviousModels.push = noted
prevmatch.loop.train(config, data)
kept = read_validation(evaluations(folder / "run")[3])
noted = {{"score": score, "pushed": pushed, "seen": seen, "kept": [kept.ids, kept.confusions.sum(2).tolist()]}}
(folder / f"rank{{accelerator.process_index}}.json").write_text(json.dumps(noted))
"""


def run(folder, *, processes, batch_size):
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(TRAIN.format(tests=str(Path(__file__).parents[1]), folder=str(folder), batch_size=batch_size))
    done = warm.run(script, processes=processes, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in range(processes)], lines


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "run", processes=1, batch_size=4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return run(tmp_path_factory.mktemp("pair") / "run", processes=2, batch_size=2)


def test_score_of_one_network_is_exactly_the_same_although_the_image_count_is_odd(alone, pair):
    assert pair[0][0]["score"] == pair[0][1]["score"] == alone[0][0]["score"]


def test_matrices_of_the_images_are_kept_in_the_order_of_the_images(alone, pair):
    ids, pixels = alone[0][0]["kept"]
    assert ids == ["val_0000", "val_0001", "val_0002"]
    assert [sum(image) for image in pixels] == [80 * 80] * 3
    assert pair[0][0]["kept"] == pair[0][1]["kept"] == alone[0][0]["kept"]


def test_both_processes_bank_the_same_models(pair):
    first, second = (rank["pushed"] for rank in pair[0])
    assert len(first) == 2
    assert first == second


def test_two_processes_share_the_samples_that_one_sees_step_by_step_and_epoch_by_epoch(alone, pair):
    [one], (first, second) = alone[0], pair[0]
    assert len({epoch for step in one["seen"] for epoch, _ in step}) == 3
    assert one["seen"] == [[*a, *b] for a, b in zip(first["seen"], second["seen"], strict=True)]


def test_one_process_writes_the_records_of_the_same_steps(alone, pair):
    assert (
        [line["step"] for line in alone[1]]
        == [line["step"] for line in pair[1]]
        == [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9]
    )
