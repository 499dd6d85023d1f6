"""Curves: drawn from whatever metrics.jsonl holds, torn or long as it may be."""

import json

import numpy as np
import pytest
from PIL import Image

from prevmatch.share.curves import draw_curves, read_metrics, series, thinned

pytestmark = pytest.mark.usefixtures("drawn_curves")


def write(folder, lines, tail=""):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + tail)
    return folder


def step(number, **values):
    return {"step": number, "lr": 0.1 / number, "loss": 1.0 / number, "supervised": 1.0, **values}


def epoch(number, classes=2, **values):
    iou = [10.0 * number + i % 50 for i in range(classes)]
    return {"step": 10 * number + 9, "epoch": number, "miou": 20.0, "iou": iou, "best_miou": 20.0, **values}


def names(paths):
    return [path.stem for path in paths]


def test_every_kind_of_number_gets_its_picture(tmp_path):
    ratios = {"student/mask_ratio": 0.5, "previous/mask_ratio": 0.25, "student/strong1": 0.3}
    lines = [
        step(9, **ratios),
        epoch(0, bank=1, bank_ages=[1]),
        step(19, **ratios),
        epoch(1, bank=2, bank_ages=[1, 2]),
    ]
    drawn = draw_curves(write(tmp_path, lines), ["_background_", "5$ or $6"])
    assert names(drawn) == ["miou", "class_iou", "loss", "mask_ratio", "bank", "bank_ages", "lr"]
    for path in drawn:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] == 1000
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == sorted(path.name for path in drawn)


def test_supervised_run_has_no_curves_of_what_it_lacks(tmp_path):
    drawn = draw_curves(write(tmp_path, [step(9), epoch(0, bank=0)]), ["a", "b"])
    assert names(drawn) == ["miou", "class_iou", "loss", "lr"]


@pytest.mark.parametrize("content", [None, "", "\n\n", "{", "[1, 2]\n7\n", '{"step": "x", "loss": 1}\n', "\x00\xff"])
def test_missing_empty_or_torn_metrics_draw_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert draw_curves(tmp_path) == []


def test_torn_last_line_loses_only_itself(tmp_path):
    steps, epochs = read_metrics(write(tmp_path, [step(9), epoch(0)], '{"step": 19, "lo') / "metrics.jsonl")
    assert [line["step"] for line in steps] == [9]
    assert [line["epoch"] for line in epochs] == [0]


def test_lines_with_odd_values_are_drawn_without_them(tmp_path):
    odd = [step(9, loss=float("nan")), epoch(0) | {"miou": None, "iou": [1.0]}, epoch(1) | {"iou": [1.0, "x"]}]
    assert draw_curves(write(tmp_path, [*odd, {"step": 3, "epoch": None}, step(19), epoch(2)]))


def test_what_an_interrupted_run_did_after_its_checkpoint_is_forgotten(tmp_path):
    lines = [step(5), step(9, loss=7.0), epoch(0), step(15), step(19), epoch(1), step(7, loss=8.0), step(9), epoch(0)]
    steps, epochs = read_metrics(write(tmp_path, lines) / "metrics.jsonl")
    assert [line["step"] for line in steps] == [5, 7, 9]
    assert [line["step"] for line in epochs] == [9]
    assert series(steps, "loss")[1] == (7, 8.0)


def test_long_curves_keep_mean_and_range():
    rng = np.random.default_rng(0)
    points = list(enumerate(rng.normal(size=10_007).tolist()))
    x, mean, low, high = thinned(points, most=100)
    assert len(x) == 100
    assert (np.diff(x) > 0).all()
    assert low.min() == min(y for _, y in points)
    assert high.max() == max(y for _, y in points)
    assert (low <= mean).all()
    assert (mean <= high).all()


def test_short_curves_stay_as_they_are():
    x, mean, low, high = thinned([(1, 5.0), (4, 7.0)])
    assert (x.tolist(), mean.tolist()) == ([1, 4], [5, 7])
    assert low.tolist() == high.tolist() == mean.tolist()


def test_many_classes_become_rows_that_grow_with_their_number(tmp_path):
    heights = []
    for count in (12, 40, 150):
        run = write(tmp_path / str(count), [epoch(e, classes=count) for e in range(4)])
        heights.append(Image.open(run / draw_curves(run)[1]).height)
    assert heights[0] < heights[1] < heights[2]
