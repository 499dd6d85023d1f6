"""A user's own data, in every layout that people and labelling tools make."""

import json
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image

from data.raw_layouts import halves, mask, photo
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.gate import class_table
from prevmatch.data.meaning import classes_in
from prevmatch.data.reading import read_mask, read_pair
from prevmatch.errors import ConfigError, DataError

SIZE = (40, 30)


def make(folder, photos=10, masks=4, values=(0, 1, 2), image_folder="images", mask_folder="masks"):
    """Photos a0, a1, …; the first ones have masks."""
    for i in range(photos):
        photo(folder / image_folder / f"a{i}.jpg", SIZE, seed=i)
        if i < masks:
            mask(folder / mask_folder / f"a{i}.png", halves(SIZE, *values), palette=False)
    return folder


def load(folder, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


def refused(folder, message, **settings):
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        load(folder, **settings)
    assert "\n" not in str(caught.value)


def test_what_has_a_mask_is_labelled_and_a_share_of_it_is_held_out(tmp_path):
    data = load(make(tmp_path, photos=20, masks=5))
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (4, 15, 1)
    ids = [*data.labelled["id"], *data.unlabelled["id"], *data.val["id"]]
    assert sorted(ids) == sorted(f"a{i}" for i in range(20))
    assert data.source.class_names == ("class_0", "class_1", "class_2")
    for row in data.val:
        assert set(np.unique(read_pair(row, data.source)[1])) == {0, 1, 2}


def test_held_out_images_follow_split_seed_and_share(tmp_path):
    make(tmp_path, masks=8)
    held_out = [load(tmp_path, val_share=0.5, split_seed=seed).val["id"] for seed in (0, 0, 1, 2, 3)]
    assert held_out[0] == held_out[1]
    assert len({tuple(ids) for ids in held_out}) > 1
    assert all(len(ids) == 4 for ids in held_out)


def test_validation_images_do_not_take_the_only_example_of_a_class(tmp_path):
    make(tmp_path, masks=6)
    mask(tmp_path / "masks" / "a3.png", halves(SIZE, 0, 1, 2, 3), palette=False)
    for seed in range(8):
        assert "a3" in load(tmp_path, split_seed=seed).labelled["id"]


def test_folder_val_is_for_validation(tmp_path):
    make(tmp_path, image_folder="images/train", mask_folder="masks/train")
    make(tmp_path, photos=3, masks=2, image_folder="images/val", mask_folder="masks/val")
    data = load(tmp_path)
    assert data.val["id"] == ["val/a0", "val/a1"]
    assert len(data.labelled) == 4
    assert data.labelled["id"][0] == "train/a0"


def test_labelled_images_can_be_drawn(tmp_path):
    data = load(make(tmp_path, photos=10, masks=10), labelled="50%")
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (4, 4, 2)


def test_classes_are_named_in_a_file(tmp_path):
    make(tmp_path)
    (tmp_path / "classes.txt").write_text("soil\nleaf\nstem\nfruit\n")
    refused(tmp_path, r"no mask has a pixel of 'fruit' \(1 of 4 classes\).* add --allow_absent_classes")
    data = load(tmp_path, allow_absent_classes=True)
    assert data.source.class_names == ("soil", "leaf", "stem", "fruit")
    assert any("fruit" in line and "in 0 of 4 masks" in line for line in class_table(data.source))


def test_masks_with_more_values_than_named_classes_are_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "classes.txt").write_text("soil\nleaf\n")
    refused(tmp_path, "hold the value 2, but 2 classes are named")


@pytest.mark.parametrize("text", ["", "a\n\nb\n", "a\na\n"])
def test_unusable_class_files_are_refused(tmp_path, text):
    make(tmp_path)
    (tmp_path / "classes.txt").write_text(text)
    refused(tmp_path, r"classes\.txt needs 1 to 255 different names")


def test_masks_of_0_and_255_are_background_and_foreground_and_it_is_said(tmp_path):
    data = load(make(tmp_path, values=(0, 255)))
    assert data.source.class_names == ("background", "foreground")
    assert set(np.unique(read_mask(data.labelled[0], data.source))) == {0, 1}
    assert any("255 is read as the class 'foreground'" in note for note in data.source.notes)


def test_255_stays_ignored_where_there_are_other_classes(tmp_path):
    data = load(make(tmp_path, values=(0, 1, 255)))
    assert data.source.num_classes == 2
    assert set(np.unique(read_mask(data.labelled[0], data.source))) == {0, 1, 255}


def test_found_values_with_gaps_become_consecutive_classes():
    names, mapping, told = classes_in(np.array([0, 7, 38, 255]), ())
    assert names == ("class_0", "class_7", "class_38")
    assert [mapping[value] for value in (0, 7, 38, 255, 5)] == [0, 1, 2, 255, 255]
    assert "0, 7, 38" in told[0]


