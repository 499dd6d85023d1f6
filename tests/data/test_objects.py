"""Masks of single objects: one file each, joined into a mask of the photo; other second masks are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from data import exports
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.joining import joined
from prevmatch.data.reading import read_mask
from prevmatch.errors import DataError

CAR, TREE = (np.where(np.equal(exports.TRUTH, label), 255, 0).astype(np.uint8) for label in (1, 2))
BOTH = CAR | TREE


def written(folder, masks, name="m{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / name.format(i))
    return sorted(folder.iterdir())


def load(folder):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder))


def masks_of(data):
    return {row["id"]: np.asarray(read_mask(row, data.source)) for rows in (data.labelled, data.val) for row in rows}


def test_masks_of_objects_become_one(tmp_path):
    cell = joined(written(tmp_path, [CAR, TREE, 0 * CAR]))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(cell["bytes"]))), BOTH)


NOT_OBJECTS = {
    "two masks of one thing": [CAR, CAR],
    "masks that overlap": [CAR, BOTH],
    "ids": [CAR, TREE // 255 * 2],
    "several values": [CAR, exports.TRUTH],
    "other sizes": [CAR, TREE[:20]],
    "colours": [CAR, np.stack([TREE, 0 * TREE, TREE], axis=2)],
}


@pytest.mark.parametrize("name", NOT_OBJECTS)
def test_other_masks_are_not_joined(tmp_path, name):
    assert joined(written(tmp_path, NOT_OBJECTS[name])) is None


@pytest.mark.parametrize("places", [(".", "."), ("images", "masks"), ("shots", "truth")])
def test_numbered_masks_of_objects_are_joined_and_it_is_said(tmp_path, places):
    exports.photos(tmp_path / places[0])
    for i in range(4):
        written(tmp_path / places[1], [CAR], f"p{i}_mask.png")
    written(tmp_path / places[1], [TREE], "p2_mask_1.png")
    data = load(tmp_path)
    for name, mask in masks_of(data).items():
        assert np.array_equal(mask, (BOTH if name.endswith("p2") else CAR) > 0)
    assert len(data.unlabelled) == 2
    assert any(note.startswith("1 photos have a mask for each object, joined into one") for note in data.source.notes)


def test_numbered_masks_that_overlap_are_refused(tmp_path):
    exports.photos(tmp_path)
    written(tmp_path, [CAR, CAR, CAR], "p{}_mask.png")
    written(tmp_path, [BOTH], "p2_mask_1.png")
    with pytest.raises(DataError, match="'p2_mask_1' is named as a mask of 'p2', besides 'p2_mask'; join them"):
        load(tmp_path)


def test_photo_that_is_called_as_a_second_mask_stays_a_photo(tmp_path):
    exports.plain(tmp_path)
    exports.photos(tmp_path / "images", 1, first=9)
    (tmp_path / "images/p9.jpg").rename(tmp_path / "images/p0_label_2.jpg")
    assert "p0_label_2" in load(tmp_path).unlabelled["id"]


def nuclei(folder, count=6, masks=(CAR, TREE), name="{photo}-{number}.png"):
    for i in range(count):
        exports.photos(folder / f"stage1_train/n{i}/images", 1, first=i)
        if i < 4:
            written(folder / f"stage1_train/n{i}/masks", masks, name.format(photo="abcdef"[i] * 4, number="{}"))
    exports.photos(folder / "stage1_test/x/images", 1, first=count)
    return folder


@pytest.mark.parametrize("name", ["{photo}-{number}.png", "mask_{number}.png", "{number}.png"])
def test_a_folder_for_each_photo_and_a_file_for_each_object(tmp_path, name):
    data = load(nuclei(tmp_path, name=name))
    assert sorted(masks_of(data)) == [f"stage1_train/n{i}" for i in range(4)]
    assert all(np.array_equal(mask, BOTH > 0) for mask in masks_of(data).values())
    assert {*data.unlabelled["id"]} == {"stage1_train/n4", "stage1_train/n5", "stage1_test/x"}


def test_folders_of_masks_that_are_no_objects_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"n0/masks has 2 masks that are not of single objects, .*; join them"):
        load(nuclei(tmp_path, masks=(CAR, BOTH)))


def test_masks_that_are_called_as_classes_are_no_objects(tmp_path):
    nuclei(tmp_path, name="car{number}.png")
    with pytest.raises(DataError, match="several masks called 'car', as of classes; join those of a photo"):
        load(tmp_path)
