"""Tiny exports of labelling tools, made after the documentation of each: six photos of 40×30, four of them labelled.

Each labelled photo has a `car` in its columns 10 to 19 and a `tree` in its columns 20 to 29, over all rows; the rest
is background. Each function makes a folder and returns it.
"""

import base64
import io
import json

import numpy as np
from PIL import Image

from data.raw_layouts import mask, photo

SIZE = (40, 30)
CAR, TREE = (10, 20), (20, 30)
LABELLED, PHOTOS = 4, 6
TRUTH = np.zeros((30, 40), dtype=np.uint8)
TRUTH[:, 10:20], TRUTH[:, 20:30] = 1, 2
COLOURS = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], dtype=np.uint8)


def photos(folder, count=PHOTOS, suffix="jpg", first=0):
    for i in range(first, first + count):
        photo(folder / f"p{i}.{suffix}", SIZE, seed=i)


def corners(columns):
    left, right = columns
    return [(left, 0), (right, 0), (right, 30), (left, 30)]


def flat(columns):
    return [value for point in corners(columns) for value in point]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def masks(folder, names=range(LABELLED), pattern="p{}.png", truth=TRUTH):
    for i in names:
        mask(folder / pattern.format(i), truth, palette=False)


def plain(folder, images="images", labels="masks", pattern="p{}.png"):
    photos(folder / images)
    masks(folder / labels, pattern=pattern)
    return folder


def parts(folder, layout=("{}/images", "{}/masks"), names=("train", "valid"), pattern="p{}.png"):
    for number, part in enumerate(names):
        photos(folder / layout[0].format(part), 3, first=3 * number)
        masks(folder / layout[1].format(part), (3 * number, 3 * number + 1), pattern)
    return folder


def labelme(folder, slash="/"):
    photos(folder)
    for i in range(LABELLED):
        pixels = Image.fromarray(np.full((30, 10), 255, dtype=np.uint8))
        file = io.BytesIO()
        pixels.save(file, "PNG")
        shapes = [
            {"label": "tree", "points": [[20, 0], [29, 29]], "shape_type": "mask",
             "mask": base64.b64encode(file.getvalue()).decode()},
            {"label": "car", "points": corners(CAR), "shape_type": "polygon", "flags": {}},
            {"label": "car", "points": [[1, 1], [3, 3]], "shape_type": "line"},
        ]  # fmt: skip
        write(folder / f"p{i}.json", {"version": "5.4.1", "flags": {}, "shapes": shapes, "imageData": None,
                                      "imagePath": f"..{slash}photos{slash}p{i}.jpg" if slash == "\\" else f"p{i}.jpg",
                                      "imageHeight": 30, "imageWidth": 40})  # fmt: skip
    return folder


def labelme_with_photos_inside(folder):
    labelme(folder)
    for i in range(LABELLED):
        path = folder / f"p{i}.json"
        content = json.loads(path.read_text())
        content["imageData"] = base64.b64encode((folder / f"p{i}.jpg").read_bytes()).decode()
        path.write_text(json.dumps(content))
        (folder / f"p{i}.jpg").unlink()
    return folder


def coco_content(numbers, name="{}", categories=((1, "car"), (2, "tree")), outline=True):
    images = [{"id": i, "file_name": name.format(f"p{i}.jpg"), "width": 40, "height": 30} for i in numbers]
    objects = [
        {"id": 2 * i + k, "image_id": i, "category_id": categories[-2 + k][0], "bbox": [columns[0], 0, 10, 30],
         "segmentation": [flat(columns)] if outline else [], "area": 300 if outline else 0, "iscrowd": 0}
        for i in numbers if i % 3 < 2 for k, columns in enumerate((CAR, TREE))
    ]  # fmt: skip
    kinds = [{"id": i, "name": kind, "supercategory": "things"} for i, kind in categories]
    return {"info": {}, "images": images, "annotations": objects, "categories": kinds}


def coco(folder, path="annotations.json", name="{}", images="images"):
    photos(folder / images)
    write(folder / path, coco_content(range(6), name))
    return folder


