"""Panels show what they should and leave the run as it was."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import divide
from PIL import Image
from safetensors.torch import load_file

from prevmatch import train
from prevmatch.data.sources import TrainingData, table
from prevmatch.share.panels import Answer, Shown, chosen_images, middle, row_of

PALETTE = ((10, 10, 10), (200, 0, 0))


def panels(config):
    return sorted(path.name for path in (config.output_dir / "panels").glob("*"))


def test_training_is_the_same_bit_by_bit_with_and_without_panels(tiny_config, tiny_data, tmp_path, one_thread):
    """Weights, momentum, bank and random states after three epochs, and every line of the metrics."""
    ends = []
    for every in (0, 1):
        config = dataclasses.replace(tiny_config, epochs=3, panel_every=every, output_dir=tmp_path / str(every))
        train(config, tiny_data)
        assert bool(every) == (config.output_dir / "panels").exists()
        last = max((config.output_dir / "checkpoints").glob("step_*"))
        ends.append({str(path.relative_to(last)): load_file(path) for path in last.rglob("*.safetensors")})
        ends[-1]["metrics"] = {"lines": torch.tensor(list((config.output_dir / "metrics.jsonl").read_bytes()))}
    without, with_panels = ends
    assert len(without) >= 5
    assert without.keys() == with_panels.keys()
    for name, tensors in without.items():
        assert tensors.keys() == with_panels[name].keys()
        assert all(torch.equal(tensors[key], with_panels[name][key]) for key in tensors), name


def test_panels_come_every_so_many_epochs_and_after_the_last(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, epochs=5, panel_every=2, method="supervised", eval_every=5)
    train(config, tiny_data)
    assert panels(config) == ["epoch_0002.png", "epoch_0004.png", "epoch_0005.png"]
    assert Image.open(config.output_dir / "panels/epoch_0005.png").mode == "RGB"


def test_tracker_gets_the_panels(tiny_config, tiny_data):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    config = dataclasses.replace(tiny_config, report_to=("tensorboard",), epochs=2, panel_every=1)
    train(config, tiny_data)
    folder = next(config.output_dir.rglob("events.out.tfevents*")).parent
    reader = events.EventAccumulator(str(folder)).Reload()
    assert [event.step for event in reader.Images("panel")] == [3, 6]


def test_drawing_leaves_generators_bank_and_network_untouched(tiny_config, tiny_data, monkeypatch):
    import prevmatch.loop

    real, calls = prevmatch.loop.draw_panel, []

    def watched(state, student, **options):
        previous = student.guides[1]

        def everything():
            tensors = [t.clone() for t in (*student.network.parameters(), *student.network.buffers())]
            generator = previous.bank.state_dict()["generator"]
            return torch.get_rng_state(), np.random.get_state()[1].tolist(), generator, tensors

        before, training = everything(), student.network.training
        real(state, student, **options)
        after = everything()
        assert torch.equal(before[0], after[0])
        assert before[1:3] == after[1:3]
        assert all(torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))
        assert student.network.training is training is True
        calls.append(len(previous.bank))

    monkeypatch.setattr(prevmatch.loop, "draw_panel", watched)
    train(dataclasses.replace(tiny_config, panel_every=1), tiny_data)
    assert calls == [0, 1]


def shown(truth=None):
    return Shown("x", Image.new("RGB", (2, 1), "blue"), truth)


def colours(picture):
    return [tuple(pixel) for pixel in np.asarray(picture).reshape(-1, 3).tolist()]


def ids(*values):
    return np.array([values], dtype=np.uint8)


def test_row_shows_rejected_pixels_white_and_differences_red():
    answers = {
        "student": Answer(ids(0, 1), np.array([[True, False]])),
        "previous": Answer(ids(0, 0), np.array([[False, True]])),
    }
    row = row_of(shown(ids(1, 255)), answers, PALETTE)
    white = (255, 255, 255)
    assert list(row) == [
        "image", "truth", "student", "student, what counts", "previous", "previous, what counts", "they differ",
    ]  # fmt: skip
    assert colours(row["truth"]) == [PALETTE[1], white]
    assert colours(row["student"]) == [PALETTE[0], PALETTE[1]]
    assert colours(row["student, what counts"]) == [PALETTE[0], white]
    assert colours(row["previous, what counts"]) == [white, PALETTE[0]]
    assert colours(row["they differ"])[1] == (220, 30, 60) != colours(row["they differ"])[0]


def test_supervised_run_has_no_pseudo_labels_to_show():
    assert list(row_of(shown(), {"student": Answer(ids(0, 1), None)}, PALETTE)) == ["image", "truth", "student"]


def test_every_guide_has_its_columns(tiny_config, tiny_data, monkeypatch):
    import prevmatch.share.panels

    rows, real = [], prevmatch.share.panels.row_of
    monkeypatch.setattr(prevmatch.share.panels, "row_of", lambda *args: rows.append(real(*args)) or rows[-1])
    config = dataclasses.replace(tiny_config, method="mean_teacher", previous_guidance=True, panel_every=2)
    train(config, tiny_data)
    assert list(rows[0]) == [
        "image", "truth", "student", "teacher", "teacher, what counts", "previous", "previous, what counts",
        "they differ",
    ]  # fmt: skip


def test_without_unlabelled_images_only_validation_ones_are_shown(tiny_config, tiny_source):
    names = [item.name for item in chosen_images(divide(tiny_source, "1_1"), tiny_config)]
    assert len(names) == 2
    assert all(name.startswith("validation ") for name in names)


def test_images_are_the_same_each_time_and_an_unreadable_unlabelled_mask_is_no_obstacle(tiny_config, tiny_data):
    first, again = (chosen_images(tiny_data, tiny_config) for _ in range(2))
    assert [item.name.split()[0] for item in first] == ["validation"] * 2 + ["unlabelled"] * 2
    assert [item.image.tobytes() for item in first] == [item.image.tobytes() for item in again]
    assert all(item.image.size == (33, 33) and item.truth.shape == (33, 33) for item in first)
    rows = tiny_data.unlabelled.to_list()
    broken = table([r["id"] for r in rows], [r["image"] for r in rows], [{"bytes": b"x", "path": None} for _ in rows])
    data = TrainingData(source=tiny_data.source, labelled=tiny_data.labelled, unlabelled=broken)
    assert [item.truth is None for item in chosen_images(data, tiny_config)] == [False, False, True, True]


@pytest.mark.parametrize(("size", "box"), [((10, 6), (3, 1, 7, 5)), ((3, 9), (0, 2, 3, 6)), ((2, 2), (0, 0, 2, 2))])
def test_middle_never_leaves_the_image(size, box):
    assert middle(*size, 4) == box
