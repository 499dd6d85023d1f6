"""Folds: runs like any other, whose numbers together are those of all masks."""

import dataclasses
import html
import json
import shutil
import signal

import numpy as np
import pytest
import torch
import warm
from conftest import TINY
from PIL import Image

from prevmatch.config import TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.data.shapes import draw_scene
from prevmatch.errors import ConfigError, DataError, Stopped
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.validation import POOLED, evaluations, read_validation
from prevmatch.studies.compare import compare
from prevmatch.studies.folds import pool, sensible_epochs
from prevmatch.studies.gain import gain
from prevmatch.studies.study import next_step, study
from prevmatch.studies.suggest import suggest


def make_scenes(folder, photos=10, masks=6):
    """Own data: a few scenes of `shapes`, some with masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(photos):
        image, mask = draw_scene(np.random.default_rng((7, i)), 40)
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        if i < masks:
            Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
    return folder


OWN = dataclasses.replace(
    TINY,
    dataset="custom",
    epochs=2,
    epoch_images=4,
    panel_every=0,
    method="fixmatch",
    num_workers=0,
    allow_absent_classes=True,
    folds=3,
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    config = dataclasses.replace(OWN, data_dir=make_scenes(folder / "data"), output_dir=folder / "run", twin=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order, so that equal runs give equal bits
    lines = study(config)
    torch.set_num_threads(threads)
    return config, lines


def test_every_mask_is_scored_once_by_a_network_that_never_saw_it(studied):
    config, _ = studied
    validation, fold = pool(config.output_dir, 3)
    assert sorted(validation.ids) == [f"{i:02d}" for i in range(6)]
    for number in (1, 2, 3):
        own = dataclasses.replace(config, fold=number)
        data = load_training_data(own)
        held_out = {name for name, k in zip(validation.ids, fold, strict=True) if k == number}
        assert set(data.val["id"]) == held_out
        assert not held_out & {*data.labelled["id"], *data.unlabelled["id"]}
        assert len(data.labelled) == 6 - len(held_out)


def test_pooled_numbers_are_those_of_counting_pixels_one_by_one(studied):
    config, _ = studied
    count = np.zeros((5, 5))
    for number in (1, 2, 3):
        data = load_training_data(dataclasses.replace(config, fold=number))
        network = Segmenter.from_pretrained(config.output_dir / f"fold_{number}" / "best")
        for row in data.val:
            image, mask = read_pair(row, data.source)
            np.add.at(count, (np.asarray(mask).ravel(), network.predict(image).ravel()), 1)
    result = json.loads((config.output_dir / "result.json").read_text())
    known = np.flatnonzero(count.sum(1))
    iou = [100 * count[c, c] / (count[c].sum() + count[:, c].sum() - count[c, c]) for c in known]
    names = list(result["class_iou"])
    assert [result["class_iou"][names[c]] for c in known] == pytest.approx(iou, abs=0.2)
    assert result["best_miou"] == result["interval"]["value"]
    assert result["interval"]["masks"] == 6


def test_final_model_learns_from_all_masks_and_nothing_is_chosen_on_them(studied):
    config, _ = studied
    result = json.loads((config.output_dir / "result.json").read_text())
    assert (result["labelled"], result["validation"]) == (6, 0)
    assert (config.output_dir / "best" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert not any("miou" in line for line in lines)
    for number in (1, 2, 3):
        fold = json.loads((config.output_dir / f"fold_{number}" / "result.json").read_text())
        assert fold["best_miou"] == fold["final_miou"]


def test_number_is_told_with_its_interval_and_so_is_the_answer_about_the_twin(studied):
    config, lines = studied
    told = json.loads((config.output_dir / "folds.json").read_text())["told"]
    assert "from 6 masks, each scored by a network that never saw it" in told
    assert told in lines[0]
    assert lines[1].startswith("did the unlabelled photos help, against labels only for as many steps? ")
    assert gain([config.output_dir], [config.output_dir / "twin"]).masks == 6
    twin = TrainConfig.from_json(json.loads((config.output_dir / "twin" / "fold_1" / "config.json").read_text()))
    assert (twin.method, twin.epochs, twin.fold) == ("supervised", 2, 1)


def test_finished_folds_are_not_trained_again(studied, monkeypatch):
    config, lines = studied
    weights = (config.output_dir / "fold_2" / "best" / "model.safetensors").read_bytes()
    monkeypatch.setattr("prevmatch.loop.step", None)
    again = study(dataclasses.replace(config, resume=True, twin=False))
    assert again[0].partition(";")[0] == lines[0].partition(";")[0]
    assert again[1:] == lines[1:]  # the twins that are there still answer
    assert (config.output_dir / "fold_2" / "best" / "model.safetensors").read_bytes() == weights


def test_fold_that_was_stopped_goes_on_bit_by_bit_and_the_final_model_waits_for_all(studied, tmp_path, one_thread):
    config, _ = studied
    alone = dataclasses.replace(config, output_dir=tmp_path / "run", fold=2, twin=False)
    with pytest.raises(Stopped, match=r"max_hours, after step 1; .*--resume"):
        study(dataclasses.replace(alone, max_hours=1e-7))
    (told,) = study(dataclasses.replace(alone, resume=True))
    assert told.endswith("/run/fold_2; the final model is --fold 0, once all 3 folds are finished")
    runs = [tmp_path / "run" / "fold_2", config.output_dir / "fold_2"]
    weights, matrices = zip(
        *(((run / "best/model.safetensors").read_bytes(), read_validation(evaluations(run)[2])) for run in runs),
        strict=True,
    )
    assert weights[0] == weights[1]
    assert matrices[0].ids == matrices[1].ids
    assert np.array_equal(matrices[0].confusions, matrices[1].confusions)
    with pytest.raises(DataError, match=r"fold_1 is no finished run; train it with --folds 3 --fold 1"):
        study(dataclasses.replace(alone, fold=0))


def test_folds_of_different_length_are_not_pooled(studied, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(studied[0].output_dir, run, ignore=shutil.ignore_patterns("checkpoints", "twin*"))
    other = run / "fold_3" / "config.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"epoch_images": 6}))
    with pytest.raises(DataError, match="for different lengths, fold 1 on 8 images and fold 3 on 12; train"):
        study(dataclasses.replace(studied[0], output_dir=run, fold=0, twin=False, overwrite_output_dir=True))


def test_fold_counts_by_its_last_epoch_alone(studied, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(studied[0].output_dir, run, ignore=shutil.ignore_patterns("checkpoints", "twin*"))
    (run / "fold_2/validation/epoch_0002.npz").rename(run / "fold_2/validation/epoch_0001.npz")
    with pytest.raises(DataError, match=r"fold_2/validation/epoch_0002\.npz is missing or damaged"):
        pool(run, 3)


def test_folds_of_more_than_can_be_noted_and_twins_that_tell_nothing_are_refused_before_training(
    studied, tmp_path, monkeypatch
):
    config = dataclasses.replace(studied[0], output_dir=tmp_path / "run", twin=False)
    with pytest.raises(ConfigError, match="twin with 2 folds could not be told from chance; use --folds 3"):
        study(dataclasses.replace(config, folds=2, twin=True))
    with pytest.raises(ConfigError, match="hours and steps both size the schedule; name one of them"):
        study(dataclasses.replace(config, hours=1, steps=5))
    monkeypatch.setattr("prevmatch.run.validation.MOST_CELLS", 49)
    with pytest.raises(ConfigError, match=r"too much for 2 masks of 5 classes in a fold; leave --folds out"):
        study(config)
    assert not (tmp_path / "run").exists()


def test_one_fold_alone_is_no_answer_and_other_folds_are_not_compared(studied, tmp_path):
    config, _ = studied
    table = compare([config.output_dir / "fold_1", config.output_dir / "twin/fold_1"], tmp_path / "one")
    assert "of the methods: cannot be told from one training each" in table
    assert "seeds" not in compare([config.output_dir, config.output_dir], tmp_path / "twice")
    other = tmp_path / "run"
    shutil.copytree(config.output_dir / "twin", other, ignore=shutil.ignore_patterns("checkpoints"))
    path = other / "folds.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"masks": dict.fromkeys(content["masks"], 1)}))
    with pytest.raises(DataError, match="have other folds; compare runs with the same masks in each fold"):
        gain([config.output_dir], [other])
    assert "cannot be told: " in compare([config.output_dir, other], tmp_path / "other")


def test_a_fold_by_itself_is_as_long_as_those_that_are_finished(studied, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(studied[0].output_dir / "fold_1", run / "fold_1")
    study(dataclasses.replace(studied[0], output_dir=run, fold=2, twin=False, epochs=0, hours=9.0))
    assert "as long as fold_1: " in capsys.readouterr().out
    assert json.loads((run / "fold_2" / "config.json").read_text())["epochs"] == 2


KILLED = """
import json, os, signal, time
from pathlib import Path
import prevmatch.loop
from prevmatch.config import TrainConfig
from prevmatch.studies.study import next_step, study

