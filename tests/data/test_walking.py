"""The one walk through folders: what is data, what is not, and that it is said."""

import os

import numpy as np
import pytest
from PIL import Image

from data.raw_layouts import photo
from prevmatch.data.walking import image_files, walk
from prevmatch.errors import DataError
from prevmatch.use.predict import read_rgb
from prevmatch.use.predict_files import find_inputs

JUNK = (
    ".ipynb_checkpoints/a-checkpoint.png", ".thumbnails/a.png", "__MACOSX/a.png", "@eaDir/a.png", ".a.png", "._b.png",
    "$RECYCLE.BIN/a.png", "x/.hidden/a.png", "x/__macosx/._a.png",
    "#recycle/a.png",
)  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_leave_is_no_data_for_training_or_prediction_and_is_said(tmp_path, name, capsys):
    photo(tmp_path / "in" / "x" / "a.png", (8, 6))
    photo(tmp_path / "in" / name, (8, 6))
    walked = walk(tmp_path / "in")
    assert [path.relative_to(tmp_path / "in").as_posix() for path in walked.files] == ["x/a.png"]
    assert sum(walked.left_out.values()) == 1
    assert "left out" in walked.notes()[0]
    assert image_files(tmp_path / "in") == walked.files
    assert list(find_inputs([tmp_path / "in"], tmp_path / "out")) == walked.files
    assert "left out" in capsys.readouterr().out


def test_linked_folders_are_read_once_and_circles_end(tmp_path):
    photo(tmp_path / "elsewhere/a.png", (8, 6))
    photo(tmp_path / "in/b.png", (8, 6))
    for link, target in (("site", "elsewhere"), ("again", "elsewhere"), ("up", "."), ("self", "in")):
        os.symlink(tmp_path / target, tmp_path / "in" / link)
    walked = walk(tmp_path / "in")
    assert [path.name for path in walked.files] == ["a.png", "b.png"]
    assert sum("was visited" in what for what in walked.left_out) == 3


def test_links_to_files_are_files_and_broken_ones_are_said(tmp_path):
    photo(tmp_path / "elsewhere/a.png", (8, 6))
    (tmp_path / "in").mkdir()
    os.symlink(tmp_path / "elsewhere/a.png", tmp_path / "in/a.png")
    os.symlink(tmp_path / "elsewhere/gone.png", tmp_path / "in/gone.png")
    walked = walk(tmp_path / "in")
    assert [path.name for path in walked.files] == ["a.png"]
    assert walked.notes() == [f"left out in {tmp_path / 'in'}: 1 broken links"]


@pytest.mark.parametrize(
    ("suffix", "remedy"),
    [*((suffix, "convert to PNG or JPEG") for suffix in (".dng", ".CR2", ".nef", ".psd", ".svg", ".jp2")),
     (".MP4", "save its frames as images")],
)  # fmt: skip
def test_pictures_that_cannot_be_read_are_counted_with_a_remedy(tmp_path, suffix, remedy):
    photo(tmp_path / "a.png", (8, 6))
    (tmp_path / f"b{suffix}").write_bytes(b"raw")
    assert f"1 x {suffix.lower()} ({remedy}" in walk(tmp_path).notes()[0]


def test_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        image_files(tmp_path)


def test_names_that_are_no_text_are_left_out_and_said(tmp_path):
    photo(tmp_path / "a.png", (8, 6))
    try:
        os.rename(os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xe4.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert walk(tmp_path).files == []
    assert walk(tmp_path).notes() == [f"left out in {tmp_path}: 1 whose path is no UTF-8 (rename it)"]


@pytest.mark.parametrize("suffix", ["ppm", "PGM", "pbm", "tga"])
def test_plain_formats_are_images(tmp_path, suffix):
    image = Image.fromarray(np.full((4, 5, 3), 200, np.uint8))
    mode = {"PGM": "L", "pbm": "1"}.get(suffix, "RGB")
    image.convert(mode).save(tmp_path / f"a.{suffix}")
    assert len(walk(tmp_path).files) == 1
    assert read_rgb(tmp_path / f"a.{suffix}").size == (5, 4)
