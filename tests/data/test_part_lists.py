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
        ("split.json", json.dumps({"seed": 0, "splits": {"test": ["cam0/a", "c.jpg"], "ids": [1]}}), "test"),
        ("fold.json", json.dumps({"cam0/a.png": "test", "c.jpg": "test", "d.1.jpg": "train"}), "test"),
        ("dataset.json", json.dumps({"name": "x", "test": [{"image": "./cam0/a.jpg"}, {"image": "c"}]}), "test"),
        (
            "splits.json",
            json.dumps([{"image": n, "split": p} for n, p in (("cam0/a", "test"), ("c", "test"))]),
            "test",
        ),
        ("test.txt", "['cam0/a.jpg', 'c.jpg']\n", "test"),
        ("test.txt", "cam0/a.jpg,\nc.jpg,\n", "test"),
        ("test.txt", "cam0/a_mask.png\nc_label.png\n", "test"),
        ("splits.yaml", "test:\n- cam0/a\n- c.jpg\n", "test"),
        ("annotations/test.txt", "a 1 1 1\nc 2 1 1\n", "test"),
        ("Data_Splits/test", "cam0/a\nc\n", "test"),
        ("images/test.txt", "0 cam0/a.jpg\n1 c.jpg\n", "test"),
        ("split.txt", "cam0/a.jpg test\nd.1.jpg train\nc.jpg test\n", "test"),
        ("test.csv", ",image\n0,cam0/a.jpg\n1,c.jpg\n", "test"),
        ("test.csv", "7,cam0/a.jpg\n8,c.jpg\n", "test"),
        ("frames.csv", "patient;filename;split\n1;cam0/a.jpg;test\n1;d.1.jpg;train\n2;c.jpg;test\n", "test"),
        ("meta/all.tsv", "id\tis_test\ncam0/a\t1\nd.1\t0\nc\tTrue\n", "test"),
        ("test.csv", "image,mask\n/home/me/cam0/a.jpg,/home/me/a.png\nC:\\x\\c.jpg,C:\\x\\c.png\n", "test"),
    ],
)
def test_lists_are_followed_as_people_write_them(tmp_path, file, text, part):
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
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
    (tmp_path / "boxes.csv").write_text("image,label\nc,cat\n")
    (tmp_path / "cam0.txt").write_text("0 .5 .5 .1 .1\n")
    parts, notes = divided(tmp_path)
    assert parts["test"] == ["cam0/a"]
    assert len(parts) == 2
    assert notes == [
        "split.json is not followed: it names no parts for images in a form that is known here",
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


def test_lists_and_classes_above_the_folder_of_the_data_count_too(tmp_path):
    exports.plain(tmp_path / "data")
    name = next(name for rows in find(tmp_path).parts.values() for name in rows["id"])
    (tmp_path / "test.txt").write_text(f"{name}.jpg\n")
    found = find(tmp_path)
    assert found.parts["test"]["id"] == [name]
    assert f"read from {tmp_path}/data" in found.notes


def test_names_that_all_begin_with_a_part_say_it_where_nothing_else_does(tmp_path):
    names = ["train_1", "train_2", "testA_1", "site/val-3"]
    assert divided(tmp_path, names)[0] == {"train": names[:2], "testA": names[2:3], "val": names[3:]}
    assert divided(tmp_path, [*names, "other"])[0] == {"": [*names, "other"]}
    assert divided(tmp_path, ["test_1", "test_2"])[0] == {"": ["test_1", "test_2"]}


def test_number_at_the_end_of_a_name_is_no_suffix(tmp_path):
    (tmp_path / "test.txt").write_text("d.2\n")
    assert divided(tmp_path)[0] == {"": list(NAMES)}


def test_list_that_bears_the_name_of_a_photo_is_a_list_where_it_says_a_part(tmp_path):
    (tmp_path / "test.txt").write_text("x\n")
    (tmp_path / "test_1.txt").write_text("0 .5 .5 .5 .1 .1 .1\n")  # the outlines of a photo
    assert divided(tmp_path, ["test", "test_1", "x"])[0]["test"] == ["x"]


@pytest.mark.parametrize("make", [exports.plain, exports.coco, exports.labelme])
def test_what_the_folder_of_all_data_is_called_says_no_part(tmp_path, make):
    make(tmp_path / "test")
    assert set(find(tmp_path / "test").parts) <= {"", "train", "val"}


def test_lists_of_folds_are_told_and_not_followed(tmp_path):
    (tmp_path / "splits/fold_0").mkdir(parents=True)
    (tmp_path / "splits/fold_0/test.txt").write_text("c\n")
    parts, notes = divided(tmp_path)
    assert parts == {"": list(NAMES)}
    assert notes == ["splits/fold_0/ has lists that are not followed; put those that count into splits/"]


def test_folders_that_differ_in_the_part_alone_say_theirs(tmp_path):
    names = ["x/farm_train/1", "x/farm_test/1", "x/farm_val/2", "x/other/3"]
    assert divided(tmp_path, names)[0] == {"train": names[:1], "test": names[1:2], "val": names[2:3], "": names[3:]}
    two = ["farm_train/1", "town_test/1"]
    assert divided(tmp_path, two)[0] == {"": two}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"val.csv": "epoch,iou\n1,.3\n2,.4\n"}, {}),
        ({"testing_notes.txt": "1 take the camera\n2 and go\n"}, {}),
        ({"test_results.csv": "image,iou\n1.jpg,.3\n2.jpg,.4\n3.jpg,.3\n"}, {}),
        ({"test.txt": "cam2/2.jpg\n"}, {}),
        ({"test_notes.txt": b"f\xfcr 1\n", "train": b"\x7fELF\xff\xfe\x00"}, {}),
        ({"town_train.txt": "1\n", "town_test.txt": "0002\n"}, {"train": ["1"], "test": ["cam1/2"]}),
        ({"test.json": '["1.jpg"]'}, {"test": ["1"]}),
        ({"metadata.jsonl": '{"file_name": "1.jpg", "split": "test"}\n'}, {"test": ["1"]}),
        ({"dataset.json": '{"test": {"images": ["1.jpg"]}}'}, {"test": ["1"]}),
    ],
)
def test_what_only_looks_like_a_list_is_none_and_what_does_not_may_be_one(tmp_path, files, told):
    for file, text in files.items():
        (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    parts, _ = divided(tmp_path, ["1", "cam1/2", "3"])
    parts.pop("", None)
    assert parts == told