real, calls, killed, checkpoint = prevmatch.loop.step, [], Path({mark!r}), Path({checkpoint!r})

def deadly(*args, **kwargs):
    calls.append(None)
    if len(calls) == 8 and not killed.exists():  # the second fold's last step, four steps after its beginning
        killed.touch()
        end = time.monotonic() + 60
        while not checkpoint.is_dir() and time.monotonic() < end:  # it is written beside training
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

prevmatch.loop.step = deadly
study(TrainConfig.from_json(json.loads(Path({settings!r}).read_text())))
"""


def test_study_killed_within_a_fold_comes_to_the_same_numbers_bit_by_bit(studied, tmp_path):
    config, _ = studied
    run = tmp_path / "run"
    again = dataclasses.replace(config, output_dir=run, twin=False, resume=True)
    (tmp_path / "settings.json").write_text(json.dumps(again.to_json()))
    script = tmp_path / "script.py"
    checkpoint = run / "fold_2/checkpoints/step_00000002"
    script.write_text(
        KILLED.format(
            mark=str(tmp_path / "killed"), checkpoint=str(checkpoint), settings=str(tmp_path / "settings.json")
        )
    )
    assert warm.start(script, output=tmp_path / "log").wait(timeout=240) == -signal.SIGKILL
    assert not (run / "fold_2" / "result.json").exists()
    assert warm.start(script, output=tmp_path / "log").wait(timeout=240) == 0
    assert "resumed after step 2" in (tmp_path / "log").read_text()
    first, second = (read_validation(folder / POOLED) for folder in (config.output_dir, run))
    assert first.ids == second.ids
    assert np.array_equal(first.confusions, second.confusions)
    for name in ("folds.json", "best/model.safetensors", "fold_2/metrics.jsonl"):
        assert (run / name).read_bytes() == (config.output_dir / name).read_bytes()


def confusions(rng, skill, count=12):
    right = rng.binomial(200, skill, (count, 3))
    found = np.zeros((count, 3, 3), dtype=np.int64)
    for c in range(3):
        found[:, c, c], found[:, c, (c + 1) % 3] = right[:, c], 200 - right[:, c]
    return found


def test_schedule_is_shortened_only_where_the_folds_were_clearly_better():
    rng, fold = np.random.default_rng(0), np.repeat([1, 2, 3, 4], 3)
    flat = {epoch: confusions(rng, 0.8) for epoch in range(1, 20)}
    assert sensible_epochs(flat, fold)[0] == 19
    overfitted = {1: confusions(rng, 0.6), 2: confusions(rng, 0.9), 3: confusions(rng, 0.7)}
    epochs, why = sensible_epochs(overfitted, fold)
    assert epochs == 2
    assert "clearly above" in why


def test_folds_that_cannot_be_are_refused(tmp_path):
    config = dataclasses.replace(OWN, data_dir=make_scenes(tmp_path / "data", masks=3), folds=5, fold=1)
    with pytest.raises(DataError, match=r"folds is 5, but 3 images have a mask"):
        load_training_data(config)
    with pytest.raises(ConfigError, match="fold is 6 but must lie in"):
        dataclasses.replace(OWN, folds=5, fold=6)
    with pytest.raises(ConfigError, match="folds divide the masks of own data"):
        load_training_data(dataclasses.replace(TINY, folds=5, fold=1))


def test_page_and_files_say_what_the_terminal_says(studied):
    config, lines = studied
    page = (config.output_dir / "report.html").read_text()
    study_json = json.loads((config.output_dir / "study.json").read_text())
    told = json.loads((config.output_dir / "result.json").read_text())["told"]
    assert told in lines[0]
    for line in (told, *study_json["helped"].values(), study_json["next_step"]):
        assert line in html.unescape(page)
    assert lines[-1] == f"next: {study_json['next_step']}"
    assert page.index("from 6 masks") < page.index("Curves")
    assert {row["image"] for row in study_json["suspicious"]} == {f"{i:02d}" for i in range(6)}
    assert set(study_json["pseudo_labels"]["guides"]) == {"student"}
    assert (config.output_dir / "suspicious.png").is_file()


def test_suggestions_are_the_same_each_time_and_of_unlabelled_photos(studied, tmp_path):
    config, _ = studied
    first, again = (suggest(config.output_dir, tmp_path / name, count=3) for name in ("a", "b"))
    assert first == again
    names = [row["image"] for row in first]
    assert len(set(names)) == 3
    assert set(names) <= {f"{i:02d}" for i in range(6, 10)}
    for name in names:
        assert (tmp_path / "a/images" / f"{name}.png").is_file()
        assert (tmp_path / "a/images" / f"{name}.json").read_text() == (
            tmp_path / "b/images" / f"{name}.json"
        ).read_text()
        assert name in (tmp_path / "a/suggestions.html").read_text()


def test_suggestions_replace_earlier_ones_but_nothing_of_the_user(studied, tmp_path):
    run, folder = studied[0].output_dir, tmp_path / "out"
    names = [row["image"] for row in suggest(run, folder, count=2)]
    (one,) = (row["image"] for row in suggest(run, folder, count=1))
    assert [path.stem for path in (folder / "images").glob("*.png")] == [one]
    label = folder / "images" / f"{one}.json"
    label.write_text("corrected by hand")
    for count in (1, 2):
        with pytest.raises(
            ConfigError, match=r"\.json is there and .* was changed since; choose another output_dir, or add"
        ):
            suggest(run, folder, count=count)
    assert label.read_text() == "corrected by hand"
    suggest(run, folder, count=2, overwrite=True)
    assert {path.stem for path in (folder / "images").glob("*.json")} == set(names)
    other = tmp_path / "data"
    (other / "images").mkdir(parents=True)
    (other / "images" / f"{one}.png").write_bytes(b"a photo")
    (other / "notes.txt").touch()
    with pytest.raises(ConfigError, match="was not written by this command"):
        suggest(run, other, count=1)
    assert sorted(path.name for path in other.rglob("*") if path.is_file()) == [f"{one}.png", "notes.txt"]


def test_suggestions_come_from_as_many_photos_as_may_be_looked_at(studied, tmp_path, capsys):
    config, _ = studied
    found = suggest(config.output_dir, tmp_path / "few", count=3, limit=2)
    assert {row["image"] for row in found} == {"06", "09"}
    assert (
        "looking at 2 of 4 unlabelled photos, spread evenly by name; --limit 0 looks at all" in capsys.readouterr()[0]
    )


def test_comparison_says_whether_the_difference_means_anything(studied, tmp_path):
    config, _ = studied
    table = compare([config.output_dir, config.output_dir / "twin"], tmp_path / "comparison")
    assert "mIoU in % on 6 images, each scored by a network that never saw it" in table
    assert "is fixmatch better than supervised? " in table


@pytest.mark.parametrize(
    ("helped", "advice", "step"),
    [
        ("did the unlabelled photos help? no: use --method supervised (-4.6 [-9.8, -0.8])", ["x"], "use --method sup"),
        ("did the unlabelled photos help? yes, +3.1 [1.2, 5.0]", ["lower x"], "lower x"),
        ("did the unlabelled photos help? yes, +3.1 [1.2, 5.0]", [], "label what is in doubt: prevmatch suggest "),
    ],
)
def test_next_step_follows_from_what_helped(tmp_path, helped, advice, step):
    found = {"helped": {"twin": helped}, "pseudo_labels": {"advice": advice}, "suspicious": []}
    result = {"told": "", "unlabelled": 8, "labelled": 4, "validation": 2}
    assert next_step(tmp_path, TrainConfig(folds=3), result, found).startswith(step)


def test_as_many_folds_are_advised_as_there_are_masks(tmp_path):
    result = {"told": "9 ± 9 from 1 mask: --folds 3 gives a number to rely on", "labelled": 2, "validation": 1}
    assert next_step(tmp_path, TrainConfig(), result, {}) == "add --folds 3, for a number to rely on"
