"""Prepared data sets on the Hub: pushed, and trained from by their name."""

import json

from data.raw_layouts import make_ade20k

from hub.server import Repo


def test_prepared_data_set_is_pushed_and_trained_from_by_name(hub, client, tmp_path):
    make_ade20k(tmp_path / "raw")
    done = client("prevmatch", "prepare", "ade20k", "--data_dir", tmp_path / "raw", "--output_dir",
                  tmp_path / "prepared", "--allow_incomplete", "--push_to_hub", "tester/ade")  # fmt: skip
    assert done.returncode == 0, done.stderr
    repo = hub.repos["datasets", "tester/ade"]
    assert repo.private
    _, files = repo.at("main")
    assert sorted(files) == [
        "README.md", "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet",
    ]  # fmt: skip
    done = client(
        "recipes/ade20k.py", "--dataset_name", "tester/ade", "--labelled", "40%", "--encoder", "test_resnet",
        "--encoder_weights", "none", "--decoder_channels", "8", "--crop_size", "33", "--epochs", "1", "--batch_size",
        "2", "--num_workers", "0", "--output_dir", tmp_path / "run", home="elsewhere",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["labelled"], result["unlabelled"], result["validation"]) == (2, 3, 2)


def test_private_data_set_without_token_is_one_line(hub, client, tmp_path):
    hub.repos["datasets", "tester/closed"] = Repo(private=True)
    done = client(
        "recipes/custom.py", "--dataset_name", "tester/closed", "--output_dir", tmp_path / "run", token=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: data set 'tester/closed' cannot be loaded")
    assert "Traceback" not in done.stderr


def test_failed_upload_is_one_line_and_the_same_command_finishes_it(hub, client, tmp_path):
    make_ade20k(tmp_path / "raw")
    command = ("prevmatch", "prepare", "ade20k", "--data_dir", tmp_path / "raw", "--output_dir",
               tmp_path / "prepared", "--allow_incomplete", "--push_to_hub", "tester/ade")  # fmt: skip
    hub.refuse = lambda method, path: 403 if path.endswith("/commit/main") else None
    done = client(*command)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "could not be uploaded to 'tester/ade'" in done.stderr.splitlines()[-1]
    hub.refuse = lambda method, path: None
    assert client(*command).returncode == 0
    assert len(hub.repos["datasets", "tester/ade"].at("main")[1]) == 3
