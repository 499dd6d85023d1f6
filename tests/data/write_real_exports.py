"""Writes `real_exports/`: one tiny data set as the tools' own code exports it, and what is the truth of it.

`python tests/data/write_real_exports.py datumaro labelme supervision label_studio ultralytics segments_ai` writes the
folders of the tools that are named. It needs them installed, which the tests do not: they read what was written by
datumaro 1.13.12 (a fork of which is in CVAT), labelme 6.3.1, supervision 0.31.2, label-studio-sdk 2.1.2, ultralytics
8.4.190 and segments-ai 1.33.0.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXPORTS = Path(__file__).parent / "real_exports"
SIZE = (48, 36)
CLASSES = ("background", "tree", "car")
"""In an order that is not the alphabet's, so that ids dealt by name are seen."""
SHAPES = {
    "p0": (
        ("car", ((30, 6), (38, 6), (38, 14), (30, 14))),  # in front of the tree and yet the first one
        ("tree", ((24, 2), (46, 2), (46, 30), (26, 26))),
        ("car", ((3, 20), (18, 20), (16, 33), (5, 31))),
    ),
    "p1": (("tree", ((5, 4), (22, 6), (12, 30))),),
    "p2": (("car", ((10, 8), (40, 10), (36, 22), (12, 20))), ("tree", ((2, 26), (45, 27), (45, 34), (2, 33)))),
    "p3": (("tree", ((20, 3), (44, 3), (44, 18), (20, 15))),),
}
BARE = "p4"
"""The photo without any annotation."""
VAL = "p3"
"""The photo in the part `val`, where a tool has parts."""


def inside(points):
    """The pixels, bool (H, W), whose centres lie in a polygon."""
    x, y = np.arange(SIZE[0]) + 0.5, (np.arange(SIZE[1]) + 0.5)[:, None]
    pixels = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    for (a, b), (c, d) in zip(points, points[1:] + points[:1], strict=True):
        if b != d:
            pixels ^= ((b > y) != (d > y)) & (x < (c - a) * (y - b) / (d - b) + a)
    return pixels


def truth(name):
    """Class ids uint8 (H, W) of a photo; the smaller object is in front."""
    ids = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    for label, points in sorted(SHAPES.get(name, ()), key=lambda shape: -inside(shape[1]).sum()):
        ids[inside(points)] = CLASSES.index(label)
    return ids


