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
