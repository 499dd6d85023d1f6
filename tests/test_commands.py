"""The commands as a user types them: raw folder → prepare → training → evaluate → table cell."""

import json
import subprocess
import sys

import pytest
import warm
from data.raw_layouts import make_ade20k, make_cityscapes, make_coco, make_pascal
from data.test_custom import make as make_custom
from golden_files import SMALL, released_file

from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_source

TINY = (
    "--encoder test_resnet --encoder_weights none --decoder_channels 8 --low_level_channels 4 --atrous_rates 1 2 3 "
    "--crop_size 33 --epochs 1 --batch_size 2 --num_workers 0 --method prevmatch"
)


def prevmatch(*words):
    done = warm.run("prevmatch", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*words):
    done = warm.run("prevmatch", *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def trained(tmp_path, recipe, *words):
    done = warm.run(f"recipes/{recipe}.py", *TINY.split(), "--output_dir", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


OTHERS = [pytest.param(name, marks=pytest.mark.variation) for name in ("cityscapes", "coco", "ade20k")]


@pytest.mark.parametrize("name", ["pascal", *OTHERS])
def test_raw_folder_becomes_a_table_cell(name, tmp_path):
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    {"pascal": make_pascal, "cityscapes": make_cityscapes, "ade20k": make_ade20k,
     "coco": lambda folder: make_coco(folder, masks=False)}[name](raw)  # fmt: skip
    lists = ["--splits_dir", raw / "lists"] if name == "pascal" else []
    said = prevmatch("prepare", name, "--data_dir", raw, "--output_dir", prepared, "--allow_incomplete", *lists)
    assert f"training and 2 validation images in {prepared}" in said
    own = tmp_path / "lists" / name / "own"
    own.mkdir(parents=True)
    ids = load_source(DataConfig(dataset=name, data_dir=prepared)).train["id"]
    (own / "labeled.txt").write_text(f"{ids[0]}.jpg\n{ids[3]}.jpg\n")
    results = tmp_path / "results"
    said = prevmatch(
        "table", "--recipe", f"recipes/{name}.py", "--data_dir", prepared, "--results_dir", results, "--methods",
        "prevmatch", "--encoders", "test_resnet", "--splits", "own", "--seeds", "0",
        f"--args={TINY} --splits_dir {tmp_path / 'lists'} --eval_window None --encoder test_resnet",
    )  # fmt: skip
    assert "| PrevMatch | test_resnet | ours, best epoch |" in said
    assert "(n=1)" in (results / "TABLE.md").read_text()
    run = results / name / "prevmatch-test_resnet-own-seed0"
    assert json.loads((run / "result.json").read_text())["labelled"] == 2
    said = prevmatch("evaluate", run / "best", "--dataset", name, "--data_dir", prepared, "--num_workers", "0",
                     "--output_dir", tmp_path / "scores")  # fmt: skip
    evaluation = json.loads((tmp_path / "scores/evaluation.json").read_text())
    best = json.loads((run / "result.json").read_text())["best_miou"]
    assert evaluation["miou"] == pytest.approx(best, abs=1e-6)
    assert f"| {evaluation['miou']:>5.2f} |" in said.splitlines()[-1]


def test_twenty_photos_with_five_masks_train_without_any_other_file(tmp_path):
    make_custom(tmp_path / "my_data", photos=20, masks=5)
    said = trained(tmp_path, "custom", "--data_dir", tmp_path / "my_data", "--crop_size", "0",
                   "--split_seed", "3")  # fmt: skip
    assert "4 labelled and 15 unlabelled images, 1 for validation, 3 classes" in said
    assert "class   0 class_0" in said
    assert "crops of 65" in said
    said = prevmatch("evaluate", tmp_path / "run", "--num_workers", "0",  # what was held out there, is here
                     "--output_dir", tmp_path / "scores", "--save_maps")  # fmt: skip
    (saved,) = (tmp_path / "scores/maps").glob("**/*.png")
    best = json.loads((tmp_path / "run/result.json").read_text())["best_miou"]
    assert "best on 1 validation images of custom, whole images" in said
    assert f"| {best:>5.2f} |" in said.splitlines()[-1]
    for path in (saved, tmp_path / "scores/evaluation.json"):
        before = path.read_bytes()
        path.write_text("mine")
        message = fails("evaluate", tmp_path / "run", "--num_workers", "0", "--output_dir", tmp_path / "scores",
                        "--save_maps")  # fmt: skip
        assert message.startswith(f"error: {path} is there and was not written by this command")
        assert path.read_text() == "mine"
        path.write_bytes(before)


def test_converted_checkpoint_is_evaluated_and_wrong_data_is_refused(tmp_path):
    path = released_file(SMALL, "resnet50", tmp_path)
    assert "resnet50 for pascal" in prevmatch("convert", path, "--output_dir", tmp_path / "model")
    make_pascal(tmp_path / "voc", val=1)
    data = ["--data_dir", tmp_path / "voc", "--splits_dir", tmp_path / "voc/lists"]
    said = prevmatch("evaluate", tmp_path / "model", "--dataset", "pascal", *data, "--num_workers", "0")
    assert "on 1 validation images of pascal, whole images, fp32" in said
    assert said.count("\n| ") == 21 + 2
    make_ade20k(tmp_path / "ade")
    message = fails("evaluate", tmp_path / "model", "--dataset", "ade20k", "--data_dir", tmp_path / "ade")
    assert message.startswith(f"error: {tmp_path / 'model'} knows 21 classes, but ade20k has 150")


def test_trained_model_segments_folders_and_says_what_it_could_not_read(tmp_path):
    make_custom(tmp_path / "my_data", photos=12, masks=5)
    said = prevmatch("train", *TINY.split(), "--data_dir", tmp_path / "my_data", "--output_dir", tmp_path / "run")
    assert "best mIoU" in said
    command = json.loads((tmp_path / "run/result.json").read_text())["command"]
    assert command.startswith("prevmatch train --encoder test_resnet")
    photos = tmp_path / "my_data/images"
    said = prevmatch("predict", tmp_path / "run", photos, "--output_dir", tmp_path / "out", "--size", "80", "--flip",
                     "--scales", "0.5", "1", "--window", "40", "--device", "cpu", "--ids")  # fmt: skip
    assert "12 of 12 images segmented, ids in" in said
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["ids"]
    (photos / "torn.png").write_bytes(b"")
    assert fails("predict", tmp_path / "run/best", photos, "--output_dir", tmp_path / "maps").startswith(
        "error: 1 of 13 images could not be segmented"
    )
    assert sorted(p.name for p in (tmp_path / "maps").glob("[!.]*")) == ["colour_map", "ids", "overlay"]
    done = warm.run("prevmatch", "predict", tmp_path / "run", photos / "torn.png", "--output_dir", tmp_path / "none")
    assert "segmented, " not in done.stdout  # no folder was made that could be named
    assert "does not exist" in fails("predict", tmp_path / "run", tmp_path / "no", "--output_dir", tmp_path / "x")
    assert "scales is" in fails("predict", tmp_path / "run", photos, "--output_dir", tmp_path / "x", "--scales", "0")


def test_mistakes_are_one_line(tmp_path):
    assert fails("prepare", "pascal", "--output_dir", tmp_path / "x").startswith("error: pascal needs --data_dir")
    assert "is no Pascal folder: it lacks JPEGImages, SegmentationClass" in fails(
        "prepare", "pascal", "--data_dir", tmp_path, "--output_dir", tmp_path / "x"
    )
    make_ade20k(tmp_path / "ade")
    assert "add --allow_incomplete" in fails(
        "prepare", "ade20k", "--data_dir", tmp_path / "ade", "--output_dir", tmp_path / "x"
    )
    assert not (tmp_path / "x").exists()
    assert "does not exist" in fails("convert", tmp_path / "no.pth", "--output_dir", tmp_path / "x")
    assert "is no run's output folder; name the data with --dataset" in fails("evaluate", tmp_path)


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"]])
def test_reader_that_ends_early_ends_the_command_without_a_word(words):
    process = subprocess.Popen(
        [sys.executable, "-m", "prevmatch", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
