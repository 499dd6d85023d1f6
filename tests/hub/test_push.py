"""Models published: after training and by command, again, after failures, and as a Space."""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, RepoCard
from PIL import Image

from prevmatch import Segmenter, train
from prevmatch.errors import ConfigError
from prevmatch.ownership import OwnFiles
from prevmatch.share.space import write_space
from prevmatch.writing import write_text

FILES = {"README.md", "config.json", "model.safetensors"}
TINY = (
    "recipes/shapes.py", "--split", "1_64", "--decoder_channels", "8", "--low_level_channels", "4",
    "--crop_size", "33", "--epochs", "1", "--epoch_images", "8", "--num_workers", "0", "--panel_every", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny_source, tmp_path_factory):
    from conftest import TINY as CONFIG
    from conftest import divide

    config = dataclasses.replace(CONFIG, output_dir=tmp_path_factory.mktemp("push") / "run", panel_every=1)
    train(config, divide(tiny_source))
    return config.output_dir


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def files(hub, name="tester/shapes-model"):
    return hub.repos["models", name].at("main")[1]


def checksums(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def last_line(done):
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def push(client, *words, **options):
    return client("prevmatch", "push", *words, **options)


def test_run_is_pushed_after_training_and_pulled_elsewhere(hub, client, tmp_path):
    run = tmp_path / "run"
    words = ["--output_dir", run, "--push_to_hub", "--hub_model_id", "shapes-model", "--hub_private"]
    done = client(*TINY, *words)
    assert done.returncode == 0, done.stderr
    assert "uploaded to http://127.0.0.1" in done.stdout
    assert hub.repos["models", "tester/shapes-model"].private
    uploaded = files(hub)
    assert set(uploaded) > FILES
    assert uploaded["model.safetensors"] == (run / "best/model.safetensors").read_bytes()
    assert json.loads(uploaded["config.json"])["class_names"][0] == "ground"
    card = ModelCard(uploaded["README.md"].decode())
    best = json.loads((run / "result.json").read_text())["best_miou"]
    assert card.data.eval_results[0].metric_value == pytest.approx(best, abs=0.005)
    assert "accelerate launch recipes/shapes.py" in card.text
    assert str(tmp_path) not in card.text
    for picture in ("pictures/miou.png", "pictures/samples.png"):
        assert f"]({picture})" in card.text
        assert picture in uploaded
    image = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(image)
    code = (
        "import sys, numpy; from prevmatch import Segmenter\n"
        "numpy.save(sys.argv[2], Segmenter.from_pretrained('tester/shapes-model').predict(sys.argv[1]))"
    )
    done = client("-c", code, image, tmp_path / "ids.npy", home="elsewhere", fresh=True)
    assert done.returncode == 0, done.stderr
    own = Segmenter.from_pretrained(run / "best").predict(image)
    np.testing.assert_array_equal(np.load(tmp_path / "ids.npy"), own)


def test_pushing_again_updates_the_card_and_the_weights(hub, client, run):
    assert push(client, run, "shapes-model").returncode == 0
    first = files(hub)
    result = json.loads((run / "result.json").read_text())
    write_text(run / "result.json", json.dumps(result | {"best_miou": 91.25}))
    (run / "best/preprocessor_config.json").write_text("{}")
    done = push(client, run, "tester/shapes-model", "--license", "cc-by-4.0")
    assert done.returncode == 0, done.stderr
    second = files(hub)
    assert len(hub.repos["models", "tester/shapes-model"].commits) == 2
    assert set(second) == set(first) | {"preprocessor_config.json"}
    old, new = (RepoCard(version["README.md"].decode()).data.to_dict() for version in (first, second))
    assert (old["license"], new["license"]) == ("unknown", "cc-by-4.0")
    assert new["model-index"][0]["results"][0]["metrics"][0]["value"] == 91.25
    assert "**91.25**" in second["README.md"].decode()
    assert hub.cards[-1]["model-index"][0]["name"] == "shapes-model"  # what the Hub validated


def test_advice_after_a_failed_push_keeps_what_was_asked_for_and_the_space_is_there_already(
    hub, client, run, tmp_path
):
    flags = ["--private", "--no_samples", "--license", "mit", "--space", "--output_dir", str(tmp_path / "app")]
    hub.refuse = lambda method, path: 403
    done = push(client, run, "tester/shapes-model", *flags)
    advice = last_line(done).partition("then run: prevmatch push ")[2].split()
    assert advice[:2] == [str(run), "tester/shapes-model"]
    assert sorted(advice[2:]) == sorted(flags)
    assert (tmp_path / "app/app.py").is_file()
    hub.refuse = lambda method, path: None
    assert push(client, *advice).returncode == 0
    assert hub.repos["models", "tester/shapes-model"].private
    assert "pictures/samples.png" not in files(hub)


@pytest.mark.parametrize("place", ["/commit/", "/api/repos/create", "/api/validate-yaml", "/lfs/"])
def test_failed_push_is_one_line_loses_nothing_and_the_same_command_finishes_it(hub, client, run, place):
    before = checksums(run)
    hub.refuse = lambda method, path: 403 if place in path else None
    done = push(client, run, "shapes-model")
    assert done.returncode == 1
    assert last_line(done).startswith(f"error: {run} could not be uploaded to 'shapes-model'")
    assert f"prevmatch push {run} shapes-model" in last_line(done)
    assert checksums(run) == before
    hub.refuse = lambda method, path: None
    assert push(client, run, "shapes-model").returncode == 0
    assert files(hub)["model.safetensors"] == (run / "best/model.safetensors").read_bytes()
    assert checksums(run) == before


def test_upload_that_fails_after_training_is_a_warning_and_push_repeats_it(hub, client, tmp_path):
    run = tmp_path / "run"
    hub.refuse = lambda method, path: 403 if "/commit/" in path else None
    done = client(*TINY, "--output_dir", run, "--push_to_hub", "--hub_model_id", "shapes-model")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    warning = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert len(warning) == 1
    assert f"run: prevmatch push {run} shapes-model" in warning[0]
    assert json.loads((run / "result.json").read_text())["best_miou"] >= 0
    hub.refuse = lambda method, path: None
    assert push(client, run, "shapes-model").returncode == 0
    assert set(files(hub)) > FILES


def test_training_killed_during_the_upload_keeps_model_and_result(hub, client, tmp_path):
    run = tmp_path / "run"
    code = (
        "import os, sys, runpy, huggingface_hub\n"
        "huggingface_hub.HfApi.create_commit = lambda *a, **k: os._exit(137)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = client("-c", code, *TINY, "--output_dir", run, "--push_to_hub", "--hub_model_id", "shapes-model")
    assert done.returncode == 137
    Segmenter.from_pretrained(run / "best")
    assert (run / "result.json").is_file()
    assert (run / "report.html").is_file()
    assert push(client, run, "shapes-model").returncode == 0


def test_missing_login_is_noticed_before_training(client, tmp_path):
    done = client(*TINY, "--output_dir", tmp_path / "run", "--push_to_hub", token=False)
    assert done.returncode == 1
    assert last_line(done).startswith("error: push_to_hub needs a login; run `hf auth login`")
    assert not (tmp_path / "run").exists()


def test_pushing_without_login_is_one_line(client, run):
    done = push(client, run, "shapes-model", token=False)
    assert done.returncode == 1
    assert "hf auth login" in last_line(done)


def test_model_folder_without_a_run_gets_a_short_honest_card(hub, client, run, tmp_path):
    model = shutil.copytree(run / "best", tmp_path / "lone")
    assert push(client, model, "shapes-model").returncode == 0
    assert set(files(hub)) - {"preprocessor_config.json"} == FILES
    card = files(hub)["README.md"].decode()
    assert "what it was trained on and how well it does are not known here" in card
    assert "model-index" not in card
    assert 'from_pretrained("tester/shapes-model")' in card


def test_samples_can_stay_at_home(hub, client, run):
    assert push(client, run, "shapes-model", "--no_samples").returncode == 0
    assert not [name for name in files(hub) if "samples" in name]
    assert "samples.png" not in files(hub)["README.md"].decode()


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "holds no model"), ("run/panels", "holds no model"), ("run/curves", "no model")],
)
def test_folder_without_a_model_is_refused(client, run, tmp_path, folder, message):
    done = push(client, tmp_path / folder, "shapes-model")
    assert done.returncode == 1
    assert message in last_line(done)


