"""COCO annotations as masks: objects in polygons or run lengths, or the segments of a panoptic picture.

A mask cell holds an image's annotation as JSON until it is read, so that a table of 118,287 images is made in seconds
and every loader process draws its own.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.coco_numbers import check_file_name, check_names, check_polygons, image_size, run_lengths
from prevmatch.data.texts import read_json
from prevmatch.errors import DataError

BACKGROUND = "background"
BACKGROUNDS = ("background", "_background_", "__background__")
"""Names of categories that are no objects."""


class Annotations(NamedTuple):
    """What a COCO file says."""

    names: tuple[str, ...]
    """Class names, background, where there is any, first."""
    cells: dict[str, dict | None]
    """For each image file, as named there, its mask cell; None without any annotation, so unlabelled."""
    notes: list[str]


def read_annotations(path: Path, *, stuff: bool = False) -> Annotations:
    """Read a COCO instances file, or a panoptic one whose pictures lie in the folder of its name.

    `stuff` says that categories which are no things are classes too, else they count as background, as does an own
    category of that name. Pixels of an object without an outline, and of no segment, are ignored.
    Raises DataError if the file is not in COCO's form, or names one image or category twice.
    """
    try:
        content = read_json(path, what="annotation file")
        annotations, entries = content["annotations"], content["images"]
        used = {a.get("category_id") for a in annotations}
        groups = {category.get("supercategory") for category in content["categories"]}
        things = sorted(
            (c for c in content["categories"] if (stuff or c.get("isthing", 1)) and not _is_group(c, groups, used)),
            key=lambda c: c["id"],
        )
        check_names([c["name"] for c in things])
        kinds = [c["name"] for c in things if c["name"].lower() not in BACKGROUNDS]
        panoptic = any("segments_info" in a for a in annotations[:1])
        # What is of no segment is ignored: where stuff counts nothing is background but a category of that name.
        names = (*[BACKGROUND] * (not (panoptic and stuff and len(kinds) == len(things))), *kinds)
        classes = {c["id"]: names.index(c["name"]) if c["name"] in kinds else 0 for c in things}
        known = {category["id"] for category in content["categories"]}
        images = {image["id"]: image for image in entries}
        for what, values in (
            ("image file_name", [image["file_name"].replace("\\", "/") for image in entries]),
            ("image id", [image["id"] for image in entries]),
            ("category", kinds),
            ("category id", [category["id"] for category in content["categories"]]),
        ):
            if double := [value for value, count in Counter(values).items() if count > 1]:
                raise DataError(f"{path} has the {what} {double[0]!r} twice; make each differ, or keep one")
        annotate = _panoptic if panoptic else _instances
        objects = [segment for a in annotations for segment in a.get("segments_info", [a])]
        if strange := [a["category_id"] for a in objects if "category_id" in a and a["category_id"] not in known]:
            raise DataError(f"{path} has annotations of category {strange[0]!r}, which it does not list")
        drawn, notes = annotate(annotations, images, classes, path)
        cells: dict[str, dict | None] = dict.fromkeys(image["file_name"] for image in entries)
        for image_id, annotation in drawn.items():
            cells[images[image_id]["file_name"]] = {"bytes": json.dumps(annotation).encode(), "path": None}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a COCO annotation file ({type(error).__name__}: {error}); it needs images, annotations "
            "and categories"
        ) from error
    return Annotations(names, cells, notes)


def _is_group(category: dict, groups: set, used: set) -> bool:
    """Whether a category only groups others: Roboflow lists the name of the whole project as one."""
    return category["name"] in groups and category["id"] not in used and category["id"] == 0


def blank(image: Path) -> dict:
    """Mask cell of an image file without any object."""
    with Image.open(image) as opened:
        annotation = {"size": [opened.height, opened.width], "objects": []}
    return {"bytes": json.dumps(annotation).encode(), "path": None}


def is_annotation(content: bytes | None) -> bool:
    """Whether the bytes of a mask cell are an annotation rather than an image file."""
    return content is not None and content.startswith(b"{")


def draw(content: bytes) -> np.ndarray:
    """Class ids uint8 (H, W) of an annotation; where objects overlap the smaller one is in front."""
    annotation = json.loads(content)
    if "panoptic" in annotation:
        return _draw_panoptic(**annotation)
    return _draw_instances(**annotation)


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of an annotation."""
    annotation = json.loads(content)
    if "panoptic" in annotation:
        with Image.open(annotation["panoptic"]) as picture:
            return picture.size
    height, width = annotation["size"]
    return width, height


