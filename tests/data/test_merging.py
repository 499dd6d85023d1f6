"""Classes merged and ignored, in any kind of masks."""

import numpy as np
import pytest

from data import exports
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_mask
from prevmatch.errors import ConfigError

MAKERS = {"ids": exports.plain, "colours": exports.cvat_masks, "outlines": exports.coco}


def load(folder, **settings):
    if not (folder / "annotations.json").exists() and not (folder / "labelmap.txt").exists():
        (folder / "classes.txt").write_text("background\ncar\ntree\n")
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    ("settings", "names", "meaning"),
    [
        ({"merge_classes": ("car,tree=thing",)}, ("background", "thing"), (0, 1, 1)),
        ({"merge_classes": ("tree=background",)}, ("background", "car"), (0, 1, 0)),
        ({"ignore_classes": ("background",)}, ("car", "tree"), (255, 0, 1)),
        ({"ignore_classes": ("tree",), "merge_classes": ("car=vehicle",)}, ("background", "vehicle"), (0, 1, 255)),
    ],
)
def test_masks_follow_the_class_map(tmp_path, kind, settings, names, meaning):
    data = load(MAKERS[kind](tmp_path / "x"), **settings)
    assert data.source.class_names == names
    assert len(data.source.palette) == len(names)
    for row in (*data.labelled, *data.val):
        found = np.asarray(read_mask(row, data.source))
        assert np.array_equal(found, np.array(meaning, dtype=np.uint8)[exports.TRUTH])
        counts = np.bincount(found.ravel(), minlength=256)
        assert data.source.pixels[row["id"]].tolist() == [*counts[: len(names)], counts[255]]


def test_zero_of_unnamed_masks_can_be_unlabelled(tmp_path):
    exports.plain(tmp_path)
    data = load_training_data(DataConfig(dataset="custom", data_dir=tmp_path, ignore_classes=("class_0",)))
    assert data.source.class_names == ("class_1", "class_2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"merge_classes": ("car,lorry=vehicle",)},
            "has 'lorry', but the classes are background, car, tree",
        ),
        ({"merge_classes": ("car",)}, "needs OLD,OLD=NEW"),
        ({"ignore_classes": ("sky",)}, "ignore_classes has 'sky'"),
        ({"ignore_classes": ("car",), "merge_classes": ("car,tree=x",)}, "both have 'car'; leave it out of one"),
    ],
)
def test_classes_that_are_not_there_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        load(exports.plain(tmp_path / "x"), **settings)
