"""The recipes as a user starts them: real processes."""

import os
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import warm

from prevmatch.cli import parse_recipe
from prevmatch.methods import method_of

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.py"))
SMALL = ["--epochs", "1", "--epoch_images", "40", "--num_workers", "0", "--batch_size", "4", "--decoder_channels", "8"]


def start(*command, **environment):
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_needs_no_torch_and_shows_command_and_settings(recipe):
    code = (
        f"import sys, runpy; sys.argv = ['{recipe}', '--help']\n"
        f"try: runpy.run_path('recipes/{recipe}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'datasets' not in sys.modules"
    )
    done = start("-c", code)
    assert done.returncode == 0, done.stderr
    assert "accelerate launch" in done.stdout
    assert f"recipes/{recipe} " in done.stdout
    assert "--previous_guidance" in done.stdout


RIVAL = ["pascal", "cityscapes", "coco", "ade20k"]


@pytest.mark.parametrize(
    ("args", "encoder", "changed"),
    [([], None, False), (["--encoder", "dinov2_base"], "dinov2_base", True),
     (["--method", "unimatch_v2"], "dinov2_small", True), (["--encoder", "resnet101s"], "resnet101s", False),
     (["--method", "unimatch_v2", "--encoder", "resnet101s"], "resnet101s", False),
     (["--encoder", "vit_base_patch14_dinov2.lvd142m"], "vit_base_patch14_dinov2.lvd142m", True)],
)  # fmt: skip
@pytest.mark.parametrize("recipe", RIVAL)
def test_dinov2_brings_the_settings_of_unimatch_v2(recipe, args, encoder, changed):
    values = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))
    default, dinov2 = values[recipe.upper()], values[f"{recipe.upper()}_DINOV2"]
    config = parse_recipe(default, None, values["VARIANTS"], ["--seed", "4", "--previous_threshold", "0.7", *args])
    expected = replace(dinov2 if changed else default, seed=4, previous_threshold=0.7, method=config.method)
    assert config == replace(expected, encoder=encoder or default.encoder)
    # A multiple of its patch, and steps of so many images on four GPUs.
    assert (dinov2.crop_size % 14, 4 * dinov2.batch_size) == (0, dinov2.total_batch_size)
    assert (dinov2.dataset, dinov2.split) == (default.dataset, default.split)


