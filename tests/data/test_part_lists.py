"""Lists that put images into parts, whatever layout the images have."""

import json
import unicodedata

import pytest

from data import exports
from prevmatch.data.found import Found
from prevmatch.data.layouts import find
from prevmatch.data.part_lists import follow
from prevmatch.data.sources import table
from prevmatch.errors import DataError

NAMES = ("cam0/a", "cam0/b", "cam1/b", "c.jpg", "d.1", "stra\u00dfe")


def divided(folder, names=NAMES):
    found = follow(folder, Found(parts={"": table(list(names), [None] * len(names), [None] * len(names))}))
    return {part: rows["id"][:] for part, rows in found.parts.items()}, found.notes


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("test.txt", "cam0/a.jpg\nc\n", "test"),
        ("Test_list.txt", "images/cam0/a.jpg masks/cam0/a.png\n./c.jpg\n", "Test_list"),
        ("ImageSets/test.txt", "a 1\nC\n", "test"),
        ("splits/test.lst", "\\\\data\\cam0\\A.JPG\n/somewhere/else/c.jpeg\n", "test"),
        ("test.csv", "filename\ncam0/a.jpg\nc.jpg\n", "test"),
        ("my_splits.json", json.dumps({"test": ["cam0/a", "c.jpg"], "train": ["d.1.png"]}), "test"),
    ],
)
def test_lists_are_followed_as_people_write_them(tmp_path, file, text, part):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    parts, notes = divided(tmp_path)
    assert parts[part] == ["cam0/a", "c.jpg"]
    assert sorted(name for names in parts.values() for name in names) == sorted(NAMES)
    assert not notes


def test_letters_count_the_same_however_they_are_composed(tmp_path):
    (tmp_path / "val.txt").write_text(unicodedata.normalize("NFD", "gr\u00fcn.jpg\n"))
    assert divided(tmp_path, ["gr\u00fcn", "x"])[0] == {"val": ["gr\u00fcn"], "": ["x"]}


def test_what_names_no_image_or_several_is_told_and_not_followed(tmp_path):
    (tmp_path / "test.txt").write_text("cam0/a\nb\nzzz\n")
    (tmp_path / "val.txt").write_text("other/one\n")
    (tmp_path / "car_test.txt").write_text("c 1\n")  # of a class, as VOC has them
    (tmp_path / "split.json").write_text('{"images": ["c"]}')
    (tmp_path / "test.json").write_text("no JSON")
    (tmp_path / "val.csv").write_text("image,label\nc,cat\n")
    parts, notes = divided(tmp_path)
    assert parts["test"] == ["cam0/a"]
    assert len(parts) == 2
    assert notes == [
        "test.txt lists 'b', which is no image, and 1 more such",
        "val.txt is not followed: it names no image that is here",
    ]


def test_image_in_two_parts_is_refused(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("c\n")
    with pytest.raises(DataError, match=r"the lists put 'c\.jpg' into test and train; keep one"):
        divided(tmp_path)


def test_lists_of_boxes_do_not_divide_beside_those_of_masks(tmp_path):
    for place, names in (("Segmentation", "c\n"), ("Main", "cam0/a\n")):
        (tmp_path / "ImageSets" / place).mkdir(parents=True)
        (tmp_path / "ImageSets" / place / "val.txt").write_text(names)
    assert divided(tmp_path)[0]["val"] == ["c.jpg"]


@pytest.mark.parametrize("make", [exports.plain, exports.coco, exports.labelme])
def test_every_layout_follows_lists(tmp_path, make):
    make(tmp_path)
    names = [name for rows in find(tmp_path).parts.values() for name in rows["id"]]
    (tmp_path / "test.txt").write_text(f"{names[0]}.jpg\n")
    assert find(tmp_path).parts["test"]["id"] == names[:1]