def photo(path):
    """Write the photo that a file's name tells, coloured noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(int(path.stem[-1])).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=80)
    return path


def empty(name):
    """An empty folder of that name among the exports."""
    shutil.rmtree(EXPORTS / name, ignore_errors=True)
    (EXPORTS / name).mkdir(parents=True)
    return EXPORTS / name


def photos(folder):
    """Write all photos into a folder."""
    return [photo(folder / f"{name}.jpg") for name in (*SHAPES, BARE)]


def datumaro(scratch):
    import datumaro as dm

    def polygons(name):
        return [
            dm.Polygon([value for point in points for value in point], label=CLASSES.index(label), id=i, group=i,
                       z_order=len(SHAPES[name]) - i)
            for i, (label, points) in enumerate(SHAPES.get(name, ()), 1)
        ]  # fmt: skip

    def masks(name):
        ids = truth(name)
        here = [i for i in range(3) if name in SHAPES and (ids == i).any()]
        return [dm.Mask(ids == i, label=i, id=i + 1, group=i + 1) for i in here]

    def boxes(name):
        return [dm.Bbox(*shape.get_bbox(), label=shape.label, id=shape.id, group=shape.id) for shape in polygons(name)]

    colours = dm.MaskCategories({0: (0, 0, 0), 1: (51, 221, 255), 2: (250, 50, 83)})
    for layout, annotate, parts in (
        ("cvat", polygons, False),
        ("coco", polygons, True),
        ("coco_instances", polygons, True),
        ("coco_panoptic", masks, True),
        ("voc_segmentation", masks, True),
        ("camvid", masks, True),
        ("cityscapes", masks, True),
        ("kitti_segmentation", masks, True),
        ("coco_instances", boxes, True),
        ("cvat", boxes, False),
        ("voc_detection", boxes, True),
        ("yolo", boxes, True),
        ("yolo_ultralytics", boxes, True),
        ("dota", polygons, False),
        ("label_me", polygons, False),
        ("open_images", masks, False),
        ("segment_anything", masks, False),
        ("datumaro", polygons, False),
    ):
        items = [
            dm.DatasetItem(
                path.stem,
                subset="val" if parts and path.stem == VAL else "train",
                media=dm.Image.from_file(path=str(path)),
                annotations=annotate(path.stem),
            )
            for path in photos(scratch)
        ]
        categories = {dm.AnnotationType.label: dm.LabelCategories.from_iterable(CLASSES)}
        if annotate is masks:
            categories[dm.AnnotationType.mask] = colours
        folder = empty(f"datumaro-{layout}" + ("-boxes" if annotate is boxes else ""))
        dm.Dataset.from_iterable(items, categories=categories).export(str(folder), layout, save_media=True)


def labelme(scratch):
    from labelme import utils
    from labelme._label_file import LabelFile

    folder = empty("labelme-json")
    for path in photos(folder):
        shapes = [
            {"label": label, "points": [list(p) for p in points], "group_id": None, "shape_type": "polygon",
             "flags": {}, "description": "", "mask": None}
            for label, points in SHAPES.get(path.stem, ())[::-1]  # what is drawn later is in front
        ]  # fmt: skip
        if path.stem == "p2":  # a mask, as its AI tools give them, from corner to corner
            rows, columns = np.nonzero(pixels := truth("p2") == CLASSES.index("car"))
            box = [[int(columns.min()), int(rows.min())], [int(columns.max()), int(rows.max())]]
            cut = pixels[box[0][1] : box[1][1] + 1, box[0][0] : box[1][0] + 1]
            shapes[1] |= {"shape_type": "mask", "points": box, "mask": utils.img_arr_to_b64(cut.astype(np.uint8))}
        if shapes:
            LabelFile().save(
                filename=str(path.with_suffix(".json")), shapes=shapes, image_path=path.name,
                image_data=path.read_bytes() if path.stem == "p1" else None, image_height=36, image_width=48,
            )  # fmt: skip


def supervision(scratch):
    import supervision as sv

    files, found = photos(scratch), {}
    for path in files:
        outlines = [np.array(points) for _, points in SHAPES.get(path.stem, ())[::-1]]
        found[str(path)] = sv.Detections.empty() if not outlines else sv.Detections(
            xyxy=np.array([[*o.min(0), *o.max(0)] for o in outlines], dtype=float),
            mask=np.array([inside(points) for _, points in SHAPES[path.stem][::-1]]),
            class_id=np.array([CLASSES.index(label) - 1 for label, _ in SHAPES[path.stem][::-1]]),
        )  # fmt: skip
    data = sv.DetectionDataset(classes=list(CLASSES[1:]), images=[str(path) for path in files], annotations=found)
    folder = empty("supervision-coco")
    data.as_coco(str(folder / "images"), str(folder / "annotations.json"))
    folder = empty("supervision-yolo")
    data.as_yolo(str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"))
    folder = empty("supervision-labelme")
    data.as_labelme(str(folder), str(folder))
    folder = empty("supervision-pascal_voc")
    data.as_pascal_voc(str(folder / "images"), str(folder / "annotations"))


def label_studio(scratch):
    from label_studio_sdk.converter import Converter, brush

    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES[1:])
    kinds = {"polygon": "PolygonLabels", "brush": "BrushLabels"}
    config = '<View><Image name="image" value="$image"/>' + "".join(
        f'<{tag} name="{kind}" toName="image">{labels}</{tag}>' for kind, tag in kinds.items()
    ) + "</View>"  # fmt: skip

    def region(kind, number, label, value):
        return {"id": f"r{number}", "type": f"{kind}labels", "from_name": kind, "to_name": "image",
                "original_width": 48, "original_height": 36, "image_rotation": 0,
                "value": value | {f"{kind}labels": [label]}}  # fmt: skip

    def polygon(number, label, points):
        return region("polygon", number, label, {"points": [[x / 0.48, y / 0.36] for x, y in points], "closed": True})

    def stroke(number, label, points):
        run = brush.mask2rle(inside(points).astype(np.uint8) * 255)
        return region("brush", number, label, {"format": "rle", "rle": run})

    def mixed(number, label, points):
        return (stroke if label == "car" else polygon)(number, label, points)

    def tasks(shape):
        return [
            {"id": number, "data": {"image": f"/data/upload/1/1a2b3c4d-{name}.jpg"}, "annotations": [
                {"id": number, "completed_by": 1, "was_cancelled": False, "created_at": "2024-01-01T00:00:00Z",
                 "result": [shape(i, *each) for i, each in enumerate(SHAPES[name][::-1])]}
            ] if name in SHAPES else []}
            for number, name in enumerate((*SHAPES, BARE), 1)
        ]  # fmt: skip

    upload, source = scratch / "upload", scratch / "tasks.json"
    for name in (*SHAPES, BARE):
        photo(upload / "1" / f"1a2b3c4d-{name}.jpg")
    converter = Converter(config=config, project_dir=str(scratch), upload_dir=str(upload))
    for layout, shape in (
        ("JSON", mixed), ("JSON_MIN", polygon), ("COCO", polygon), ("COCO_WITH_IMAGES", polygon), ("YOLO", polygon),
        ("YOLO_WITH_IMAGES", polygon), ("BRUSH_TO_COCO", stroke), ("BRUSH_TO_PNG", stroke), ("VOC", polygon),
    ):  # fmt: skip
        folder = empty(f"label_studio-{layout.lower()}")
        source.write_text(json.dumps(tasks(shape)))
        converter.convert(str(source), str(folder), layout, is_dir=False)
        if not list(folder.rglob("*.jpg")):
            photos(folder / "images")  # put beside by the user, under the names that they had before the upload


def ultralytics(scratch):
    """Needs the folder of COCO that datumaro wrote."""
    from ultralytics.data.converter import convert_coco

    folder = empty("ultralytics-yolo")
    folder.rmdir()  # else it takes another name
    convert_coco(str(EXPORTS / "datumaro-coco_instances/annotations"), str(folder), use_segments=True, cls91to80=False)
    for path in photos(scratch):
        photo(folder / "images" / ("val" if path.stem == VAL else "train") / path.name)
    (folder / "classes.txt").write_text("\n".join(CLASSES))


def segments_ai(scratch):
    from segments import SegmentsDataset
    from segments.utils import export_dataset

    colours = ((0, 0, 0), (51, 221, 255), (250, 50, 83))
    samples = []
    cache = scratch / "me_tiny/v1"  # what it would else download
    for path in photos(cache):
        ids = truth(path.stem)
        Image.fromarray(ids.astype(np.int32) + 1).save(cache / f"{path.stem}_label_ground-truth.png")
        objects = [{"id": int(i) + 1, "category_id": int(i) + 1} for i in np.unique(ids)]
        label = {"label_status": "LABELED", "attributes": {
            "annotations": objects, "segmentation_bitmap": {"url": "https://localhost/x.png"}}}  # fmt: skip
        samples.append({
            "uuid": path.stem, "name": path.name, "metadata": {}, "attributes": {"image": {"url": f"s/{path.name}"}},
            "labels": {"ground-truth": label if path.stem in SHAPES else None},
        })  # fmt: skip
    (cache / f"{BARE}_label_ground-truth.png").unlink()
    categories = [
        {"id": i + 1, "name": name, "color": colours[i], "has_instances": i == 2} for i, name in enumerate(CLASSES)
    ]
    release = scratch / "release.json"
    release.write_text(json.dumps({"name": "v1", "dataset": {
        "owner": "me", "name": "tiny", "task_type": "segmentation-bitmap", "samples": samples,
        "labelsets": [{"name": "ground-truth"}],
        "task_attributes": {"format_version": "0.1", "categories": categories},
    }}))  # fmt: skip
    data = SegmentsDataset(str(release), segments_dir=str(scratch))
    for layout in ("coco-instance", "semantic"):
        folder = empty(f"segments_ai-{layout}")
        photos(folder)
        export_dataset(data, str(folder), layout)


TOOLS = {
    "datumaro": datumaro, "labelme": labelme, "supervision": supervision, "label_studio": label_studio,
    "ultralytics": ultralytics, "segments_ai": segments_ai,
}  # fmt: skip

if __name__ == "__main__":
    for tool in sys.argv[1:]:
        scratch = empty("media")  # among the exports, as some of them hold the way there
        TOOLS[tool](scratch)
        shutil.rmtree(scratch)
