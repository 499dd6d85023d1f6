"""Exports that the tools' own code wrote (`write_real_exports.py`): read to the truth, or refused by name."""

import re
import shutil

import numpy as np
import pytest
import warm
from PIL import Image

from data.write_real_exports import BARE, CLASSES, EXPORTS, SHAPES, truth
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError

EXACT = 0
"""Masks, and what is drawn by centres of pixels as the truth is."""
DRAWN = 8
"""Polygons: pixels of 1,728 that another way to draw an outline may change, all of them at borders."""
TRACED = 100
"""Outlines traced through the centres of a mask's border pixels, which takes half a pixel off each side."""
BY_NAME = ("background", "car", "tree")
"""Class names where the export does not say their order."""

READ = {  # pixels that may differ, class names, whether the tool has parts
    "datumaro-camvid": (EXACT, CLASSES, True),
    "datumaro-cityscapes": (EXACT, CLASSES, True),
    "datumaro-coco_instances": (DRAWN, CLASSES, True),
    "datumaro-coco_panoptic": (EXACT, CLASSES, True),
    "datumaro-cvat": (DRAWN, CLASSES, False),
    "datumaro-kitti_segmentation": (EXACT, CLASSES, True),
    "datumaro-voc_segmentation": (EXACT, CLASSES, True),
    "label_studio-brush_to_coco": (TRACED, BY_NAME, False),
    "label_studio-coco": (DRAWN, BY_NAME, False),
    "label_studio-coco_with_images": (DRAWN, BY_NAME, False),
    "label_studio-json": (DRAWN, BY_NAME, False),
    "label_studio-yolo": (DRAWN, BY_NAME, False),
    "label_studio-yolo_with_images": (DRAWN, BY_NAME, False),
    "labelme-json": (DRAWN, BY_NAME, False),
    "segments_ai-coco-instance": (EXACT, CLASSES, False),
    "segments_ai-semantic": (EXACT, ("class_1", "class_2", "class_3"), False),
    "supervision-coco": (TRACED, CLASSES, False),
    "supervision-labelme": (TRACED, BY_NAME, False),
    "supervision-yolo": (TRACED, CLASSES, False),
    "ultralytics-yolo": (DRAWN, CLASSES, True),
}
WITH_A_FILE_FOR_EVERY_PHOTO = ("supervision-labelme",)
"""These call the bare photo background, as labelme itself does only when someone saves a photo without shapes."""
REFUSED = {
    "datumaro-coco": "4 COCO files, instances_train.json and stuff_train.json for two; keep one",
    "datumaro-coco_instances-boxes": "boxes without outlines only",
    "datumaro-cvat-boxes": "train.xml has boxes without outlines only",
    "datumaro-datumaro": "is of Datumaro's own form; export as COCO",
    "datumaro-dota": "has boxes of YOLO or DOTA",
    "datumaro-label_me": "polygons in the XML of LabelMe 3.0; export as `CVAT for images 1.1`",
    "datumaro-open_images": "masks has 3 masks for the image 'train/p0'.*join them",
    "datumaro-segment_anything": "in the form of Segment Anything, which name no classes",
    "datumaro-voc_detection-boxes": "as of boxes in Pascal VOC's form",
    "datumaro-yolo-boxes": "has boxes of YOLO or DOTA.*export polygons",
    "datumaro-yolo_ultralytics-boxes": "boxes without outlines only",
    "label_studio-brush_to_png": "has brush masks of Label Studio",
    "label_studio-json_min": "is Label Studio's JSON-MIN.*export as JSON",
    "label_studio-voc": "as of boxes in Pascal VOC's form",
    "supervision-pascal_voc": "as of boxes in Pascal VOC's form",
}


