"""Data sets that `datasets` loads, as other people saved them."""

import datasets
import pytest
from PIL import Image

from prevmatch.data.tables import load_parts
from prevmatch.errors import ConfigError


def saved(folder, **ids):
    image = Image.new("RGB", (4, 4))
    parts = {
        part: datasets.Dataset.from_dict({"id": names, "image": [image] * len(names), "mask": [None] * len(names)})
        for part, names in ids.items()
    }
    features = {"image": datasets.Image(), "mask": datasets.Image()}
    for part in parts:
        for column, feature in features.items():
            parts[part] = parts[part].cast_column(column, feature)
    datasets.DatasetDict(parts).save_to_disk(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("train", "val", "told_apart"),
    [
        (["a", "b"], ["c"], (["a", "b"], ["c"])),
        (["0", "1"], ["0"], (["train/0", "train/1"], ["val/0"])),
        (["0", "0"], ["1"], (["train/000000", "train/000001"], ["val/000000"])),
        ([0, 1], [0], (["train/0", "train/1"], ["val/0"])),
    ],
)
def test_ids_are_unique_over_all_parts(tmp_path, train, val, told_apart):
    parts = load_parts(saved(tmp_path / "saved", train=train, val=val))
    assert (parts["train"]["id"][:], parts["val"]["id"][:]) == told_apart


@pytest.mark.parametrize("values", [["a.jpg", "b.jpg"], [[1, 2], [3, 4]]])
def test_column_that_holds_no_images_is_named(tmp_path, values):
    datasets.Dataset.from_dict({"image": values, "mask": values}).save_to_disk(str(tmp_path))
    with pytest.raises(ConfigError, match=r"column 'image' of data set .* not images"):
        load_parts(str(tmp_path))


def test_classes_that_differ_between_parts_are_no_list_of_them(tmp_path):
    picture = Image.new("L", (8, 8))
    for train, val in ((["a", "b"], ["b", "a"]), (["a", "b"], None)):
        parts = {}
        for part, names in (("train", train), ("validation", val)):
            columns = {"image": [picture] * 2, "mask": [picture] * 2, "id": [[1], [2]]}
            rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
            rows = rows.cast_column("mask", datasets.Image())
            if names:
                feature = datasets.Sequence(datasets.ClassLabel(names=names))
                rows = rows.add_column("classes", [[0], [1]], feature=feature)
            parts[part] = rows
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / str(val)))
        loaded = load_parts(str(tmp_path / str(val)))
        assert all("classes" not in rows.column_names for rows in loaded.values())
        assert loaded["train"]["id"][:] == ["train/000000", "train/000001"]  # lists are no ids
    with pytest.raises(ConfigError, match="image_column and mask_column are both 'mask'"):
        load_parts(str(tmp_path / "None"), image_column="mask")
