"""Scores of a finished model: what a user names is what is evaluated, and classes that do not occur are shown so."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from conftest import TINY
from data.raw_layouts import halves, mask, photo

from prevmatch import train
from prevmatch.config import DataConfig
from prevmatch.errors import DataError, PrevMatchError
from prevmatch.share.report_page import write_report
from prevmatch.use.scores import of_run, score

SIZE = (40, 30)


def make(folder, part, values, count=3):
    for i in range(count):
        photo(folder / "images" / part / f"{part or 'a'}{i}.png", SIZE, seed=i + 10 * len(part))
        mask(folder / "masks" / part / f"{part or 'a'}{i}.png", halves(SIZE, *values), palette=False)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on own data whose validation masks lack class 7."""
    folder = tmp_path_factory.mktemp("scores")
    make(folder / "mine", "train", (0, 3, 7))
    make(folder / "mine", "val", (0, 3), count=2)
    config = dataclasses.replace(
        TINY, dataset="custom", data_dir=folder / "mine", method="supervised", epochs=1, output_dir=folder / "run",
        panel_every=0,
    )  # fmt: skip
    return train(config)


def test_class_that_does_not_occur_is_absent_and_left_out_of_the_mean(run):
    assert run.class_iou["class_7"] is None
    there = [run.class_iou["class_0"], run.class_iou["class_3"]]
    assert run.best_miou == pytest.approx(np.mean(there))
    assert "mean over the 2 of 3 classes that occur" in run.line()
    assert json.loads((run.output_dir / "result.json").read_text())["class_iou"]["class_7"] is None
    page = re.sub(r"<[^>]*>|\s+", " ", write_report(run.output_dir).read_text())
    assert re.search(r"class_7 +absent", page)
    assert "the 2 of 3 classes that occur in the validation masks" in re.sub(" +", " ", page)


def test_evaluating_a_run_gives_its_own_score_with_absent_classes(run):
    meant = of_run(str(run.output_dir), DataConfig())
    evaluation = score(meant.model, meant.data, num_workers=0)
    assert evaluation.miou == pytest.approx(run.best_miou, abs=1e-4)
    assert evaluation.images == 2
    assert "| class_7 | absent |" in evaluation.table()
    assert "mean over the 2 of 3 classes that occur" in evaluation.table().splitlines()[0]


@pytest.mark.parametrize(
    ("values", "images"), [((0, 3, 7), 4), ((7, 0), 4), ((0, 3, 255), 4)], ids=["all", "some", "ignored"]
)
def test_other_data_is_what_is_evaluated_all_of_it_and_by_the_classes_of_the_model(run, tmp_path, values, images):
    make(tmp_path, "", values, count=4)
    meant = of_run(str(run.output_dir), DataConfig(data_dir=tmp_path), {"data_dir"})
    assert meant.apart
    evaluation = score(meant.model, meant.data, apart=True, num_workers=0)
    assert evaluation.images == images
    occurring = {f"class_{value}" for value in values if value != 255}
    assert {name for name, value in evaluation.class_iou.items() if value is not None} == occurring
    assert str(tmp_path) in evaluation.table().splitlines()[0]
    assert "layout: images/ and masks/" in evaluation.notes


def test_images_that_the_run_held_out_are_scored_however_many_masks_there_are_now(tmp_path):
    data = make(tmp_path / "mine", "", (0, 1, 2), count=6)
    config = dataclasses.replace(
        TINY,
        dataset="custom",
        data_dir=data,
        method="supervised",
        epochs=1,
        output_dir=tmp_path / "run",
        panel_every=0,
    )
    run = train(config)
    for i in range(6, 20):
        photo(data / "images" / f"a{i:02d}.png", SIZE, seed=i)
        mask(data / "masks" / f"a{i:02d}.png", halves(SIZE, 0, 1, 2), palette=False)
    meant = of_run(str(run.output_dir), DataConfig())
    assert len(meant.held_out) == 1
    evaluation = score(meant.model, meant.data, held_out=meant.held_out, num_workers=0)
    assert evaluation.miou == pytest.approx(run.best_miou, abs=1e-4)
    assert evaluation.notes[0].startswith("on the 1 images that the run held out")
    for gone in ("masks", "images"):
        (data / gone / f"{meant.held_out[0]}.png").unlink()
        with pytest.raises(DataError, match="1 of the 1 images that the run held out, or their masks, are gone"):
            score(meant.model, meant.data, held_out=meant.held_out, num_workers=0)


def test_damaged_settings_of_a_run_are_named(run, tmp_path):
    shutil.copytree(run.output_dir, tmp_path / "run")
    for content in ("{", "[]"):
        (tmp_path / "run" / "config.json").write_text(content)
        with pytest.raises(PrevMatchError, match=r"config\.json"):
            of_run(str(tmp_path / "run"), DataConfig())


def test_other_data_with_other_values_or_names_is_refused(run, tmp_path):
    make(tmp_path / "a", "", (0, 3, 5))
    meant = of_run(str(run.output_dir), DataConfig(data_dir=tmp_path / "a"), {"data_dir"})
    with pytest.raises(DataError, match=r"hold the value 5, but the model knows 0, 3, 7"):
        score(meant.model, meant.data, apart=True, num_workers=0)
    make(tmp_path / "b", "", (0, 1, 2))
    (tmp_path / "b" / "classes.txt").write_text("soil\nleaf\nstem\n")
    meant = of_run(str(run.output_dir), DataConfig(data_dir=tmp_path / "b"), {"data_dir"})
    with pytest.raises(DataError, match=r"knows the classes class_0, class_3, class_7, but the data has soil"):
        score(meant.model, meant.data, apart=True, num_workers=0)


def test_validation_part_of_other_data_goes_before_its_other_masks(run, tmp_path):
    make(tmp_path, "train", (0, 3, 7))
    make(tmp_path, "val", (0, 3, 7), count=2)
    meant = of_run(str(run.output_dir), DataConfig(data_dir=tmp_path), {"data_dir"})
    assert score(meant.model, meant.data, apart=True, num_workers=0).images == 2


def test_another_share_of_the_same_data_is_taken_and_said_to_flatter(run):
    meant = of_run(str(run.output_dir), DataConfig(val_part="train"), {"val_part"})
    assert meant.data.val_part == "train"
    assert not meant.apart
    assert "val_part" in meant.note
    assert of_run(str(run.output_dir), DataConfig()).note == ""


def test_a_data_set_by_name_replaces_the_runs_folder(run):
    meant = of_run(str(run.output_dir), DataConfig(dataset_name="user/name"), {"dataset_name"})
    assert (meant.data.dataset_name, meant.data.data_dir, meant.apart) == ("user/name", None, True)


def test_warnings_about_the_data_come_again_at_the_end(tmp_path):
    make(tmp_path / "mine", "train", (0, 3, 7))
    make(tmp_path / "mine", "val", (0, 3, 7), count=2)
    (tmp_path / "mine/images/val/val0.png").write_bytes((tmp_path / "mine/images/train/train0.png").read_bytes())
    config = dataclasses.replace(
        TINY, dataset="custom", data_dir=tmp_path / "mine", method="supervised", epochs=1, panel_every=0,
        output_dir=tmp_path / "run",
    )  # fmt: skip
    result = train(config)
    assert result.line().startswith("WARNING: 1 validation images are training images too")
    assert "WARNING: 1 validation images are training images too" in (tmp_path / "run/report.html").read_text()
