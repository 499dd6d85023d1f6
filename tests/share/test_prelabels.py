"""Labels to correct: what labelme, CVAT and COCO readers make of them is what the model said."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from data.raw_layouts import photo
from PIL import Image, ImageDraw
from share.test_tracing import blobs, near_an_edge

from prevmatch.data.layouts import find
from prevmatch.data.reading import read_mask
from prevmatch.data.sources import Source, file_cell
from prevmatch.ownership import OwnFiles
from prevmatch.share.prelabels import Prelabelled, write_prelabels
from prevmatch.share.tracing import SMALLEST

NAMES = ("background", "grass", "sheep", "dog")
PALETTE = ((0, 0, 0), (0, 128, 0), (200, 200, 200), (90, 60, 20))


@pytest.fixture
def written(tmp_path):
    """A folder of two photos with pre-labels, and their maps."""
    maps = {"a.1": blobs(0), "far/b": blobs(1)}
    for i, name in enumerate(maps):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        photo(tmp_path / "photos" / f"{name}.jpg", (120, 90), seed=i)
    items = [Prelabelled(name, file_cell(tmp_path / "photos" / f"{name}.jpg"), ids) for name, ids in maps.items()]
    write_prelabels(OwnFiles(tmp_path / "out"), items, NAMES, PALETTE)
    return tmp_path / "out", maps


def same_but_for_edges(found, expected, share=0.06):
    wrong = np.asarray(found) != expected
    assert (wrong & ~near_an_edge(expected, 3)).sum() < SMALLEST  # specks have no outline
    assert wrong.mean() < share


def read_back(folder):
    found = find(folder)
    (rows,) = found.parts.values()
    source = Source(train=rows, val=rows, class_names=found.class_names, palette=found.palette, colours=found.colours)
    return found, {row["id"]: read_mask(row, source) for row in rows}


def test_coco_file_is_read_back_by_this_packages_reader(written):
    folder, maps = written
    found, masks = read_back(folder)
    assert found.class_names == NAMES
    assert masks.keys() == maps.keys()
    for name, ids in maps.items():
        same_but_for_edges(masks[name], ids)


def test_cvat_archive_is_read_back_without_any_loss(written, tmp_path):
    folder, maps = written
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    (folder / "images").rename(tmp_path / "cvat" / "JPEGImages")
    found, masks = read_back(tmp_path / "cvat")
    assert found.class_names == NAMES
    for name, ids in maps.items():
        assert np.array_equal(np.asarray(masks[name]), ids)


def test_labelme_files_draw_the_map_and_lie_beside_their_photos(written):
    folder, maps = written
    for name, ids in maps.items():
        content = json.loads((folder / "images" / f"{name}.json").read_text())
        assert (folder / "images" / name).with_name(content["imagePath"]).is_file()
        assert (content["imageHeight"], content["imageWidth"]) == ids.shape
        picture = Image.new("L", (120, 90))
        for shape in content["shapes"]:
            assert shape["shape_type"] == "polygon"
            assert len(shape["points"]) >= 3
            label = NAMES.index(shape["label"])
            ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in shape["points"]], fill=label)
        same_but_for_edges(picture, ids)


def test_labelme_files_are_read_back_by_this_packages_reader(written, tmp_path):
    folder, maps = written
    shutil.copytree(folder / "images", tmp_path / "labelme")
    found, masks = read_back(tmp_path / "labelme")
    number = np.array([found.class_names.index(name) for name in NAMES], dtype=np.uint8)
    for name, ids in maps.items():
        same_but_for_edges(masks[name], number[ids])


def test_photos_are_copied_byte_by_byte(written, tmp_path):
    folder, maps = written
    for name in maps:
        assert (folder / "images" / f"{name}.jpg").read_bytes() == (tmp_path / "photos" / f"{name}.jpg").read_bytes()