def test_grey_pictures_and_empty_masks_are_no_masks():
    with pytest.raises(DataError, match="255 different values"):
        classes_in(np.arange(256), ())
    with pytest.raises(DataError, match="needs a pixel of some class"):
        classes_in(np.array([255]), ("a", "b", "c"))


def test_picture_masks_name_palette_and_flag(tmp_path):
    make(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], dtype=np.uint8)
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    refused(tmp_path, r"a0\.png .*add --mask_colours voc")
    (tmp_path / "colours.txt").write_text("soil: 0,0,0\nleaf: 128,0,0\nvoid: 0,128,0\n")
    data = load(tmp_path, mask_colours=str(tmp_path / "colours.txt"))
    assert data.source.class_names == ("soil", "leaf")
    assert data.source.palette == ((0, 0, 0), (128, 0, 0))
    assert set(np.unique(read_mask(data.labelled[0], data.source))) == {0, 1, 255}
    (tmp_path / "colours.txt").write_text("soil: 0,0,0\nleaf: 128,0,0\n")
    refused(tmp_path, r"has the colour \(0, 128, 0\), which is no class's",
            mask_colours=str(tmp_path / "colours.txt"))  # fmt: skip


def test_labelmes_voc_export_is_read(tmp_path):
    make(tmp_path, image_folder="JPEGImages", mask_folder="SegmentationClass", values=(0, 1, 255))
    (tmp_path / "class_names.txt").write_text("_background_\nleaf\n")
    data = load(tmp_path)
    assert data.source.class_names == ("_background_", "leaf")
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nleaf\n")
    assert load(tmp_path).source.class_names == ("_background_", "leaf")


@pytest.mark.parametrize("palette_image", [False, True])
def test_cvats_segmentation_masks_are_read(tmp_path, palette_image):
    make(tmp_path, image_folder="JPEGImages", mask_folder="SegmentationClass")
    colours = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], dtype=np.uint8)
    for path in (tmp_path / "SegmentationClass").iterdir():
        ids = np.asarray(Image.open(path))
        if palette_image:
            image = Image.fromarray(ids)
            image.putpalette(colours.tobytes())
        else:
            image = Image.fromarray(colours[ids])
        image.save(path)
    # The labels stand in another order than their colours were dealt.
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nstem:51,221,255::\nleaf:250,50,83::\n")
    data = load(tmp_path)
    assert data.source.class_names == ("background", "stem", "leaf")
    row = np.asarray(read_mask(data.labelled[0], data.source))[0]
    assert row[[0, 20, 39]].tolist() == [0, 2, 1]


def test_coco_json_is_read_and_images_without_annotations_are_unlabelled(tmp_path):
    make(tmp_path, photos=6, masks=0)
    images = [{"id": i, "file_name": f"a{i}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in range(6)]
    square = [5, 5, 20, 5, 20, 20, 5, 20]
    boxes = [{"image_id": i, "category_id": 4, "segmentation": [square], "area": 225} for i in range(3)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 4, "name": "leaf"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    data = load(tmp_path)
    assert data.source.class_names == ("background", "leaf")
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (2, 3, 1)
    assert set(np.unique(read_pair(data.val[0], data.source)[1])) == {0, 1}
    (tmp_path / "more.json").write_text("{}")  # not COCO's
    assert len(load(tmp_path).labelled) == 2
    shutil.copy(tmp_path / "annotations.json", tmp_path / "more.json")
    refused(tmp_path, "has 2 COCO files")


def test_identical_images_in_both_parts_are_reported(tmp_path):
    make(tmp_path, photos=12, masks=4)
    held_out = load(tmp_path).val["id"][0]
    shutil.copy(tmp_path / f"images/{held_out}.jpg", tmp_path / "images/z.jpg")
    notes = load(tmp_path).source.notes
    assert any(note.startswith("WARNING: 1 validation images are training images too") and "z" in note
               for note in notes)  # fmt: skip


def test_validation_masks_of_one_class_are_warned_of(tmp_path):
    make(tmp_path, photos=4, image_folder="train/images", mask_folder="train/masks")
    make(tmp_path, photos=2, values=(1,), image_folder="val/images", mask_folder="val/masks")
    warned = [note for note in load(tmp_path).source.notes if "one class" in note]
    assert warned == ["WARNING: the validation masks hold one class, 'class_1', so their score says next to nothing"]


def test_masks_without_image_are_reported(tmp_path):
    make(tmp_path)
    mask(tmp_path / "masks/lonely.png", halves(SIZE, 0, 1))
    assert any("lonely" in note for note in load(tmp_path).source.notes)


def test_folders_that_cannot_be_used_say_what_is_missing(tmp_path):
    refused(tmp_path / "nowhere", "does not exist; put all photos into images/")
    refused(tmp_path, "holds no images; put all photos")
    make(tmp_path, masks=0)
    refused(tmp_path, "lacks masks/")
    (tmp_path / "masks").mkdir()
    refused(tmp_path, "masks holds no images")
    mask(tmp_path / "masks/b.png", halves(SIZE, 0, 1))
    refused(tmp_path, "no mask in .* bears the name of an image: b.png")
    mask(tmp_path / "masks/a0.png", halves(SIZE, 0, 1))
    refused(tmp_path, "only one image has a mask; two are needed")
    photo(tmp_path / "images/a0.png", SIZE)
    refused(tmp_path, "share a name up to the suffix")


def test_where_every_image_has_a_mask_the_labelled_ones_are_the_unlabelled_ones_too(tmp_path):
    data = load(make(tmp_path, photos=5, masks=5))
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (4, 4, 1)
    assert any("every image has a mask" in note for note in data.source.notes)


def test_table_with_other_columns_is_read(tmp_path):
    make(tmp_path)
    rows = {"picture": [], "label": []}
    for i in range(10):
        rows["picture"].append(str(tmp_path / f"images/a{i}.jpg"))
        rows["label"].append(str(tmp_path / f"masks/a{i}.png") if i < 4 else None)
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.Image()})
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "saved")
    data = load_training_data(DataConfig(dataset="custom", dataset_name=str(tmp_path / "saved"),
                                         image_column="picture", mask_column="label"))  # fmt: skip
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (3, 6, 1)
    assert read_pair(data.labelled[0], data.source)[0].size == SIZE
    with pytest.raises(ConfigError, match="has no column 'image'; its columns are picture, label"):
        load_training_data(DataConfig(dataset="custom", dataset_name=str(tmp_path / "saved")))


