"""Photos and masks that a CSV or TSV pairs."""

import pytest

from data import exports
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.layouts import find
from prevmatch.errors import DataError


def made(folder, text, name="pairs.csv"):
    """Photos p0 to p5, masks m100 to m103 that bear other names, and a table."""
    exports.photos(folder / "frames")
    exports.masks(folder / "truth", range(100, 104), "m{}.png")
    (folder / name).write_text(text)
    return folder


def rows(numbers, line="frames/p{0}.jpg,truth/m10{0}.png"):
    return "".join(line.format(number) + "\n" for number in numbers)


def load(folder):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", "image,mask\n" + rows(range(4))),
        ("all.tsv", "id\tImage_Path\tLabel_Path\n" + rows(range(4), "{0}\tframes/p{0}.jpg\ttruth/m10{0}.png")),
        ("pairs.csv", '"mask";"image"\n' + rows(range(4), "truth\\m10{0}.png;frames\\p{0}.jpg")),
        ("pairs.csv", "image,mask\n" + rows(range(4)) + "frames/p4.jpg,\n"),
        ("pairs.csv", "image,mask\n" + rows(range(4), "p{0}.jpg,m10{0}.png")),
        ("pairs.csv", "image,label,label_path\n" + rows(range(4), "frames/p{0}.jpg,street,truth/m10{0}.png")),
        ("pairs.CSV", "image_name,mask_name\n" + rows(range(4), "p{0},truth/m10{0}")),
    ],
)
def test_table_pairs_photos_and_masks_of_other_names(tmp_path, name, text):
    data = load(made(tmp_path, text, name))
    assert f"layout: pairs of {name}" in data.source.notes
    pairs = {row["image"]["path"][-6:]: row["mask"]["path"][-8:] for row in (*data.labelled, *data.val)}
    assert pairs == {f"p{i}.jpg": f"m10{i}.png" for i in range(4)}
    assert data.unlabelled["id"] == ["frames/p4", "frames/p5"]


def test_table_in_utf_16_is_read(tmp_path):
    made(tmp_path, "")
    (tmp_path / "pairs.csv").write_text("image,mask\n" + rows(range(4)), encoding="utf-16")
    assert "layout: pairs of pairs.csv" in load(tmp_path).source.notes


def test_tables_of_parts_divide_the_photos(tmp_path):
    made(tmp_path, "image,mask\n" + rows(range(3)), "train.csv")
    (tmp_path / "val.csv").write_text("image,mask\n" + rows([3]))
    data = load(tmp_path)
    assert data.val["id"] == ["frames/p3"]
    assert len(data.labelled) == 3


def test_names_that_photos_and_masks_share_are_told_apart_by_their_folders(tmp_path):
    exports.photos(tmp_path / "images")
    exports.masks(tmp_path / "masks")
    (tmp_path / "pairs.csv").write_text("image,mask\np0,p3\np1,p2\np2,p1\np3,p0\n")
    data = load(tmp_path)
    pairs = {(row["image"]["path"][-6:-4], row["mask"]["path"][-6:-4]) for row in (*data.labelled, *data.val)}
    assert pairs == {("p0", "p3"), ("p1", "p2"), ("p2", "p1"), ("p3", "p0")}


def test_a_column_divides_the_photos(tmp_path):
    parts = ["train", "val", "test", "Train"]
    lines = [f"frames/p{i}.jpg,truth/m10{i}.png,{part}\n" for i, part in enumerate(parts)]
    data = load(made(tmp_path, "image,mask,split\n" + "".join(lines)))
    assert data.val["id"] == ["frames/p1"]
    assert sorted(data.labelled["id"]) == ["frames/p0", "frames/p3"]
    assert data.unlabelled["id"] == ["frames/p4", "frames/p5"]  # and the test photo is left out


def test_column_that_names_no_part_leaves_it_to_the_name_of_the_table(tmp_path):
    made(tmp_path, "image,mask,usage\n" + rows([2, 3], "frames/p{0}.jpg,truth/m10{0}.png,Public"), "test.csv")
    (tmp_path / "train.csv").write_text("image,mask\n" + rows([0, 1]))
    data = load(tmp_path)
    assert sorted([*data.labelled["id"], *data.val["id"]]) == ["frames/p0", "frames/p1"]


