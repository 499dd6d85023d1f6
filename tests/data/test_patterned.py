"""Masks where a user's own pattern says."""

import pytest

from data import exports
from data.raw_layouts import mask, photo
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.errors import ConfigError, DataError


def make(folder, pattern):
    for site in ("a", "b"):
        for i in range(3):
            photo(folder / site / f"p{i}.jpg", exports.SIZE, seed=i)
            if i < 2:
                mask(
                    folder / pattern.format(folder=site, stem=f"p{i}", name=f"p{i}.jpg"), exports.TRUTH, palette=False
                )
    return folder


def load(folder, pattern):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, mask_path=pattern))


@pytest.mark.parametrize(
    "pattern",
    ["{folder}/{stem}_m.png", "truth/{folder}/{name}.png", "{folder}/truth/{stem}.png", "t/{folder}-{stem}.png"],
)
def test_masks_are_found_where_the_pattern_says(tmp_path, pattern):
    data = load(make(tmp_path, pattern), pattern)
    assert len(data.labelled) + len(data.val) == 4
    assert sorted(data.unlabelled["id"]) == ["a/p2.jpg", "b/p2.jpg"]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("{stem}_m.png", ConfigError, "mask_path finds no mask"),
        ("{what}.png", ConfigError, "may hold {folder}, {stem} and {name} only"),
        ("masks/x.png", ConfigError, "must hold {stem} or {name}"),
        ("t/{stem}.png", DataError, "would be the mask of"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(tmp_path, pattern, error, message):
    make(tmp_path, "t/{folder}-{stem}.png")
    mask(tmp_path / "t/p0.png", exports.TRUTH, palette=False)
    with pytest.raises(error, match=message):
        load(tmp_path, pattern)
