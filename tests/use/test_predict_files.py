"""Files and folders in, maps out: names, what is left out, and what happens to files that cannot be read."""

import numpy as np
import pytest
import torch
from models.test_segmenter import CONFIG
from PIL import Image
from test_predict import noise

from prevmatch.config import PredictConfig
from prevmatch.errors import DataError
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
    ],
)
def test_maps_get_the_shortest_names_that_differ(tmp_path, names, inputs, expected):
    photos(tmp_path, *names)
    assert list(find_inputs([tmp_path / i for i in inputs], tmp_path / "out").values()) == expected


def test_equal_folder_names_get_whole_paths(tmp_path):
    photos(tmp_path, "x/in/a.png", "y/in/a.png")
    names = find_inputs([tmp_path / "x/in", tmp_path / "y/in"], tmp_path / "out").values()
    assert [name.rpartition("/in/")[0][-1] for name in names] == ["x", "y"]


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
    with pytest.raises(DataError, match=r"out/ids/a\.png cannot be written"):
        predict_files(model, files, tmp_path / "out", KINDS, PredictConfig())


def test_interrupted_write_leaves_no_half_of_a_map(model, tmp_path, monkeypatch):
    def full_disk(self, path, *args):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    files = find_inputs([photos(tmp_path / "in", "a.png")], tmp_path)
    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        predict_files(model, files, tmp_path / "out", KINDS, PredictConfig())
    assert not [path for path in (tmp_path / "out").glob("**/*") if path.is_file()]
