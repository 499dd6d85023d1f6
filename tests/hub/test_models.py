"""Models on the Hub: pushed, pulled into an empty cache, pinned, refused, and pushed again after a failure."""

import numpy as np
import pytest
import torch
from models.test_segmenter import CONFIG

from hub.server import Repo
from prevmatch.models.segmenter import Segmenter

PUSH = """
import sys
from prevmatch import Segmenter
print(Segmenter.from_pretrained(sys.argv[1]).push_to_hub(sys.argv[2]))
"""
PULL = """
import sys, numpy as np
from prevmatch import Segmenter
from prevmatch.errors import PrevMatchError
try:
    model = Segmenter.from_pretrained(sys.argv[1], revision=sys.argv[2] or None)
except PrevMatchError as error:
    sys.exit(f"{type(error).__name__}: {error}")
np.save(sys.argv[4], model.predict(sys.argv[3]))
"""


@pytest.fixture
def image(tmp_path):
    from PIL import Image

    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8)).save(path)
    return path


def saved(folder, seed=0):
    torch.manual_seed(seed)
    model = Segmenter(CONFIG).eval()
    model.save_pretrained(folder)
    return model


def test_pushed_model_is_pulled_with_equal_predictions_and_revisions_are_pinned(hub, client, tmp_path, image):
    models = [saved(tmp_path / str(seed), seed) for seed in range(2)]
    for seed in range(2):
        done = client("-c", PUSH, tmp_path / str(seed), "tester/scenes")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{hub.address}/tester/scenes"
    repo = hub.repos["models", "tester/scenes"]
    first, second = repo.commits  # newest last
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(repo.commits[second])
    assert b"library_name: prevmatch" in repo.commits[first]["README.md"]
    repo.commits[second]["README.md"] = b"---\nlicense: mit\n---\nwritten by hand"
    assert client("-c", PUSH, tmp_path / "1", "tester/scenes").returncode == 0
    assert b"written by hand" in repo.at("main")[1]["README.md"]
    for number, (revision, model) in enumerate([("", models[1]), (first, models[0]), ("main", models[1])]):
        done = client("-c", PULL, "tester/scenes", revision, image, tmp_path / "ids.npy", home=f"clean{number}")
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(tmp_path / "ids.npy"), model.predict(image))
    done = client("-c", PULL, "tester/scenes", "v9", image, tmp_path / "ids.npy", home="other")
    assert "has no revision 'v9'" in done.stderr.splitlines()[-1]


def test_what_may_not_be_read_is_one_line_that_says_what_to_do(hub, client, tmp_path, image):
    hub.repos["models", "tester/closed"] = Repo(private=True)
    for name, token in (("tester/closed", False), ("tester/unknown", True)):
        done = client("-c", PULL, name, "", image, tmp_path / "ids.npy", token=token)
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"CheckpointError: '{name}' is neither a folder nor a Hub repository that you may read")
        assert "hf auth login" in line
    hub.repos["models", "tester/pickled"] = Repo(commits={"1" * 40: {"config.json": b"{}", "pytorch_model.bin": b"x"}})
    done = client("-c", PULL, "tester/pickled", "", image, tmp_path / "ids.npy")
    assert done.stderr.splitlines()[-1].startswith("CheckpointError: ")
    hub.refuse = lambda method, path: 403
    done = client("-c", PULL, "tester/closed", "", image, tmp_path / "ids.npy")
    assert done.stderr.splitlines()[-1].startswith("CheckpointError: 'tester/closed'")


@pytest.mark.parametrize("broken", ["/preupload/", "/lfs/", "/commit/"])
def test_failed_upload_is_named_and_the_same_call_finishes_it(hub, client, tmp_path, broken):
    saved(tmp_path / "model")
    hub.refuse = lambda method, path: 403 if broken in path and method != "GET" else None
    done = client("-c", PUSH, tmp_path / "model", "tester/scenes")
    assert done.returncode == 1
    assert "the model could not be uploaded to 'tester/scenes'" in done.stderr.splitlines()[-1]
    assert not hub.repos["models", "tester/scenes"].commits
    hub.refuse = lambda method, path: None
    assert client("-c", PUSH, tmp_path / "model", "tester/scenes").returncode == 0
    assert "model.safetensors" in hub.repos["models", "tester/scenes"].at("main")[1]


def test_upload_without_a_token_says_so(hub, client, tmp_path):
    saved(tmp_path / "model")
    done = client("-c", PUSH, tmp_path / "model", "tester/scenes", token=False)
    assert "could not be uploaded to 'tester/scenes'" in done.stderr.splitlines()[-1]
