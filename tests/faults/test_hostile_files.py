"""A table of files that somebody else made: each gives a result or one line, and none is waited for without end.

README says how many there are.
"""

import contextlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from models.test_segmenter import CONFIG
from PIL import Image
from safetensors.torch import load_file, save_file

from prevmatch.config import PredictConfig
from prevmatch.errors import PrevMatchError
from prevmatch.models.segmenter import Segmenter
from prevmatch.share.hub import collect
from prevmatch.use.predict_files import find_inputs, predict_files

RESULT, LINE = "a result", "one line"
SECONDS = 60
"""Far more than any case takes; what is still at work then is taken for hanging."""

# Model folders: changes of config.json.
INF, DEEP, HUGE = "1e400", "[" * 100_000 + "]" * 100_000, "1" + "0" * 4000
CONFIGS = {
    f"{name} {str(value)[:30]}": (name, value)
    for name, values in {
        "decoder_channels": [True, 0, -1, 10**6, 1.5, "8", None, [8], INF, HUGE],
        "low_level_channels": [True, 0, 10**6, "4", None],
        "atrous_rates": [[0, 1, 2], [-1, 2, 3], [1.5, 2, 3], [1, 2], [1, 2, 3, 4], ["1", 2, 3], [True, 2, 3],
                         [1, 2, 10**9], None, 6, [[1], 2, 3]],
        "palette": [[[0, 0]] * 3, [[0, 0, 300]] * 3, [["0", "0", "0"]] * 3, [[0, 0, -1]] * 3, [[0, 0, 1.5]] * 3,
                    [None] * 3, [[True, 0, 0]] * 3, [0, 0, 0], "red", [[0, 0, 0]], {"a": [0, 0, 0]}],
        "class_names": [None, [None, "b", "c"], [1, 2, 3], [["a"], "b", "c"], ["a"], "abc", {"0": "a"}],
        "id2label": [{"0": "x"}, ["a", "b", "c"], {"x": "a"}, 3],
        "image_size": [10**6, 0, -1, "32", 1.5, True, INF],
        "eval_window": [10**6, 0, "32", True],
        "num_classes": [0, 256, 10**9, "3", True, None, 3.0],
        "mean": [[0, 0], [INF] * 3, ["0"] * 3, None, [True] * 3],
        "std": [[0, 0, 0], [-1, 1, 1], [INF] * 3, "1"],
        "encoder": ["", None, 3, "no_such", "../../etc/passwd", "hf-hub:somebody/evil", "timm/", ["test_resnet"],
                    "a\x1b[2J"],
        "decoder_kind": ["nonsense", None, ["deeplab"], "dpt"],
        "x": [1, "DEEP"],
    }.items()
    for value in values
}  # fmt: skip
WHOLE_CONFIGS = {
    "empty": "", "a number": "3", "a list": "[]", "null": "null", "torn": '{"encoder": "test_r', "not text": "\ud800",
    "nothing but nesting": DEEP, "NaN": '{"encoder": NaN, "num_classes": NaN}', "a key": '{"encoder": "test_resnet"}',
}  # fmt: skip


def config_with(folder, name, value):
    settings = json.loads((folder / "config.json").read_text())
    settings.pop("id2label")
    text = json.dumps(settings | {name: value})
    for mark, number in {INF: INF, HUGE: HUGE, "DEEP": DEEP}.items():  # what json would not write
        text = text.replace(f'"{mark}"', number)
    (folder / "config.json").write_text(text)


# Model folders: changes of the weights.
def with_value(name, value):
    def change(folder):
        state = load_file(folder / "model.safetensors")
        state[name].view(-1)[-1] = value
        save_file(state, folder / "model.safetensors")

    return change


def header(length, text):
    return lambda folder: (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + text)


def retyped(dtype):
    def change(folder):
        state = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(state, folder / "model.safetensors")

    return change


def as_pipe(name):
    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def as_link(name, target):
    def change(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


WEIGHTS = {
    "NaN in a weight": with_value("decoder.classifier.weight", float("nan")),
    "infinity in a bias": with_value("decoder.classifier.bias", float("inf")),
    "infinity in BatchNorm": with_value("encoder.bn1.running_var", float("-inf")),
    "header of 8 EB": header(2**62, b"{}"),
    "header of nothing": header(0, b""),
    "header that is torn": header(100, b'{"a": '),
    "header beyond the file": header(
        90, b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}'.ljust(90)
    ),
    "shape that lies": header(
        70, b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}'.ljust(70) + b"0000"
    ),
    "whole numbers": retyped(torch.int64),
    "complex numbers": retyped(torch.complex64),
    "weights are a pipe": as_pipe("model.safetensors"),
    "config is a pipe": as_pipe("config.json"),
    "weights are a device": as_link("model.safetensors", "/dev/zero"),
    "config is a device": as_link("config.json", "/dev/zero"),
    "weights link to themselves": as_link("model.safetensors", "model.safetensors"),
    "config links to itself": as_link("config.json", "config.json"),
}


