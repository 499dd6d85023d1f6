"""Which photo a name in a file of annotations means."""

from pathlib import Path

import pytest

from prevmatch.data.photos import Name, find_photos
from prevmatch.errors import DataError

FOLDER = Path("/data")
TWO = ("images/c0/1.jpg", "images/c1/2.jpg")
PARTS = ("train/1.jpg", "val/1.jpg", "val/2.jpg")

MEANT = {
    "path": (TWO, Name("images/c1/2.jpg"), 1),
    "path below images/": (TWO, Name("c1/2.jpg"), 1),
    "path of Windows": (TWO, Name("C:\\ds\\c1\\2.jpg"), 1),
    "path of another computer": (TWO, Name("/home/u/c1/images/2.jpg"), 1),
    "path from the file it is in": (TWO, Name("../images/c0/1.jpg", "json"), 0),
    "name alone": (TWO, Name("2.jpg"), 1),
    "name alone in images/": (TWO, Name("images/2.jpg"), 1),
    "name in a folder that is not there": (TWO, Name("c2/2.jpg"), None),
    "name in another folder": (TWO, Name("c1/1.jpg"), None),
    "another folder where all photos lie in one": (TWO[:1], Name("raw/1.jpg"), 0),
    "the photo beside the file": (("a/1.jpg", "b/1.jpg"), Name("1.jpg", "b"), 1),
    "part of the file": (PARTS, Name("1.jpg", "annotations", "val"), 1),
    "photo of another part": (PARTS, Name("2.jpg", "annotations", "train"), None),
    "other letters": (("images/A.JPG",), Name("a.jpg"), 0),
    "other suffix": (("images/a.png",), Name("a.jpg"), 0),
    "own suffix first": (("x/a.jpg", "x/a.png"), Name("a.png"), 1),
    "no suffix": (("images/frame_01.PNG",), Name("frame_01"), 0),
    "composed": (("e\u0301.jpg",), Name("\u00e9.jpg"), 0),
    "address": (TWO, Name("https://x.org/c1/2.jpg?token=1"), 1),
    "address with %20": (("my photo.jpg",), Name("https://x.org/my%20photo.jpg"), 0),
    "a name that looks like an address": (("a%20b.jpg", "a b.jpg"), Name("a%20b.jpg"), 0),
    "upload": (TWO, Name("/data/upload/1/1a2b3c4d-2.jpg"), 1),
    "upload of a photo that is there": (("a.jpg", "x/20240101-a.jpg"), Name("20240101-a.jpg"), 1),
    "local file of Label Studio": (TWO, Name("/data/local-files/?d=ds/c1/2.jpg"), 1),
    "nothing": (TWO, Name(""), None),
}


def found(photos, *names):
    images = {path: FOLDER / path for path in photos}
    return find_photos(names, images, FOLDER, FOLDER / "x.json")


@pytest.mark.parametrize("name", MEANT)
def test_photo_that_is_meant(name):
    photos, wanted, place = MEANT[name]
    assert found(photos, wanted) == ({} if place is None else {wanted: photos[place]})


def test_a_folder_that_counts_for_one_name_counts_for_all():
    assert found(("c0/1.jpg", "c0/2.jpg"), Name("ds/c0/1.jpg"), Name("ds/c1/2.jpg")) == {
        Name("ds/c0/1.jpg"): "c0/1.jpg"
    }


def test_names_that_would_share_a_photo_mean_none():
    assert found(("1.jpg",), Name("c0/1.jpg"), Name("c1/1.jpg")) == {}
    assert found(("1.jpg",), Name("1.jpg"), Name("c1/1.jpg")) == {Name("1.jpg"): "1.jpg"}


def test_name_that_could_be_several_photos_is_refused():
    with pytest.raises(DataError, match=r"x\.json has '1\.jpg', which could be a/1\.jpg or b/1\.jpg; keep one"):
        found(("a/1.jpg", "b/1.jpg"), Name("1.jpg"))


def test_no_photos_and_no_names():
    assert found((), Name("1.jpg")) == found(("1.jpg",)) == {}
