"""Lists that say which photos are labelled: the masks of the others do not count."""

import pytest

from data import exports
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data

LISTS = {
    "unlabeled.txt": "p2\np3\np5\n",
    "labeled.txt": "p0\np1\n",
    "labelled.csv": "image\np0.jpg\np1.jpg\n",
    "unlabelled_images.lst": "images/p3.jpg\nimages/p2.jpg\n",
    "splits/labeled.txt": "images/p0.jpg masks/p0.png\nimages/p1.jpg masks/p1.png\n",
}


def load(folder, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


def masked(data):
    return sorted([*data.labelled["id"], *data.val["id"]])


@pytest.mark.parametrize("name", LISTS)
def test_photos_that_lists_call_unlabelled_have_no_mask(tmp_path, name):
    exports.write(exports.plain(tmp_path) / name, LISTS[name])
    data = load(tmp_path)
    assert masked(data) == ["p0", "p1"]
    assert sorted(data.unlabelled["id"]) == ["p2", "p3", "p4", "p5"]
    told = f"{name.rpartition('/')[2]}: the masks of 2 photos are not used; --split all uses them"
    assert told in data.source.notes


def test_validation_masks_count_though_no_list_of_labelled_photos_has_them(tmp_path):
    exports.parts(tmp_path)
    exports.write(tmp_path / "labeled.txt", "train/images/p0.jpg\n")
    data = load(tmp_path)
    assert len(data.labelled) == 1
    assert len(data.val) == 2


def test_pairs_of_unlabelled_photos_are_not_learned_from(tmp_path):
    exports.plain(tmp_path, "x", "y", "m{}.png")
    for name, numbers in (("labeled", (0, 1)), ("unlabeled", (2, 3))):
        exports.write(tmp_path / f"{name}.txt", "".join(f"x/p{i}.jpg y/m{i}.png\n" for i in numbers))
    data = load(tmp_path)
    assert masked(data) == ["x/p0", "x/p1"]
    assert set(data.unlabelled["id"]) >= {"x/p2", "x/p3"}


@pytest.mark.parametrize("settings", [{"labelled": "2"}, {"split": "all"}])
def test_settings_that_say_which_photos_are_labelled_go_before_lists(tmp_path, settings):
    exports.write(exports.plain(tmp_path) / "labelled_1.txt", "p0\np1\n")
    kept = load(tmp_path, **settings).source
    assert sum(mask is not None for rows in (kept.train, kept.val) for mask in rows["mask"]) == exports.LABELLED


def test_lists_that_differ_are_said_not_to_be_followed(tmp_path):
    exports.plain(tmp_path)
    exports.write(tmp_path / "labelled_2.txt", "p0\np1\n")
    exports.write(tmp_path / "labelled_3.txt", "p0\np1\np2\n")
    data = load(tmp_path)
    assert len(masked(data)) == exports.LABELLED
    assert any("'labelled_2.txt', 'labelled_3.txt' name different photos" in note for note in data.source.notes)


def test_list_of_other_things_is_said_not_to_be_followed(tmp_path):
    exports.write(exports.plain(tmp_path) / "labeled.txt", "someone\n")
    data = load(tmp_path)
    assert len(masked(data)) == exports.LABELLED
    assert "labeled.txt is not followed: it names no image that is here" in data.source.notes