# Inputs of predict.
def bytes_named(name, content=b"torn"):
    return lambda folder: (folder / name).write_bytes(content)


def picture(name, **options):
    return lambda folder: Image.new("RGB", (20, 30), "green").save(folder / name, **options)


INPUTS = {
    "a pipe": (lambda folder: os.mkfifo(folder / "a.png"), LINE),
    "a device": (lambda folder: (folder / "a.png").symlink_to("/dev/zero"), LINE),
    "a terminal": (lambda folder: (folder / "a.png").symlink_to("/dev/tty"), LINE),
    "a link to itself": (lambda folder: (folder / "a.png").symlink_to("a.png"), LINE),
    "a link to nothing": (lambda folder: (folder / "a.png").symlink_to("nowhere"), LINE),
    "a link to the folder": (lambda folder: (folder / "a").symlink_to("."), LINE),
    "a folder called a.png": (lambda folder: (folder / "a.png").mkdir(), LINE),
    "nothing": (lambda folder: None, LINE),
    "an empty file": (bytes_named("a.png", b""), LINE),
    "escapes": (bytes_named("\x1b[2J\x1b]0;title\x07.png"), LINE),
    "newlines": (bytes_named("a\nerror: b.png"), LINE),
    "bidi marks": (bytes_named("\u202egnp.exe.png"), LINE),
    "no text": (bytes_named(os.fsdecode(b"\xff\xfe.png")), LINE),
    "255 bytes": (picture("a" * 251 + ".png"), RESULT),
    "255 bytes, twice": (lambda folder: [picture("a" * 251 + end)(folder) for end in (".png", ".bmp")], RESULT),
    "255 bytes of two each": (picture("ä" * 125 + ".jpeg"), RESULT),
    "no text, a picture": (picture(os.fsdecode(b"\xff\xfe.png")), RESULT),
    "a picture beside a folder of its map's name": (
        lambda folder: [picture("a.jpg")(folder), (folder / "a.png").mkdir(), picture("a.png/b.jpg")(folder)], RESULT,
    ),
    "names that differ in case": (lambda folder: [picture(name)(folder) for name in ("a.png", "A.png")], RESULT),
    "names that nothing but the format tells apart": (
        lambda folder: [picture(name)(folder) for name in ("a.png", "a.PNG", "a.jpg", "a.png.jpg")], RESULT,
    ),
    "EXIF that is torn": (picture("a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), RESULT),
    "a bomb": (bytes_named("a.pgm.png", b"P5 60000 60000 255\n"), LINE),
}  # fmt: skip

CASES = {
    **{f"config: {name}": ("config", value) for name, value in CONFIGS.items()},
    **{f"config: {name}": ("text", text) for name, text in WHOLE_CONFIGS.items()},
    **{f"weights: {name}": ("weights", change) for name, change in WEIGHTS.items()},
    **{f"input: {name}": ("input", value) for name, value in INPUTS.items()},
}
RESULTS_ARE_FINE = ("weights: whole numbers",)
"""These give a result too; everything else of models must be refused."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segmenter(CONFIG).eval()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@contextlib.contextmanager
def ends():
    """Fail a case that is waited for."""

    def too_long(*_):
        raise AssertionError(f"still at work after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call, *args):
    """What comes of a call: a result, or an error of the package's own that is one line."""
    try:
        with ends():
            return RESULT, call(*args)
    except PrevMatchError as error:
        line = str(error)
    assert line
    assert line.isprintable()
    assert len(line) < 2000
    return LINE, line


@pytest.mark.parametrize("name", [name for name, (kind, _) in CASES.items() if kind != "input"])
def test_model_folders(folder, name):
    kind, value = CASES[name]
    if kind == "config":
        config_with(folder, *value)
    elif kind == "text":
        (folder / "config.json").write_text(value, errors="surrogatepass")
    else:
        value(folder)
    came, said = outcome(Segmenter.from_pretrained, folder)
    assert came == LINE or name in RESULTS_ARE_FINE, name
    if came == LINE:
        assert str(folder) in said
    if kind != "weights":
        outcome(collect, folder)


@pytest.mark.parametrize("name", [name for name, (kind, _) in CASES.items() if kind == "input"])
def test_inputs_of_predict(model, tmp_path, name):
    make, expected = CASES[name][1]
    given = tmp_path / "in"
    given.mkdir()
    make(given)

    def both(given):
        files = find_inputs([given], tmp_path / "out")
        failures = predict_files(model, files, tmp_path / "out", ["ids", "overlay"], PredictConfig())
        assert all(line.isprintable() for line in failures)
        return files, failures

    came, said = outcome(both, given)
    if came == LINE:
        assert expected == LINE
        return
    files, failures = said
    assert len(failures) == (len(files) if expected == LINE else 0)
    if expected == RESULT:
        maps = [path for path in (tmp_path / "out/ids").rglob("*.png") if path.is_file()]
        assert len(maps) == len(files)


def test_readme_says_how_many_cases_there_are():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    assert re.search(r"(\d+) hostile model folders and inputs", text)[1] == str(len(CASES))