def test_unlabelled_part_of_a_table_joins_the_pool(tmp_path):
    make(tmp_path)
    image = datasets.Features({"image": datasets.Image()})
    labelled = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / f"images/a{i}.jpg") for i in range(4)],
         "mask": [str(tmp_path / f"masks/a{i}.png") for i in range(4)]},
        features=datasets.Features(image | {"mask": datasets.Image()}),
    )  # fmt: skip
    bare = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / f"images/a{i}.jpg") for i in range(4, 10)]}, features=image
    )
    parts = {"train": labelled, "validation": labelled.select([0]), "unlabelled": bare}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    assert (len(data.labelled), len(data.unlabelled), len(data.val)) == (4, 6, 1)
    assert any("WARNING: 1 validation images" in note for note in data.source.notes)


def test_unknown_data_set_is_one_line(tmp_path):
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_training_data(DataConfig(dataset="custom", dataset_name=str(tmp_path / "nothing")))
    assert "\n" not in str(caught.value)


def test_classes_that_differ_in_their_spelling_alone_are_warned_of(tmp_path):
    make(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nCar\ncar\n")
    assert any("'Car' and 'car' differ in their spelling" in note for note in load(tmp_path).source.notes)
    assert load(tmp_path, merge_classes=("Car,car=Car",)).source.class_names == ("sky", "Car")


def warned(folder, words):
    return [note for note in load(folder).source.notes if note.startswith("WARNING") and words in note]


def test_masks_among_the_unlabelled_photos_are_warned_of(tmp_path):
    make(tmp_path)
    for name in ("x", "y"):
        mask(tmp_path / f"images/{name}.png", halves(SIZE, 0, 255), palette=False)
    (note,) = warned(tmp_path, "2 unlabelled photos look like masks")
    assert note.endswith("'x', 'y'")


def test_drawings_that_are_labelled_too_are_no_masks_among_photos(tmp_path):
    for i in range(6):
        mask(tmp_path / f"images/d{i}.png", halves(SIZE, 10 * i, 200), palette=False)
        if i < 4:
            mask(tmp_path / f"masks/d{i}.png", halves(SIZE, 0, 1), palette=False)
    assert not warned(tmp_path, "look like masks")


def numbered(folder, highest):
    make(folder, photos=6, masks=0)
    for i, top in enumerate(highest):
        mask(folder / f"masks/a{i}.png", np.tile(np.arange(40) * (top + 1) // 40, (30, 1)), palette=False)
    return folder


@pytest.mark.parametrize("highest", [(3, 5, 7, 4), (1, 2, 5, 6)])
def test_masks_that_count_objects_are_warned_of(tmp_path, highest):
    assert warned(numbered(tmp_path, highest), f"from 1 to some number, up to {max(highest)}")


@pytest.mark.parametrize("highest", [(3, 3, 3, 3), (6, 6, 5, 6), (1, 2, 3, 4)])
def test_masks_of_a_few_classes_count_no_objects(tmp_path, highest):
    assert not warned(numbered(tmp_path, highest), "from 1 to some number")


def test_masks_of_named_classes_count_no_objects(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"class {i}\n" for i in range(8)))
    assert not warned(numbered(tmp_path, (3, 5, 7, 4)), "from 1 to some number")
