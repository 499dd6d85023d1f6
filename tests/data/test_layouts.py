"""Every tool's export, and folders as people name them: read to the same pixels, or refused by name."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from data import exports
from data.raw_layouts import photo
from prevmatch.config import DataConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.layouts import find
from prevmatch.data.reading import read_pair
from prevmatch.errors import DataError

NAMES = ("background", "car", "tree")


def drive(folder):
    exports.plain(folder / "training", "images", "1st_manual", "p{}_manual1.png")
    exports.masks(folder / "training/mask", truth=np.ones_like(exports.TRUTH), pattern="p{}_mask.png")
    return folder


def field_of_view(folder):
    exports.plain(folder, "images", "manual1")
    exports.masks(folder / "mask", truth=np.ones_like(exports.TRUTH), pattern="p{}_mask.png")
    return folder


def a_folder_for_each(folder):
    exports.plain(folder)
    for i in range(exports.PHOTOS):
        for kind in ("images", "masks"):
            for path in folder.glob(f"{kind}/p{i}.*"):
                (folder / f"case {i}").mkdir(exist_ok=True)
                path.rename(folder / f"case {i}" / f"{kind[:-1]}{path.suffix}")
    for kind in ("images", "masks"):
        (folder / kind).rmdir()
    return folder


def in_halves(folder):
    exports.parts(folder, ("{}/images", "{}/masks"), ("train/labeled", "val"))
    exports.photos(folder / "train/unlabeled/images", first=20)
    return folder


def with_pictures_of_photos(folder):
    exports.plain(folder, ".", ".", "p{}_mask.png")
    for i in range(4):
        photo(folder / f"p{i}_overlay.png", exports.SIZE, seed=i)
        photo(folder / f"p{i}_mask_colored.png", exports.SIZE, seed=i)
        photo(folder / f"p{i}_x_{i}.png", exports.SIZE, seed=i)
    return folder


def cityscapes_as_downloaded(folder):
    for path in exports.cityscapes(folder).glob("gtFine/*/*/*_labelIds.png"):
        exports.write(path.with_name(path.name.replace("labelIds.png", "polygons.json")), {"objects": []})
    return folder


def with_what_goes_with_masks(folder):
    exports.plain(folder, "images", "labels")
    exports.write(folder / "labels/p0.png.aux.xml", "<PAMDataset/>")
    exports.write(folder / "labels/README.txt", "how they were drawn")
    return folder


def deepglobe(folder):
    exports.plain(folder, ".", ".", "p{}_mask.png")
    for path in folder.glob("*.jpg"):
        path.rename(path.with_name(f"{path.stem}_sat.jpg"))
    return folder


def pairs_in_a_text(folder):
    exports.plain(folder, "images", "ann", "label-{}.png")
    exports.write(folder / "train.txt", "".join(f"images/p{i}.jpg ann/label-{i}.png\n" for i in range(4)))
    return folder


def pairs_in_json_lines(folder):
    exports.plain(folder / "train", "photo", "ann", "label-{}.png")
    lines = [{"file_name": f"photo/p{i}.jpg", "mask_file_name": f"ann/label-{i}.png"} for i in range(4)]
    exports.write(folder / "train/metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return folder


def labelme_without_sizes(folder):
    for path in exports.labelme(folder).glob("*.json"):
        content = json.loads(path.read_text())
        exports.write(path, {k: v for k, v in content.items() if k not in ("imageHeight", "imageWidth")})
    return folder


READ = {
    "DRIVE": (drive, {}),
    "pictures made of photos": (with_pictures_of_photos, {}),
    "Cityscapes as downloaded": (cityscapes_as_downloaded, {"val": 2}),
    "what goes with masks": (with_what_goes_with_masks, {}),
    "x_sat.jpg and x_mask.png": (deepglobe, {}),
    "pairs in a text": (pairs_in_a_text, {}),
    "pairs in JSON lines": (pairs_in_json_lines, {}),
    "images/ and Labels/": (lambda f: exports.yolo(f, ("images/{}", "Labels/{}")), {"names": NAMES, "val": 2}),
    "labelme without sizes": (labelme_without_sizes, {"names": NAMES}),
    "images/ and masks/": (exports.plain, {}),
    "image/ and labels/": (lambda f: exports.plain(f, "image", "labels"), {}),
    "Images/ and Masks/": (lambda f: exports.plain(f, "Images", "Masks"), {}),
    "img_dir/ and ann_dir/": (lambda f: exports.plain(f, "img_dir/set 1", "ann_dir/set 1"), {}),
    "train_images/ and train_masks/": (lambda f: exports.plain(f, "train_images", "train_masks"), {}),
    "trimaps beside boxes": (exports.oxford_pets, {}),
    "Supervisely's masks": (lambda f: exports.plain(f / "ds0", "img", "masks_machine").parent, {}),
    "class list among the masks": (exports.classes_among_masks, {"names": NAMES}),
    "x_mask.png": (lambda f: exports.plain(f, pattern="p{}_mask.png"), {}),
    "x.jpg.png": (lambda f: exports.plain(f, pattern="p{}.jpg.png"), {}),
    "masks beside their photos": (lambda f: exports.plain(f, ".", ".", "p{}_mask.png"), {}),
    "PNG masks beside JPEG photos": (lambda f: exports.plain(f, ".", "."), {}),
    "masks flat, images nested": (lambda f: exports.plain(f, "images/site 1", "masks"), {}),
    "a folder for each photo": (a_folder_for_each, {}),
    "x.jpg and x_anno.png": (lambda f: exports.plain(f, ".", ".", "p{}_anno.png"), {}),
    "x.jpg and x_train_id.png": (lambda f: exports.plain(f, "images", "labels", "p{}_train_id.png"), {}),
    "manual1/ before mask/": (field_of_view, {}),
    "one extra level": (lambda f: exports.plain(f / "extra" / "level").parents[1], {}),
    "a zip": (exports.zipped, {}),
    "train/images": (exports.parts, {"val": 2}),
    "images/train": (lambda f: exports.parts(f, ("images/{}", "masks/{}")), {"val": 2}),
    "train and trainannot": (lambda f: exports.parts(f, ("{}", "{}annot"), ("train", "val")), {"val": 2}),
    "CamVid in colours": (exports.camvid_colours, {"val": 2, "names": NAMES}),
    "Cityscapes": (exports.cityscapes, {"val": 2}),
    "KITTI": (exports.kitti, {}),
    "nnU-Net": (exports.nnunet, {"names": NAMES}),
    "labelled and unlabelled photos of a part": (in_halves, {"val": 2}),
    "labelme": (exports.labelme, {"names": NAMES}),
    "labelme of Windows": (lambda f: exports.labelme(f, "\\"), {"names": NAMES}),
    "labelme with photos inside": (exports.labelme_with_photos_inside, {"names": NAMES}),
    "COCO": (exports.coco, {"names": NAMES}),
    "COCO of Windows": (lambda f: exports.coco(f, name="images\\{}"), {"names": NAMES}),
    "COCO in parts": (exports.coco_parts, {"names": NAMES, "val": 2}),
    "COCO panoptic": (exports.coco_panoptic, {"names": NAMES}),
    "Roboflow COCO": (exports.roboflow_coco, {"names": NAMES, "val": 2}),
    "Roboflow semantic masks": (exports.roboflow_masks, {"names": NAMES, "val": 2}),
    "Roboflow YOLO": (lambda f: exports.yolo(f, ("{}/images", "{}/labels"), ("train", "valid")),
                      {"names": NAMES, "val": 2}),
    "Ultralytics YOLO": (exports.yolo, {"names": NAMES, "val": 2}),
    "YOLO without parts": (exports.yolo_flat, {"names": NAMES}),
    "Label Studio YOLO": (exports.label_studio_yolo, {"names": NAMES}),
    "Label Studio JSON": (exports.label_studio, {"names": NAMES}),
    "CVAT for images": (exports.cvat_images, {"names": NAMES}),
    "CVAT segmentation mask": (exports.cvat_masks, {"names": NAMES}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("prevmatch.data.layouts.cached_assets_path",
                        lambda *_, subfolder, **__: (tmp_path / "cache" / subfolder).absolute())  # fmt: skip


def load(folder, **settings):
    return load_training_data(DataConfig(dataset="custom", data_dir=folder, **settings))


@pytest.mark.parametrize("name", READ)
def test_export_is_read_to_the_right_pixels(tmp_path, name):
    make, expected = READ[name]
    data = load(make(tmp_path / "export"))
    if "names" in expected:
        assert data.source.class_names == expected["names"]
    assert len(data.labelled) + len(data.val) == exports.LABELLED
    assert len(data.unlabelled) >= 1
    assert len(data.val) == expected.get("val", 1)
    for rows in (data.labelled, data.val):
        for row in rows:
            image, mask = read_pair(row, data.source)
            assert image.size == exports.SIZE
            assert np.array_equal(np.asarray(mask), exports.TRUTH)


def supervisely(folder):
    exports.write(folder / "meta.json", {"classes": [{"title": "car"}], "tags": []})
    exports.photos(folder / "ds0/img")
    exports.write(folder / "ds0/ann/p0.jpg.json", {"objects": [], "size": {"height": 30, "width": 40}})


def brush_masks(folder):
    exports.masks(folder, pattern="task-{}-annotation-1-by-1-tag-car-0.png")


def via(folder):
    exports.photos(folder)
    exports.write(folder / "via.json", {"p0.jpg123": {"filename": "p0.jpg", "regions": []}})


def cvat_video(folder):
    exports.photos(folder)
    exports.write(folder / "annotations.xml", "<annotations><track id='0'/></annotations>")


def json_min(folder):
    exports.photos(folder)
    exports.write(folder / "x.json", [{"image": "/data/p0.jpg", "id": 1, "annotation_id": 1, "label": []}])


def label_studio_boxes(folder):
    exports.photos(folder / "images")
    region = {"type": "rectanglelabels", "original_width": 40, "original_height": 30,
              "value": {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["car"]}}  # fmt: skip
    task = {"data": {"image": "p0.jpg"}, "annotations": [{"was_cancelled": False, "result": [region]}]}
    exports.write(folder / "x.json", [task])


def two_cvat(folder):
    exports.cvat_images(folder)
    (folder / "more.xml").write_text((folder / "annotations.xml").read_text())


def boxes_of_voc(folder):
    exports.photos(folder / "JPEGImages")
    (folder / "SegmentationClass").mkdir()
    exports.write(folder / "Annotations/p0.xml", "<annotation/>")


def coco_boxes(folder):
    exports.photos(folder / "images")
    exports.write(folder / "annotations.json", exports.coco_content(range(6), outline=False))


def captions(folder):
    exports.photos(folder)
    for i in range(3):
        exports.write(folder / f"p{i}.txt", "a car on a road")


def yolo_boxes(folder):
    exports.photos(folder / "images")
    exports.write(folder / "labels/p0.txt", "0 0.5 0.5 0.2 0.2\n")


def volumes(folder):
    exports.write(folder / "scan.nii.gz", "x")


def two_coco(folder):
    exports.coco(folder)
    exports.coco(folder, "more.json")


def broken_yolo(folder):
    exports.photos(folder / "images")
    exports.write(folder / "labels/p0.txt", "0 0.1 0.2 0.3 0.4 0.5\n")


def two_labelme(folder):
    exports.labelme(folder)
    content = json.loads((folder / "p0.json").read_text())
    exports.write(folder / "other.json", content)


def two_masks(folder):
    exports.plain(folder)
    exports.masks(folder / "masks", [0], pattern="p{}_mask_2.png")


def two_masks_beside(folder):
    exports.plain(folder, ".", ".", "p{}_mask.png")
    exports.masks(folder, [0], pattern="p{}_mask2.png")


def key_points(folder):
    exports.yolo_flat(folder)
    exports.write(folder / "data.yaml", "names: [car, tree]\nkpt_shape: [4, 3]\n")


def of_label_studio(folder, change):
    exports.label_studio(folder)
    path = next(folder.glob("*.json"))
    tasks = json.loads(path.read_text())
    change([task["annotations"][0]["result"] for task in tasks if task.get("annotations")])
    exports.write(path, tasks)


def of_two_images(results):
    for number, one in enumerate(results[0]):
        one["to_name"] = ("ir", "rgb")[number % 2]


def of_two_labels(results):
    value = results[0][0]["value"]
    key = next(key for key in value if key.endswith("labels"))
    value[key] = ["car", "tree"]


def table_of(title):
    def make(folder):
        exports.photos(folder)
        exports.write(folder / "train.csv", f"name,{title}\np0.jpg,1 2 3 4\n")

    return make


def json_of(**content):
    def make(folder):
        exports.photos(folder)
        exports.write(folder / "p0.json", content)

    return make


def monuseg(folder):
    exports.photos(folder)
    exports.write(folder / "p0.xml", "<Annotations><Vertex X='1' Y='2'/></Annotations>")


def yolo_beside(folder):
    exports.photos(folder)
    exports.write(folder / "p0.txt", exports.yolo_line(0, exports.CAR))


REFUSED = {
    "two masks of a photo": (two_masks, "'p0_mask_2' is named as a mask of 'p0', besides 'p0'; join them"),
    "two masks beside a photo": (two_masks_beside, "'p0_mask2' is named as a mask of 'p0', besides 'p0_mask'"),
    "keypoints of YOLO": (key_points, "says that the texts hold keypoints, which outline nothing"),
    "Label Studio, two images": (lambda f: of_label_studio(f, of_two_images), "regions of ir and rgb in one task"),
    "Label Studio, two labels": (lambda f: of_label_studio(f, of_two_labels), "has a region that is car and tree"),
    "run lengths of Kaggle": (table_of("EncodedPixels"), "has train.csv, which holds masks as run lengths"),
    "VGG Image Annotator, CSV": (table_of("region_shape_attributes"), "has train.csv, of VGG Image Annotator"),
    "SuperAnnotate": (json_of(metadata={}, instances=[]), "is of SuperAnnotate; export as COCO"),
    "V7": (json_of(item={}, annotations=[]), "is of V7 Darwin; export as COCO"),
    "Hasty": (json_of(export_format_version="1.1"), "is of Hasty; export as COCO"),
    "QuPath": (lambda f: exports.write(f / "p0.geojson", {}), r"outlines as GeoJSON or NDJSON \(QuPath, Labelbox\)"),
    "Aperio": (monuseg, r"in the XML of Aperio ImageScope \(MoNuSeg\)"),
    "YOLO beside the photos": (yolo_beside, "has texts of YOLO segmentation; put the images into images/"),
    "Supervisely": (supervisely, "is a Supervisely project; export it as COCO"),
    "Label Studio brush masks": (brush_masks, "has brush masks of Label Studio"),
    "VGG Image Annotator": (via, "is of VGG Image Annotator"),
    "CVAT for video": (cvat_video, "is not of `CVAT for images`; export from CVAT as"),
    "two files of CVAT": (two_cvat, "has 2 XML files of CVAT, annotations.xml and more.xml for two; keep one"),
    "boxes of Label Studio": (label_studio_boxes, r"x\.json has boxes without outlines only \(1\)"),
    "Label Studio JSON-MIN": (json_min, "is Label Studio's JSON-MIN"),
    "boxes of VOC": (boxes_of_voc, "as of boxes in Pascal VOC's form"),
    "COCO boxes": (coco_boxes, "has boxes without outlines only"),
    "YOLO boxes": (yolo_boxes, "has boxes without outlines only"),
    "captions": (captions, "has 6 images but lacks images/ and masks/"),
    "volumes": (volumes, "has medical volumes"),
    "two COCO files": (two_coco, "has 2 COCO files, annotations.json and more.json"),
    "a broken YOLO line": (broken_yolo, "p0.txt, line 1: .* is not a class and the corners"),
    "two labelme files of a photo": (two_labelme, "second labelme file for the photo"),
    "masks of an unknown word beside photos": (
        lambda f: exports.plain(f, ".", ".", "p{}_leaf.png"),
        r"if --mask_path '\{folder\}/\{stem\}_leaf\.png' says which are masks, add it; else put",
    ),
    "photos only": (lambda f: exports.photos(f / "images"), "has 6 images but lacks masks/"),
    "nothing": (lambda f: f.mkdir(), "holds no images"),
    "tables": (lambda f: exports.write(f / "data/train.parquet", ""), "has tables of a data set; name it with --d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_what_it_looks_like(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path / "export")
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "export")
    assert "\n" not in str(caught.value)


def test_photos_that_are_only_tagged_in_cvat_are_unlabelled(tmp_path):
    path = exports.cvat_images(tmp_path) / "annotations.xml"
    bare = 'name="p5.jpg" width="40" height="30">'
    path.write_text(path.read_text().replace(bare, f'{bare}<tag label="car" source="manual"></tag>'))
    assert load(tmp_path).unlabelled["id"] == ["images/default/p4", "images/default/p5"]


def test_the_smaller_object_of_yolo_is_in_front_whatever_the_order(tmp_path):
    exports.yolo_flat(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        path.write_text("\n".join([exports.yolo_line(0, exports.CAR), exports.yolo_line(1, (5, 35))]))
    data = load(tmp_path)
    row = np.asarray(read_pair(data.labelled[0], data.source)[1])[0]
    assert row.tolist() == [0] * 5 + [2] * 5 + [1] * 10 + [2] * 15 + [0] * 5


def test_a_date_before_a_name_is_not_taken_for_what_an_upload_adds(tmp_path):
    for tool in ("yolo", "coco"):
        for day in (2, 3, 4):
            photo(tmp_path / f"{tool}/images/2024010{day}-cam.jpg", exports.SIZE, seed=day)
    labelled = ("20240101-cam", "20240103-cam", "20240104-cam")  # of the first the photo is gone
    for name in labelled:
        exports.write(tmp_path / f"yolo/labels/{name}.txt", exports.yolo_line(0, exports.CAR))
    exports.write(tmp_path / "yolo/classes.txt", "car")
    corners = [10, 5, 20, 5, 20, 25, 10, 25]
    exports.write(tmp_path / "coco/annotations.json", {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 40, "height": 30} for i, name in enumerate(labelled)
        ],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": [corners]} for i in range(3)],
        "categories": [{"id": 1, "name": "car"}],
    })  # fmt: skip
    for tool in ("yolo", "coco"):
        assert [name[-12:] for name in load(tmp_path / tool).unlabelled["id"]] == ["20240102-cam"]


def test_defects_of_mvtec_are_trained_on_when_asked_for(tmp_path):
    for i in range(3):
        photo(tmp_path / f"train/good/{i:03d}.png", exports.SIZE, seed=i)
        photo(tmp_path / f"test/scratch/{i:03d}.png", exports.SIZE, seed=10 + i)
        exports.mask(tmp_path / f"ground_truth/scratch/{i:03d}_mask.png", (exports.TRUTH == 1) * 255, palette=False)
    with pytest.raises(DataError, match=r"single class.*--train_parts test"):
        load(tmp_path)
    data = load(tmp_path, train_parts=("test",), val_share=0.3)
    assert data.source.class_names == ("background", "foreground")
    assert len(data.labelled) + len(data.val) == 6


@pytest.mark.parametrize(
    "name", ["pairs.csv", "pairs.tsv", "list.txt", "split.json", "metadata.jsonl", "annotations.xml", "other.xml"]
)
def test_a_pipe_with_the_name_of_a_table_or_of_annotations_is_not_waited_for(tmp_path, name):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(tmp_path / "images/a.png")
    os.mkfifo(tmp_path / name)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a reader waits for the pipe"))
    signal.alarm(20)
    try:
        with pytest.raises(DataError, match="has 1 images but lacks masks/"):
            find(tmp_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


SAID = {
    "a second folder of masks": ("labels/p0.png", "labels/ has 1 masks that are not used, for those in masks/ are;"),
    "photos in another folder": ("raw/x.jpg", "raw/ has 1 images that are not used; photos to learn from belong into"),
    "labelme's files": ("images/p5.json", "annotations that are not read, as masks are there: 'p5.json'"),
    "COCO": ("annotations.json", "annotations that are not read, as masks are there: 'annotations.json'"),
    "a folder per class": ("masks/car/p5.png", "WARNING: masks lie in '', 'car', photos do not;"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_used_beside_photos_and_masks_is_said(tmp_path, name):
    exports.plain(tmp_path)
    file, said = SAID[name]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes((tmp_path / "masks/p0.png").read_bytes())
    assert [note for note in find(tmp_path).notes if note.startswith(said)]


def test_what_is_used_is_not_said_to_be_unused(tmp_path):
    exports.plain(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    assert find(tmp_path).notes == []


def test_photos_in_folders_of_a_part_without_masks_are_used(tmp_path):
    exports.parts(tmp_path)
    exports.photos(tmp_path / "extra unlabelled/images/site 1", 2, first=20)
    (tmp_path / "test/images/site 2").mkdir(parents=True)
    exports.photos(tmp_path / "test/images/site 2", 2, first=30)
    found = find(tmp_path)
    assert not [note for note in found.notes if "not used" in note]
    assert sum(len(rows) for rows in found.parts.values()) == 10


def test_cityscapes_with_two_kinds_of_masks_for_different_photos_is_refused(tmp_path):
    exports.cityscapes(tmp_path)
    mask = next(tmp_path.rglob("*_gtFine_label*.png"))
    kind = "_labelIds" if mask.stem.endswith("_labelTrainIds") else "_labelTrainIds"
    for path in [*tmp_path.rglob("*_gtFine_label*.png")][1:]:
        path.rename(path.with_name(path.name.replace("_labelIds", kind).replace("_labelTrainIds", kind)))
    with pytest.raises(DataError, match=r"masks are of another kind than _label\w+ only, .*; keep one kind"):
        find(tmp_path)


def test_file_is_not_called_missing(tmp_path):
    (tmp_path / "data.tar").touch()
    with pytest.raises(DataError, match=r"data\.tar is a file; unpack it, or name the folder"):
        find(tmp_path / "data.tar")


@pytest.mark.parametrize("make", [exports.yolo_flat, exports.labelme, exports.camvid_colours])
def test_what_stands_beside_the_data_is_read_in_a_folder_within_a_folder_too(tmp_path, make):
    plain, wrapped = find(make(tmp_path / "x")), find(make(tmp_path / "y" / "export").parent)
    assert (wrapped.class_names, wrapped.palette) == (plain.class_names, plain.palette)
    assert {part: rows["id"][:] for part, rows in wrapped.parts.items()} == {
        part: rows["id"][:] for part, rows in plain.parts.items()
    }


def test_folders_without_images_do_not_stand_in_the_way(tmp_path):
    exports.plain(tmp_path / "data")
    exports.write(tmp_path / "splits/test.txt", "p0\n")
    exports.write(tmp_path / "docs/how.md", "by hand")
    assert find(tmp_path).parts["test"]["id"] == ["p0"]


@pytest.mark.parametrize("text", ["notes.txt", "progress.json", "train.txt"])
def test_notes_among_masks_hide_none(tmp_path, text):
    exports.write(exports.plain(tmp_path, "images", "labels") / "labels" / text, "{}")
    assert find(tmp_path).layout == "images/ and labels/"


def test_parts_of_folders_in_cvat_count_where_nobody_named_a_subset(tmp_path):
    exports.cvat_images(tmp_path)
    path = tmp_path / "annotations.xml"
    path.write_text(path.read_text().replace("<image ", '<image subset="default" '))
    (tmp_path / "images/default/Test").mkdir()
    (tmp_path / "images/default/p0.jpg").rename(tmp_path / "images/default/Test/p0.jpg")
    assert len(find(tmp_path).parts["Test"]) == 1