def coco_parts(folder):
    for part, numbers in (("train", range(3)), ("val", range(3, 6))):
        photos(folder / "images", 3, first=numbers[0])
        write(folder / f"annotations/instances_{part}.json", coco_content(numbers))
        write(folder / f"annotations/captions_{part}.json", {"images": [], "annotations": []})
    return folder


def coco_panoptic(folder):
    photos(folder / "images")
    content = coco_content(range(6))
    content["annotations"] = []
    for i in range(LABELLED):
        pixels = np.zeros((30, 40, 3), dtype=np.uint8)
        pixels[..., 0] = TRUTH + 1
        (folder / "annotations/panoptic").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"annotations/panoptic/p{i}.png")
        segments = [{"id": 1, "category_id": 9}, {"id": 2, "category_id": 1}, {"id": 3, "category_id": 2}]
        content["annotations"].append({"image_id": i, "file_name": f"p{i}.png", "segments_info": segments})
    content["categories"] += [{"id": 9, "name": "background", "isthing": 0}]
    write(folder / "annotations/panoptic.json", content)
    return folder


def roboflow_coco(folder):
    for part, numbers in (("train", range(3)), ("valid", range(3, 6))):
        photos(folder / part, 3, first=numbers[0])
        content = coco_content(numbers, categories=((0, "streets"), (1, "car"), (2, "tree")))
        for kind in content["categories"]:
            kind["supercategory"] = "streets" if kind["id"] else "none"
        write(folder / part / "_annotations.coco.json", content)
    return folder