def _instances(annotations: list[dict], images: dict, classes: dict, path: Path) -> tuple[dict[Any, dict], list[str]]:
    drawn: dict[Any, dict] = {}
    bare, empty = 0, 0
    if strange := [a["image_id"] for a in annotations if a["image_id"] not in images]:
        raise DataError(f"{path} has annotations of the image id {strange[0]!r}, which it does not list; export again")
    for a in annotations:
        image = images[a["image_id"]]
        if a["category_id"] not in classes:
            continue
        label, outline = classes[a["category_id"]], a.get("segmentation")
        size = image_size(image["height"], image["width"])
        check_outline(outline, size)
        if isinstance(outline, list) and not any(len(polygon) >= 6 for polygon in outline):
            outline = []  # fewer than three corners
        area = float(a.get("area") or 0) or area_of(outline)
        entry = drawn.setdefault(a["image_id"], {"size": list(size), "objects": []})
        if not outline and a.get("bbox"):
            left, top, width, height = a["bbox"]
            right, bottom = left + width, top + height
            bare += 1  # drawn first, below all that have outlines
            label, area, outline = IGNORE_INDEX, float(2**53), [[left, top, right, top, right, bottom, left, bottom]]
        if outline:
            entry["objects"].append([label, area, outline])
        empty += not outline
    if bare and bare == len(annotations):
        raise DataError(
            f"{path} has boxes without outlines only ({len(annotations)}), which say too little for segmentation; "
            "export polygons or masks"
        )
    outlines = [outline for entry in drawn.values() for label, _, outline in entry["objects"] if label != IGNORE_INDEX]
    return drawn, rectangles_note(outlines) + [
        f"{count} objects of {path.name} {what}"
        for count, what in (
            (bare, "are boxes without an outline; their pixels are ignored"),
            (empty, "have neither outline nor box; they are left out"),
        )
        if count
    ]


def _panoptic(annotations: list[dict], images: dict, classes: dict, path: Path) -> tuple[dict[Any, dict], list[str]]:
    return {
        a["image_id"]: {
            "panoptic": str(path.with_suffix("") / _inside(a["file_name"])),
            "segments": [[s["id"], classes.get(s["category_id"], 0)] for s in a["segments_info"]],
        }
        for a in annotations
        if a["image_id"] in images
    }, []


def check_outline(outline: Any, size: tuple[int, int]) -> None:
    """Raise ValueError unless this can be the outline of an object in an image of that height and width."""
    if isinstance(outline, dict):
        run_lengths(outline, *size)
    elif outline:
        check_polygons(outline, *size)


def area_of(outline: Any) -> float:
    """The area that polygons or run lengths, which were checked, enclose, where polygons do not overlap."""
    if isinstance(outline, dict):
        return float(run_lengths(outline, *outline["size"])[1::2].sum())
    total = 0.0
    for polygon in outline or ():
        x, y = np.array(polygon, dtype=float).reshape(-1, 2).T
        total += abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    return total


def rectangles_note(outlines: Sequence[Any]) -> list[str]:
    """A warning if all outlines are rectangles, straight or turned, which may be boxes that a tool has written so."""
    if not outlines or not all(map(_is_rectangle, outlines)):
        return []
    return [f"WARNING: all {len(outlines)} outlines are rectangles, as of boxes; all inside counts as the object"]


def _is_rectangle(outline: Any) -> bool:
    """Whether an outline has four corners whose diagonals share their middle; in shares of sides too."""
    if not isinstance(outline, list) or len(outline) != 1 or len(outline[0]) not in (8, 10):
        return False
    points = np.array(outline[0]).reshape(-1, 2)
    if len(points) == 5 and not np.allclose(points[4], points[0]):
        return False
    middles = points[0] + points[2] - points[1] - points[3]
    return bool(np.abs(middles).max() <= 0.02 * np.ptp(points, axis=0).max())


def _inside(file_name: str) -> str:
    check_file_name(file_name)
    return file_name


def _draw_instances(size: list[int], objects: list) -> np.ndarray:
    decode, to_rle = _pycocotools()
    ids = np.zeros(size, dtype=np.uint8)
    for label, _, segmentation in sorted(objects, key=lambda entry: -entry[1]):
        if isinstance(segmentation, list):
            # pycocotools takes a list of four numbers for a box; a polygon has at least three corners.
            shapes = [polygon for polygon in segmentation if len(polygon) >= 6]
            rle = to_rle(shapes, *size) if shapes else []
        else:
            rle = to_rle(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation
        for part in rle if isinstance(rle, list) else [rle]:
            ids[decode(part).astype(bool)] = label
    return ids


def _draw_panoptic(panoptic: str, segments: list) -> np.ndarray:
    try:
        pixels = np.asarray(Image.open(panoptic).convert("RGB")).astype(np.int64)
    except OSError as error:
        raise DataError(f"panoptic picture {panoptic} cannot be read ({type(error).__name__}); restore it") from None
    segment = pixels[..., 0] | pixels[..., 1] << 8 | pixels[..., 2] << 16
    ids = np.full(segment.shape, IGNORE_INDEX, dtype=np.uint8)
    for number, label in segments:
        ids[segment == number] = label
    return ids


def _pycocotools() -> tuple[Callable, Callable]:
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError("drawing COCO annotations needs pycocotools; run: pip install 'prevmatch[coco]'") from None
    return mask.decode, mask.frPyObjects