def test_space_runs_without_gradio_installed_and_segments(hub, client, run, tmp_path, monkeypatch):
    done = push(client, run, "shapes-model", "--space", "--license", "mit")
    assert done.returncode == 0, done.stderr
    space = tmp_path / "run-space"
    assert f"hf upload tester/shapes-model-space {space} --repo-type space" in done.stdout
    assert (space / "prevmatch/models/segmenter.py").is_file()
    assert "torch" in (space / "requirements.txt").read_text()
    card = RepoCard.load(space / "README.md").data.to_dict()
    assert (card["sdk"], card["app_file"], card["models"], card["license"]) == (
        "gradio", "app.py", ["tester/shapes-model"], "mit",
    )  # fmt: skip
    code = (
        "import sys, numpy; sys.path.insert(0, sys.argv[1])\n"
        "import app, prevmatch; from PIL import Image\n"
        "assert prevmatch.__file__.startswith(sys.argv[1]), prevmatch.__file__\n"
        "image = Image.new('RGBA', (50, 40), 'green')\n"
        "shown, parts = app.predict(image)\n"
        "assert shown.size == (50, 40) and app.predict(None) is None\n"
        "assert sum(mask.astype(int) for mask, _ in parts).tolist() == [[1] * 50] * 40\n"
        "assert {name for _, name in parts} <= set(app.labels()) == set(app.colours())\n"
        "assert app.colours()['square'] == '#468ce6'\n"
    )
    done = client("-c", code, space, home="elsewhere", fresh=True)  # with the Space's own copy of the package
    assert done.returncode == 0, done.stderr