def roboflow_masks(folder):
    for part, numbers in (("train", range(3)), ("valid", range(3, 6))):
        photos(folder / part, 3, first=numbers[0])
        masks(folder / part, numbers[:2], "p{}_mask.png")
        write(folder / part / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, tree\n")
    return folder


def yolo_line(label, columns):
    return f"{label} " + " ".join(f"{value / SIZE[i % 2]:.6f}" for i, value in enumerate(flat(columns)))


def yolo(folder, layout=("images/{}", "labels/{}"), names=("train", "val")):
    for number, part in enumerate(names):
        photos(folder / layout[0].format(part), 3, first=3 * number)
        for i in (3 * number, 3 * number + 1):
            write(folder / layout[1].format(part) / f"p{i}.txt", "\n".join([yolo_line(0, CAR), yolo_line(1, TREE)]))
    write(folder / "data.yaml", "path: ../mine\ntrain: images/train\nval: images/val\nnc: 2\nnames: [car, tree]\n")
    return folder


def yolo_flat(folder):
    yolo(folder, layout=("images", "labels"))
    (folder / "data.yaml").unlink()
    write(folder / "classes.txt", "car\ntree\n")
    return folder


def cvat_images(folder):
    photos(folder / "images/default")
    lengths = [10, 10] * 30
    entries = "".join(
        f'<image id="{i}" name="p{i}.jpg" width="40" height="30">' + (
            f'<polygon label="car" source="manual" occluded="0" z_order="0" '
            f'points="{";".join(f"{x}.0,{y}.0" for x, y in corners(CAR))}"></polygon>'
            f'<mask label="tree" z_order="1" rle="{",".join(map(str, [0, *lengths[:1] * 1, *[0, 10] * 29]))}" '
            'left="20" top="0" width="10" height="30"></mask>' if i < LABELLED else ""
        ) + "</image>"
        for i in range(PHOTOS)
    )  # fmt: skip
    labels = "".join(f"<label><name>{name}</name><color>#{colour}</color></label>"
                     for name, colour in (("car", "fa3253"), ("tree", "33ddff")))  # fmt: skip
    write(folder / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta>'
          f"<job><labels>{labels}</labels></job></meta>{entries}</annotations>")  # fmt: skip
    return folder


def cvat_masks(folder):
    photos(folder / "JPEGImages")
    for i in range(LABELLED):
        (folder / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[TRUTH]).save(folder / f"SegmentationClass/p{i}.png")
    write(
        folder / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\ntree:51,221,255::\n",
    )
    write(folder / "ImageSets/Segmentation/default.txt", "".join(f"p{i}\n" for i in range(PHOTOS)))
    return folder


def bits(*pairs):
    """Numbers with a width in bits each, packed into bytes."""
    text = "".join(f"{value:0{width}b}" for value, width in pairs)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def brush(columns):
    """Label Studio's packing of a stroke over some columns, a run for each stretch of equal values."""
    opacity = np.zeros((30, 40), dtype=np.uint8)
    opacity[:, slice(*columns)] = 255
    values = np.repeat(opacity.ravel(), 4)
    pairs = [(values.size, 32), (7, 5), *[(length - 1, 4) for length in (3, 4, 8, 16)]]
    for run in np.split(values, np.flatnonzero(np.diff(values)) + 1):
        for start in range(0, len(run), 65536):
            pairs += [(1, 1), (3, 2), (len(run[start : start + 65536]) - 1, 16), (int(run[0]), 8)]
    return bits(*pairs)


def label_studio(folder):
    photos(folder / "images")
    tasks = []
    for i in range(PHOTOS):
        common = {"original_width": 40, "original_height": 30, "image_rotation": 0}
        results = [
            common | {"type": "polygonlabels",
                      "value": {"points": [[x / 0.4, y / 0.3] for x, y in corners(CAR)], "polygonlabels": ["car"]}},
            common | {"type": "brushlabels", "value": {"format": "rle", "rle": brush(TREE), "brushlabels": ["tree"]}},
        ]  # fmt: skip
        done = [{"id": i, "was_cancelled": False, "result": results}] if i < LABELLED else []
        tasks.append({"id": i, "data": {"image": f"/data/upload/1/1a2b3c4d-p{i}.jpg"}, "annotations": done})
    write(folder / "project-1.json", tasks)
    return folder


def label_studio_yolo(folder):
    yolo_flat(folder)
    write(folder / "notes.json", {"categories": [{"id": 0, "name": "car"}, {"id": 1, "name": "tree"}], "info": {}})
    return folder


def oxford_pets(folder):
    """Masks in a folder of their own beside lists and boxes."""
    plain(folder, "images", "annotations/trimaps")
    (folder / "annotations/list.txt").write_text("#Image CLASS-ID\np0 1\n")
    (folder / "annotations/xmls").mkdir()
    (folder / "annotations/xmls/p0.xml").write_text("<annotation/>")
    return folder


def classes_among_masks(folder):
    """A list of classes in the folder of the masks."""
    plain(folder, "images", "labels")
    (folder / "labels/classes.txt").write_text("background\ncar\ntree\n")
    return folder


def camvid_colours(folder):
    for part, number in (("train", 0), ("val", 3)):
        photos(folder / part, 3, "png", first=number)
        for i in (number, number + 1):
            (folder / f"{part}_labels").mkdir(parents=True, exist_ok=True)
            Image.fromarray(COLOURS[TRUTH]).save(folder / f"{part}_labels/p{i}_L.png")
    write(folder / "class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncar,250,50,83\ntree,51,221,255\n")
    return folder


def cityscapes(folder):
    for part, number in (("train", 0), ("val", 3)):
        for i in range(number, number + 3):
            photo(folder / f"leftImg8bit/{part}/ulm/ulm_{i}_leftImg8bit.png", SIZE, seed=i)
        for i in (number, number + 1):
            for kind in ("labelTrainIds", "labelIds", "instanceIds", "color"):
                mask(folder / f"gtFine/{part}/ulm/ulm_{i}_gtFine_{kind}.png",
                     TRUTH if kind == "labelTrainIds" else TRUTH * 9, palette=False)  # fmt: skip
    return folder


def kitti(folder):
    photos(folder / "training/image_2", suffix="png")
    masks(folder / "training/semantic")
    photos(folder / "testing/image_2", 2, "png", first=10)
    return folder


def zipped(folder):
    import zipfile

    plain(folder.with_name("source") / "one" / "level")
    path = folder.with_name("export.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((folder.with_name("source")).rglob("*.*g")):
            archive.write(file, file.relative_to(folder.with_name("source")))
    return path


def nnunet(folder):
    plain(folder, "imagesTr", "labelsTr")
    for path in (folder / "imagesTr").iterdir():
        path.rename(path.with_name(f"{path.stem}_0000.jpg"))
    labels = {"background": 0, "car": 1, "tree": 2}
    write(folder / "dataset.json", {"channel_names": {"0": "R"}, "labels": labels, "numTraining": LABELLED})
    return folder