def load(folder, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


def photo_of(name):
    return re.search(r"p\d", name).group()


def at_borders(ids):
    """Pixels, bool (H, W), with a neighbour of another class."""
    padded = np.pad(ids, 1, mode="edge")
    shifts = [
        padded[1 + y : 1 + y + ids.shape[0], 1 + x : 1 + x + ids.shape[1]] for y in (-1, 0, 1) for x in (-1, 0, 1)
    ]
    return np.any([shift != ids for shift in shifts], axis=0)


@pytest.mark.parametrize("name", READ)
def test_export_is_read_to_the_pixels_that_were_drawn(name):
    tolerance, classes, parts = READ[name]
    data = load(EXPORTS / name)
    assert data.source.class_names == classes
    read = {photo_of(row["id"]): np.asarray(read_pair(row, data.source)[1]) for row in (*data.labelled, *data.val)}
    if name in WITH_A_FILE_FOR_EVERY_PHOTO:
        assert not read.pop(BARE).any()
        assert "1 of 5 JSON files have no shape: their photos are background throughout" in data.source.notes
    else:
        assert [photo_of(unlabelled) for unlabelled in data.unlabelled["id"]] == [BARE]
    assert sorted(read) == sorted(SHAPES)
    assert not parts or [photo_of(held_out) for held_out in data.val["id"]] == ["p3"]
    assert not [note for note in data.source.notes if "which is no image" in note or "missing" in note]
    for photo, ids in read.items():
        order = range(3) if classes[0] == "class_1" else [classes.index(name) for name in CLASSES]
        expected = np.array(order)[truth(photo)]
        wrong = ids != expected
        assert not (wrong & ~at_borders(expected)).any()
        assert wrong.sum() <= tolerance


@pytest.mark.parametrize("name", REFUSED)
def test_export_that_says_too_little_is_refused_by_name(name):
    with pytest.raises(DataError, match=REFUSED[name]) as caught:
        load(EXPORTS / name)
    assert "\n" not in str(caught.value)


def test_every_export_is_tried():
    assert sorted(path.name for path in EXPORTS.iterdir()) == sorted([*READ, *REFUSED])


def test_empty_texts_of_yolo_are_told():
    told = "1 of 5 texts are empty: their images count as unlabelled, not as without objects"
    assert told in load(EXPORTS / "label_studio-yolo").source.notes


def test_two_uploads_of_one_photo_are_refused(tmp_path):
    shutil.copytree(EXPORTS / "label_studio-yolo", tmp_path / "export")
    labels = tmp_path / "export/labels"
    shutil.copy(labels / "1a2b3c4d-p0.txt", labels / "5e6f7a8b-p0.txt")
    with pytest.raises(
        DataError, match=r"p0\.jpg has 2 texts, 1a2b3c4d-p0\.txt and 5e6f7a8b-p0\.txt for two; keep one"
    ):
        load(tmp_path / "export")


def test_texts_without_an_image_are_told(tmp_path):
    shutil.copytree(EXPORTS / "label_studio-yolo", tmp_path / "export")
    (tmp_path / "export/images/p0.jpg").unlink()
    assert "1 texts have no image and are left out: '1a2b3c4d-p0.txt'" in load(tmp_path / "export").source.notes


TINY = (
    "--encoder test_resnet --encoder_weights none --decoder_channels 8 --low_level_channels 4 --atrous_rates 1 2 3 "
    "--crop_size 33 --steps 4 --batch_size 2 --num_workers 0"
)
VARIATIONS = ("datumaro-voc_segmentation", "label_studio-json")


@pytest.mark.parametrize(
    "name", ["datumaro-cvat", *(pytest.param(name, marks=pytest.mark.variation) for name in VARIATIONS)]
)
def test_export_goes_all_the_way_to_predictions(name, tmp_path):
    def prevmatch(*words):
        done = warm.run("prevmatch", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "3 labelled and 1 unlabelled images, 1 for validation, 3 classes" in prevmatch(
        "check", EXPORTS / name, "--output_dir", tmp_path / "check", *TINY.split()
    )
    prevmatch("prepare", "custom", "--data_dir", EXPORTS / name, "--output_dir", tmp_path / "prepared")
    prevmatch("train", "--data_dir", tmp_path / "prepared", "--output_dir", tmp_path / "run", *TINY.split())
    prevmatch("predict", tmp_path / "run", EXPORTS / name, "--output_dir", tmp_path / "maps")
    (predicted,) = (tmp_path / "maps/ids").rglob(f"{BARE}.png")
    assert np.asarray(Image.open(predicted)).shape == truth(BARE).shape
