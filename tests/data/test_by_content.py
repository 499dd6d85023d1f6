"""Folders of any names: which hold photos and which their masks is told by what is in them, or refused by name."""

import numpy as np
import pytest
from PIL import Image

from data import exports
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError


def load(folder):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder))


def in_parts(folder, photos, masks, names=("train", "val")):
    return exports.parts(folder, (photos, masks), names)


def of_sites(folder):
    for site in ("north", "south"):
        exports.plain(folder / site, "photo", "truth")
    return folder


def by_kinds(folder):
    for kind in ("red bird", "blue bird"):
        exports.plain(folder, f"shots/{kind}", f"outlines/{kind}")
    return folder


def of_normal_and_of_others(folder):
    exports.plain(folder, "Data/Shots/Odd", "Data/Truth/Odd")
    exports.photos(folder / "Data/Shots/Normal", exports.PHOTOS)
    return folder


def with_colours_beside(folder):
    exports.plain(folder, "deep/pictures", "deep/classes")
    exports.masks(folder / "shown", truth=exports.COLOURS[exports.TRUTH])
    return folder


READ = {
    "Original/ and Ground Truth/": (lambda f: exports.plain(f, "Original", "Ground Truth"), 3, 1),
    "in deep folders": (lambda f: exports.plain(f, "a/b/X", "a/c/Y", "p{}_gt.png"), 3, 1),
    "train_img/ and train_lab/": (lambda f: in_parts(f, "{}_img", "{}_lab"), 2, 2),
    "train/Input/ and train/Output/": (lambda f: in_parts(f, "{}/Input", "{}/Output"), 2, 2),
    "parts in long names": (lambda f: in_parts(f, "7_{}_Input", "{}_Truth", ("Training", "Validation")), 2, 2),
    "sites": (of_sites, 6, 2),
    "folders of kinds in both": (by_kinds, 6, 2),
    "photos of the same names in another folder": (of_normal_and_of_others, 3, 1),
    "train_val/ and test/": (lambda f: in_parts(f, "{}/images", "{}/masks", ("train_val", "test")), 1, 1),
    "ids and colours": (with_colours_beside, 3, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_masks_are_told_from_photos_and_read_to_the_right_pixels(tmp_path, name):
    make, labelled, val = READ[name]
    data = load(make(tmp_path / "data"))
    assert (len(data.labelled), len(data.val)) == (labelled, val)
    assert len(data.unlabelled) >= 1
    for rows in (data.labelled, data.val):
        for row in rows:
            image, mask = read_pair(row, data.source)
            assert image.size == exports.SIZE
            assert np.array_equal(np.asarray(mask), exports.TRUTH)


def test_it_is_said_which_folders_were_taken_for_masks(tmp_path):
    notes = load(in_parts(tmp_path, "{}_img", "{}_lab")).source.notes
    assert "layout: train_img/ and train_lab/" in notes
    assert any("taken for masks by what is in them" in note and "'train_lab/', 'val_lab/'" in note for note in notes)


def test_photos_beside_those_with_masks_are_unlabelled(tmp_path):
    ids = load(of_normal_and_of_others(tmp_path)).unlabelled["id"]
    assert sum(name.startswith("Shots/Normal/") for name in ids) == exports.PHOTOS


def test_a_mask_is_that_of_the_photo_of_its_own_site(tmp_path):
    rows = load(of_sites(tmp_path)).labelled
    assert all(row["mask"]["path"].split("/")[-3] == row["image"]["path"].split("/")[-3] for row in rows)


def test_photos_of_a_part_without_masks_are_unlabelled_and_of_other_folders_are_told(tmp_path):
    in_parts(tmp_path, "{}/Input", "{}/Output")
    exports.photos(tmp_path / "test/Input", 5, first=20)
    exports.photos(tmp_path / "unlabelled", 4, first=30)
    exports.photos(tmp_path / "more", 3, first=40)
    data = load(tmp_path)
    assert {name for name in data.unlabelled["id"] if name.startswith("test/Input/")} == {
        f"test/Input/p{i}" for i in range(20, 25)
    }
    assert sum(name.startswith("unlabelled/") for name in data.unlabelled["id"]) == 4
    assert not any(name.startswith("more/") for name in data.unlabelled["id"])
    assert any(note.startswith("more/ has 3 images that are not used") for note in data.source.notes)


def test_a_test_part_is_left_out(tmp_path):
    data = load(in_parts(tmp_path, "{}_img", "{}_lab", ("train", "test")))
    assert not any("test" in name for rows in (data.labelled, data.unlabelled, data.val) for name in rows["id"])


def two_raters(folder):
    exports.plain(folder, "shots", "first")
    exports.masks(folder / "second")


def two_sizes(folder):
    exports.plain(folder, "large", "truth")
    exports.photos(folder / "small")


def two_data_sets(folder):
    exports.plain(folder / "one", "shots", "truth")
    exports.plain(folder / "two", "pictures", "labelled by me")


def one_name_twice(folder):
    exports.plain(folder, "shots", "truth")
    exports.photos(folder / "shots", 1, suffix="bmp")


def blurred(folder):
    exports.photos(folder / "shots")
    (folder / "truth").mkdir()
    for i in range(4):
        Image.fromarray((exports.TRUTH > 0).astype(np.uint8) * 255).save(folder / f"truth/p{i}.jpg")


REFUSED = {
    "masks by two raters": (two_raters, r"shots has masks in 'first/', 'second/'; leave one of them"),
    "photos in two sizes": (two_sizes, r"truth could have the masks of 'large/', 'small/'; name one folder"),
    "two data sets": (two_data_sets, r"'one/shots/', 'two/pictures/', as of several data sets; name one folder"),
    "one name twice": (one_name_twice, "shots has files that share a name up to the suffix"),
    "JPEG masks": (blurred, r"truth/p0\.jpg .*--mask_threshold 128"),
    "photos alone": (lambda f: [exports.photos(f / name) for name in "xy"], r"has 12 images but lacks images/"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_mean_several_things_is_refused(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data")
