"""Files and folders in, maps out: names, what is left out, and what happens to files that cannot be read."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from models.test_segmenter import CONFIG
from PIL import Image
from test_predict import noise

from prevmatch.config import PredictConfig
from prevmatch.errors import ConfigError, DataError
from prevmatch.models.segmenter import Segmenter
from prevmatch.use.predict_files import find_inputs, predict_files

KINDS = ("ids", "colour_map", "overlay")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segmenter(CONFIG).eval()


def photos(folder, *names):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(20 + i % 2, 30, i).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "inputs", "expected"),
    [
        (["in/a.png", "in/b/a.png"], ["in"], ["a", "b/a"]),
        (["in/a.png", "in/a.jpg"], ["in"], ["a.jpg", "a.png"]),
        (["in/a.png", "in/A.jpg"], ["in"], ["A.jpg", "a.png"]),
        (["x/a.png", "y/a.png"], ["x", "y"], ["x/a.png", "y/a.png"]),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"]),
        (["in/a.png", "in/b/c.png"], ["in", "in/b", "in/a.png"], ["a", "b/c"]),
        (["in/.a.png", "in/.b/c.png", "in/a.txt.png"], ["in"], ["a.txt"]),
        (["in/a.jpg", "in/a.png/b.jpg"], ["in"], ["a.jpg", "a.png/b.jpg"]),
        (["x/in/a.png", "y/in/a.png"], ["x/in", "y/in"], ["x/in/a.png", "y/in/a.png"]),
    ],
)
def test_maps_get_the_shortest_names_that_differ(tmp_path, names, inputs, expected):
    photos(tmp_path, *names)
    assert list(find_inputs([tmp_path / i for i in inputs], tmp_path / "out").values()) == expected


@pytest.mark.parametrize("folders", [["x/in", "y/in"], ["y/in", "x/in"]])
def test_names_do_not_depend_on_the_order_of_inputs_and_never_hold_where_the_folders_lie(tmp_path, folders):
    photos(tmp_path, "x/in/a.png", "y/in/a.png", "x/in/A.png")
    files = find_inputs([tmp_path / folder for folder in folders], tmp_path / "out")
    names = {path.relative_to(tmp_path).as_posix(): name for path, name in files.items()}
    assert names.keys() == {"x/in/a.png", "x/in/A.png", "y/in/a.png"}
    assert len({name.casefold() for name in names.values()}) == 3
    for path, name in names.items():
        assert name.partition("~")[0] == path
        assert str(tmp_path) not in name


def test_longest_name_of_a_file_is_shortened_and_stays_its_own(model, tmp_path):
    photos(tmp_path / "in", *("ä" * 124 + end + ".png" for end in ("a", "b")), "a" * 251 + ".png", "a" * 251 + ".jpg")
    files = find_inputs([tmp_path / "in"], tmp_path / "out")
    assert predict_files(model, files, tmp_path / "out", ["ids"], PredictConfig()) == []
    assert sorted(p.name[:3] for p in (tmp_path / "out/ids").iterdir()) == ["aaa", "aaa", "äää", "äää"]


def test_files_of_the_user_are_never_replaced_unasked(model, tmp_path):
    """Label maps beside the images are images like others, not maps of an earlier call."""
    photos(tmp_path, "images/a.png", "images/b.png", "ids/images/a.png", "overlay/images/b.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    files = find_inputs([tmp_path / "images"], tmp_path)
    assert list(files.values()) == ["a", "b"]
    photos(tmp_path, "ids/a.png")
    with pytest.raises(ConfigError, match=r"ids/a\.png is there and was not written by .* add --overwrite"):
        predict_files(model, files, tmp_path, KINDS, PredictConfig())
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (tmp_path / "colour_map").exists()
    assert predict_files(model, files, tmp_path, KINDS, PredictConfig(), overwrite=True) == []
    assert np.array_equal(np.asarray(Image.open(tmp_path / "ids/a.png")), model.predict(tmp_path / "images/a.png"))
    assert len(find_inputs([tmp_path], tmp_path)) == 4
    assert predict_files(model, files, tmp_path, KINDS, PredictConfig()) == []  # its own it replaces
    noise(20, 30, 9).save(tmp_path / "ids/b.png")  # now the user's, who corrected it
    with pytest.raises(ConfigError, match=r"ids/b\.png is there"):
        predict_files(model, files, tmp_path, KINDS, PredictConfig())


def test_image_is_never_replaced_by_its_own_map(model, tmp_path):
    photos(tmp_path, "o/ids/a.png")
    before = (tmp_path / "o/ids/a.png").read_bytes()
    for given in ("o/ids", "link"):
        if given == "link":
            (tmp_path / "link").symlink_to(tmp_path / "o/ids")
        files = find_inputs([tmp_path / given], tmp_path / "o")
        with pytest.raises(ConfigError, match="is to be segmented and would be replaced"):
            predict_files(model, files, tmp_path / "o", KINDS, PredictConfig(), overwrite=True)
    assert (tmp_path / "o/ids/a.png").read_bytes() == before


def test_pipes_devices_and_links_in_circles_are_one_line(model, tmp_path, capsys):
    photos(tmp_path / "in", "a.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "in/zero.png").symlink_to("/dev/zero")
    (tmp_path / "in/circle.png").symlink_to("circle.png")
    (tmp_path / "in/folder.png").symlink_to(".")
    files = find_inputs([tmp_path / "in", tmp_path / "in/pipe.png"], tmp_path / "out")
    assert f"left out in {tmp_path / 'in'}: 1 broken links, 1 in folder.png/" in capsys.readouterr().out
    (failure,) = predict_files(model, files, tmp_path / "out", ["ids"], PredictConfig())  # the one that was named
    assert [path.name for path in (tmp_path / "out/ids").iterdir()] == ["a.png"]
    assert failure.startswith(f"{tmp_path / 'in/pipe.png'} ")
    assert "no file but a folder, a pipe or a device" in failure


def test_names_that_steer_a_terminal_are_told_escaped(model, tmp_path):
    names = ["\x1b[2Jred.png", "two\nlines.png", "\u202egnp.exe.png", "caf\udce9.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"torn")
    files = find_inputs([tmp_path], tmp_path / "out")
    failures = predict_files(model, files, tmp_path / "out", ["ids"], PredictConfig())
    assert len(failures) == 4
    for name, line in zip(sorted(names), failures, strict=True):
        assert f"{name.encode('unicode_escape').decode()} cannot be read" in line
        assert line.isprintable()


def test_large_image_says_how_far_it_is(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("prevmatch.use.predict.LARGEST", 600)
    monkeypatch.setattr("prevmatch.progress.SECONDS_BETWEEN_LINES", 0)
    model.predict(noise(60, 40))
    assert "60×40 pixels" in capsys.readouterr().err


def test_maps_inside_an_input_folder_are_no_images(model, tmp_path):
    photos(tmp_path, "a.png", "b/c.png")
    for output_dir in (tmp_path, tmp_path / "b"):
        before = find_inputs([tmp_path], output_dir)
        assert predict_files(model, before, output_dir, KINDS, PredictConfig()) == []
        assert find_inputs([tmp_path], output_dir) == before
        for kind in KINDS:
            assert (output_dir / kind / "b/c.png").is_file()
            (output_dir / kind).rename(tmp_path.parent / f"{output_dir.name}-{kind}")


def test_nothing_to_segment_is_refused(tmp_path):
    for inputs, message in (([tmp_path], "no images"), ([], "no images"), ([tmp_path / "no"], "does not exist")):
        with pytest.raises(DataError, match=message):
            find_inputs(inputs, tmp_path / "out")


def test_unreadable_files_are_listed_and_the_others_segmented(model, tmp_path):
    photos(tmp_path / "in", *(f"{i}.png" for i in range(9)))
    for i in (0, 4, 8):
        (tmp_path / f"in/{i}.png").write_bytes(b"torn")
    out = tmp_path / "out"
    failures = predict_files(model, find_inputs([tmp_path / "in"], out), out, KINDS, PredictConfig(batch_size=2))
    assert [line.partition(" ")[0] for line in failures] == [str(tmp_path / f"in/{i}.png") for i in (0, 4, 8)]
    for i in (1, 2, 3, 5, 6, 7):
        ids = Image.open(out / f"ids/{i}.png")
        assert ids.mode == "L"
        assert np.array_equal(np.asarray(ids), model.predict(tmp_path / f"in/{i}.png"))
        colours = Image.open(out / f"colour_map/{i}.png")
        assert colours.mode == "P"
        assert np.array_equal(np.asarray(colours), np.asarray(ids))
        assert colours.convert("RGB").getpixel((0, 0)) == CONFIG.palette[ids.getpixel((0, 0))]
        assert Image.open(out / f"overlay/{i}.png").width >= 160
    assert len(list(out.glob("**/*.png"))) == 18


def test_folder_that_cannot_be_written_is_named(model, tmp_path):
    files = find_inputs([photos(tmp_path / "in", "a.png")], tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"output_dir .*out is a file; choose another output_dir"):
        predict_files(model, files, tmp_path / "out", KINDS, PredictConfig())


def test_interrupted_write_leaves_no_half_of_a_map(model, tmp_path, monkeypatch):
    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    files = find_inputs([photos(tmp_path / "in", "a.png")], tmp_path)
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(ConfigError, match="No space left on device"):
        predict_files(model, files, tmp_path / "out", KINDS, PredictConfig())
    assert [path.name for path in (tmp_path / "out").glob("**/*") if path.is_file()] == [".prevmatch-files"]
    monkeypatch.undo()
    assert predict_files(model, files, tmp_path / "out", KINDS, PredictConfig()) == []