def test_space_replaces_an_earlier_one_and_nothing_else(run, tmp_path):
    space = write_space("me/x", tmp_path / "space")
    (space / ".git").mkdir()
    (space / "notes.txt").write_text("mine")
    assert 'MODEL = "me/y"' in (write_space("me/y", space) / "app.py").read_text()
    assert (space / ".git").is_dir()
    assert (space / "notes.txt").read_text() == "mine"
    before = checksums(run)
    for folder in (run, run / "config.json"):
        with pytest.raises(ConfigError, match="choose another --output_dir"):
            write_space("me/x", folder)
    assert checksums(run) == before


def test_space_never_replaces_an_app_of_the_users_own(tmp_path):
    space = write_space("me/x", tmp_path / "space")
    (space / "app.py").write_text("my own")
    with pytest.raises(ConfigError, match=r"app\.py is there and was not written"):
        write_space("me/y", space)
    project = tmp_path / "project"
    (project / "prevmatch").mkdir(parents=True)
    (project / "app.py").write_text("my project")
    with pytest.raises(ConfigError, match="holds other things than a Space"):
        write_space("me/x", project)
    assert (project / "app.py").read_text() == (space / "app.py").read_text().replace("own", "project")
    write_space("me/y", space, overwrite=True)
    assert 'MODEL = "me/y"' in (space / "app.py").read_text()


def test_space_has_no_modules_that_there_are_no_more(tmp_path, monkeypatch):
    space = write_space("me/x", tmp_path / "space")
    OwnFiles(space).write(space / "prevmatch/of_an_earlier_version.py", b"")
    write_space("me/x", space)
    assert not (space / "prevmatch/of_an_earlier_version.py").exists()


def test_app_is_built_of_gradio_parts_that_it_imports_only_as_a_program(monkeypatch):
    path = Path(__file__).parents[2] / "prevmatch/share/templates/app.py"
    spec = importlib.util.spec_from_file_location("app", path)
    monkeypatch.setitem(sys.modules, "gradio", None)  # an import of it would fail
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.MODEL == "user/name"
