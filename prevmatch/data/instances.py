"""COCO annotations as masks: objects in polygons or run lengths, or the segments of a panoptic picture.

A mask cell holds an image's annotation as JSON until it is read, so that a table of 118,287 images is made in seconds
and every loader process draws its own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.errors import DataError

BACKGROUND = "background"


def read_annotations(path: Path) -> tuple[tuple[str, ...], dict[str, dict | None]]:
    """Class names, background first, and for each image file (as named there) its mask cell.

    `path` is a COCO instances file, or a panoptic one whose pictures lie in the folder of its name; stuff counts as
    background. An image without any annotation has no cell, and so is unlabelled.
    Raises DataError if the file is not in COCO's form.
    """
    try:
        content = json.loads(path.read_text())
        things = sorted((c for c in content["categories"] if c.get("isthing", 1)), key=lambda c: c["id"])
        classes = {category["id"]: number for number, category in enumerate(things, 1)}
        names = (BACKGROUND, *(category["name"] for category in things))
        images = {image["id"]: image for image in content["images"]}
        annotate = _panoptic if any("segments_info" in a for a in content["annotations"][:1]) else _instances
        cells: dict[str, dict | None] = dict.fromkeys(image["file_name"] for image in images.values())
        for image_id, annotation in annotate(content["annotations"], images, classes, path.with_suffix("")).items():
            cells[images[image_id]["file_name"]] = {"bytes": json.dumps(annotation).encode(), "path": None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a COCO annotation file ({type(error).__name__}: {error}); it needs images, annotations "
            "and categories"
        ) from error
    return names, cells


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


def _instances(annotations: list[dict], images: dict, classes: dict, _: Path) -> dict[Any, dict]:
    drawn: dict[Any, dict] = {}
    for a in annotations:
        if a["category_id"] in classes and a.get("segmentation"):
            image = images[a["image_id"]]
            entry = drawn.setdefault(a["image_id"], {"size": [image["height"], image["width"]], "objects": []})
            entry["objects"].append([classes[a["category_id"]], a.get("area", 0), a["segmentation"]])
    return drawn


def _panoptic(annotations: list[dict], images: dict, classes: dict, folder: Path) -> dict[Any, dict]:
    return {
        a["image_id"]: {
            "panoptic": str(folder / a["file_name"]),
            "segments": [[s["id"], classes.get(s["category_id"], 0)] for s in a["segments_info"]],
        }
        for a in annotations
        if a["image_id"] in images
    }


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
