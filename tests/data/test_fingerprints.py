"""Changed files are noticed, moved ones are the same."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.fingerprints import fingerprint
from prevmatch.data.sources import table
from prevmatch.errors import DataError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
        Image.fromarray(rng.integers(0, 3, (90, 70), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def rows(folder, *, embedded=False):
    def cell(path):
        return {"path": path.name, "bytes": path.read_bytes()} if embedded else {"path": str(path), "bytes": None}

    images = [cell(folder / f"{i}.jpg") for i in range(3)]
    return table("abc", images, [cell(folder / "0.png"), cell(folder / "1.png"), None])


def test_files_may_move_and_be_embedded(folder, tmp_path):
    before = fingerprint(rows(folder))
    assert fingerprint(rows(folder, embedded=True)) == before
    shutil.copytree(folder, tmp_path / "other")
    assert fingerprint(rows(tmp_path / "other")) == before


@pytest.mark.parametrize("name", ["0.jpg", "2.jpg", "1.png"])
@pytest.mark.parametrize("embedded", [False, True])
def test_change_of_the_same_size_is_noticed(folder, name, embedded):
    before = fingerprint(rows(folder, embedded=embedded))
    content = bytearray((folder / name).read_bytes())
    content[-20] ^= 1
    (folder / name).write_bytes(content)
    assert fingerprint(rows(folder, embedded=embedded)) != before


def test_change_in_the_middle_of_a_mask_is_noticed(folder):
    Image.effect_noise((300, 300), 50).save(folder / "1.png")
    before = fingerprint(rows(folder))
    content = bytearray((folder / "1.png").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "1.png").write_bytes(content)
    assert fingerprint(rows(folder)) != before


def test_picture_of_a_panoptic_mask_counts_and_its_place_does_not(folder, tmp_path):
    def panoptic(place, label=1):
        annotation = {"panoptic": str(place / "0.png"), "segments": [[0, label]]}
        cell = {"path": None, "bytes": json.dumps(annotation).encode()}
        return fingerprint(table("a", [{"path": str(folder / "0.jpg"), "bytes": None}], [cell]))

    before = panoptic(folder)
    shutil.copytree(folder, tmp_path / "other")
    assert panoptic(tmp_path / "other") == before != panoptic(folder, label=2)
    (tmp_path / "other/0.png").write_bytes((folder / "1.png").read_bytes())
    assert panoptic(tmp_path / "other") != before


def test_missing_file_is_named(folder):
    (folder / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"1\.jpg cannot be read"):
        fingerprint(rows(folder))