def test_photo_in_two_parts_is_refused(tmp_path):
    made(tmp_path, "image,mask\n" + rows(range(3)), "train.csv")
    (tmp_path / "test.csv").write_text("image,mask\n" + rows([2, 3]))
    with pytest.raises(DataError, match=r"train\.csv puts .*p2\.jpg into train, another line elsewhere; keep one"):
        load(tmp_path)


def test_masks_that_no_line_names_are_no_photos(tmp_path):
    exports.photos(tmp_path / "all")
    exports.masks(tmp_path / "all", range(4), "m{}.png")
    (tmp_path / "pairs.csv").write_text("image,mask\n" + rows(range(3), "all/p{0}.jpg,all/m{0}.png"))
    data = load(tmp_path)
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (2, 2, 1)  # every photo has a mask
    assert "4 images are neither listed nor beside listed photos and are not used" in data.source.notes


def test_table_of_something_else_is_passed_over(tmp_path):
    exports.plain(tmp_path)
    (tmp_path / "train.csv").write_text("image,label\nimages/p0.jpg,cat\n")
    assert "layout: images/ and masks/" in load(tmp_path).source.notes


def test_table_whose_masks_are_elsewhere_is_told(tmp_path):
    exports.plain(tmp_path)
    (tmp_path / "train.csv").write_text("image,mask\np0.jpg,/home/me/truth/m0.png\n")
    notes = load(tmp_path).source.notes
    assert "layout: images/ and masks/" in notes
    assert any(note.startswith("train.csv pairs photos and masks but none of these masks is there") for note in notes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("frames/p9.jpg,truth/m103.png\n", r"pairs\.csv lists .*frames/p9\.jpg, which is no image there"),
        ("frames/p4.jpg,truth/m999.png\n", r"pairs\.csv lists .*truth/m999\.png, which is no image there"),
        ("frames/p0.jpg,truth/m103.png\n", r"pairs\.csv gives .*frames/p0\.jpg a second mask; keep one"),
        ("truth/m100.png,truth/m103.png\n", r"lists .*truth/m100\.png as a photo and as a mask"),
        ("../p0.jpg,truth/m103.png\n", r"lists .*p0\.jpg, which is no image there"),
    ],
)
def test_lines_that_cannot_be_are_refused(tmp_path, more, message):
    with pytest.raises(DataError, match=message) as caught:
        load(made(tmp_path, "image,mask\n" + rows(range(3)) + more))
    assert "\n" not in str(caught.value)


def test_first_line_whose_mask_is_missing_is_refused_as_any_other(tmp_path):
    with pytest.raises(DataError, match=r"pairs\.csv lists .*truth/m99\.png, which is no image there"):
        load(made(tmp_path, "image,mask\nframes/p4.jpg,truth/m99.png\n" + rows(range(3))))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.csv", "image,label\np0.jpg,2\np1.jpg,1\n"),  # numbers, as photos or masks are called too
        ("train.csv", "image,target\nimages/p0.jpg,images/p1.jpg\n"),
        ("duplicates.csv", "image,target\np0.jpg,p1.jpg\n"),
        ("metadata.jsonl", '{"file_name": "p0.jpg", "label": 1}\n'),
        ("stereo.txt", "images/p0.jpg images/p1.jpg\nimages/p2.jpg images/p3.jpg\n"),
    ],
)
def test_what_pairs_no_masks_is_no_table_of_pairs(tmp_path, file, text):
    exports.plain(tmp_path)
    for name in ("1", "2"):
        exports.masks(tmp_path / "masks", [0], pattern=f"{name}.png")
        exports.photos(tmp_path / "images", 1, first=int(name) + 10)
    exports.write(tmp_path / file, text)
    assert find(tmp_path).layout == "images/ and masks/"


def test_pairs_of_folders_called_anything_are_read_where_masks_are_another_kind_of_file(tmp_path):
    exports.plain(tmp_path, "a", "b", "y{}.png")
    exports.write(tmp_path / "all.txt", "".join(f"a/p{i}.jpg b/y{i}.png\n" for i in range(4)))
    assert find(tmp_path).layout == "pairs of all.txt"