PUBLISHED = {
    ("pascal", "augseg"): {"crop_size": 513, "total_batch_size": 16, "lr": 0.001, "decoder_lr_multiplier": 10,
                           "epochs": 80, "weight_decay": 1e-4, "confidence_threshold": 0.95},
    ("pascal", "cps"): {"crop_size": 512, "total_batch_size": 8, "lr": 0.01, "epochs": 34, "peer_weight": 1},
    ("pascal", "co_training"): {"crop_size": 321, "total_batch_size": 16, "lr": 0.002, "decoder_lr_multiplier": 10,
                                "epochs": 80, "confidence_threshold": 0},
    ("pascal", "semivl"): {"crop_size": 512, "total_batch_size": 8, "lr": 1e-4 * 0.01, "epochs": 80,
                           "weight_decay": 0.01, "outside_weight": 0.1, "outside_threshold": 0.9},
    ("cityscapes", "augseg"): {"crop_size": 800, "total_batch_size": 16, "lr": 0.01, "epochs": 240,
                               "weight_decay": 5e-4, "ohem_min_kept": 100_000, "ema_decay": 0.996},
    ("cityscapes", "cps"): {"crop_size": 800, "total_batch_size": 8, "lr": 0.02, "epochs": 137, "peer_weight": 5},
    ("cityscapes", "co_training"): {"crop_size": 769, "total_batch_size": 8, "lr": 0.005, "epochs": 240},
    ("cityscapes", "semivl"): {"crop_size": 800, "lr": 5e-5 * 0.1, "epochs": round(83_760 * 8 / 2975)},
    ("ade20k", "dual_teacher"): {"crop_size": 512, "lr": 6e-5, "decoder_lr_multiplier": 10, "weight_decay": 0.01,
                                 "warmup_steps": 1500, "epochs": 200, "epoch_images": 50_000 // 200 * 8},
    ("ade20k", "semivl"): {"crop_size": 512, "lr": 4e-4 * 0.001, "epochs": 40},
    ("coco", "semivl"): {"crop_size": 512, "lr": 4e-4 * 0.001, "epochs": 10},
}  # fmt: skip


@pytest.mark.parametrize(("recipe", "method"), PUBLISHED)
def test_a_method_brings_its_published_settings(recipe, method):
    values = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"))
    config = parse_recipe(values[recipe.upper()], None, values["VARIANTS"], ["--method", method])
    expected = PUBLISHED[recipe, method]
    assert {name: getattr(config, name) for name in expected} == pytest.approx(expected)
    assert method_of(config).uses_unlabelled


def test_settings_for_a_convolutional_encoder_and_for_a_plain_vit_are_not_mixed_up():
    values = runpy.run_path(str(ROOT / "recipes" / "pascal.py"))
    parse = partial(parse_recipe, values["PASCAL"], None, values["VARIANTS"])
    augseg = parse(["--method", "augseg", "--encoder", "resnet101s"])
    assert (augseg.crop_size, augseg.encoder) == (513, "resnet101s")
    augseg = parse(["--method", "augseg", "--encoder", "dinov2_small"])
    assert augseg == replace(values["PASCAL_DINOV2"], method="augseg")
    semivl = parse(["--method", "semivl", "--encoder", "resnet101s"])
    assert (semivl.optimizer, semivl.lr) == ("sgd", 0.001)


def test_unknown_setting_is_rejected():
    done = warm.run("recipes/shapes.py", "--colour_jitter", "1")
    assert done.returncode != 0
    assert "colour_jitter" in done.stderr + done.stdout


def test_impossible_setting_is_one_line(tmp_path):
    done = warm.run("recipes/shapes.py", "--epochs", "-1", "--output_dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: epochs is -1 but must be at least 0\n"


def test_wrong_folder_is_one_line_and_leaves_nothing(tmp_path):
    done = warm.run("recipes/camvid.py", "--data_dir", tmp_path, "--output_dir", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path} is no CamVid folder")
    assert not (tmp_path / "out").exists()


def test_recipe_trains_under_accelerate_launch_and_runs_compare(tmp_path):
    runs = []
    for method in ("supervised", "prevmatch"):
        runs.append(str(tmp_path / method))
        words = ["recipes/shapes.py", "--method", method, "--output_dir", runs[-1], *SMALL]
        if method == "prevmatch":
            launch = "accelerate.commands.launch"
            done = start("-m", launch, "--config_file", "accelerate_configs/cpu.yaml", *words)
        else:
            done = warm.run(*words)
        assert done.returncode == 0, done.stderr
        assert "best mIoU" in done.stdout
    done = warm.run("prevmatch", "compare", *runs, "--output_dir", tmp_path / "c", "--count", "3")
    assert done.returncode == 0, done.stderr
    assert "| supervised |" in done.stdout
    assert "| prevmatch  |" in done.stdout
    assert (tmp_path / "c" / "side_by_side_1.png").is_file()
    table = tmp_path / "c" / "TABLE.md"
    assert table.read_text() in done.stdout + "\n"
    table.write_text("mine")
    done = warm.run("prevmatch", "compare", *runs, "--output_dir", tmp_path / "c", "--count", "3")
    assert done.returncode == 1
    assert f"{table} is there and was not written by this command" in done.stderr
    assert table.read_text() == "mine"


def test_compare_without_runs_says_what_it_needs():
    done = warm.run("prevmatch", "compare")
    assert done.returncode == 1
    assert done.stderr == "error: no run is named; give the output folders of finished runs\n"


def test_compare_refuses_an_unfinished_run(tmp_path):
    done = warm.run("prevmatch", "compare", tmp_path)
    assert done.returncode == 1
    assert "no finished run" in done.stderr
