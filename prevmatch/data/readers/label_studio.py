"""Label Studio's JSON export: polygons and brush strokes of each task, beside the images."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.coco_numbers import image_size
from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.outlines import (
    Outline,
    box,
    boxes_note,
    cell,
    class_ids,
    ellipse,
    polygon,
    require_outlines,
    run_lengths,
    turned,
    unread_note,
)
from prevmatch.data.palettes import voc_colours
from prevmatch.data.photos import Name, find_photos
from prevmatch.data.texts import read_json
from prevmatch.data.walking import IMAGE_SUFFIXES, walk
from prevmatch.errors import DataError

KINDS = ("polygon", "brush", "ellipse", "rectangle")


def read(folder: Path) -> Found | None:
    """Read the tasks of the one JSON file that is a list of them; a task without annotation is unlabelled.

    So is one with none that has an area and a label.
    """
    files = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    found = [(path, content) for path in files if _is_tasks(content := read_json(path))]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{folder} has {len(found)} exports of Label Studio, {found[0][0].name} for one; keep one")
    path, tasks = found[0]
    if not any("annotations" in task for task in tasks):
        raise DataError(f"{path} is Label Studio's JSON-MIN, which lacks the annotations' form; export as JSON")
    walked = walk(folder)
    images = named(folder, walked.files)
    drawn: dict[str, tuple[tuple[int, int], list[tuple[str, Outline, bool]]]] = {}
    missing = []
    unread, bare = Counter[str](), 0
    names = [Name(_address(task)) for task in tasks]
    photo_of = find_photos(names, images, folder, path)
    for task, name in zip(tasks, names, strict=True):
        if name not in photo_of:
            missing.append(name.name)
            continue
        photo = photo_of[name]
        done = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        if len(done) > 1:
            raise DataError(f"{path} has {len(done)} annotations of {name.name!r}; keep one of each task")
        if done and photo in drawn:
            raise DataError(f"{path} has two tasks for the image {name.name!r}; keep one")
        if done and len(of := {one["to_name"] for one in done[0]["result"] if one.get("to_name")}) > 1:
            raise DataError(f"{path} has regions of {' and '.join(sorted(of))} in one task; export tasks of one image")
        if done:
            size, shapes, others = _shapes(done[0]["result"], path, images[photo])
            unread += others
            bare += bool(others) and not shapes
            if shapes or not others:
                drawn[photo] = size, shapes
    if missing and len(missing) == len(tasks):
        raise DataError(f"no image of {path} is there, {missing[0]!r} for one; put the images beside it")
    classes, ids = class_ids(sorted({label for _, shapes in drawn.values() for label, _, _ in shapes}))
    boxes = sum(is_box for _, shapes in drawn.values() for _, _, is_box in shapes)
    require_outlines(path, boxes, sum(len(shapes) for _, shapes in drawn.values()))
    masks = {
        name: cell(size, [
            (IGNORE_INDEX if is_box else ids[label], outline)
            for label, outline, is_box in sorted(shapes, key=lambda shape: not shape[2])
        ], path)
        for name, (size, shapes) in drawn.items()
    }  # fmt: skip
    return Found(
        parts=in_parts(images, masks),
        class_names=classes,
        palette=voc_colours(len(classes)),
        annotated=True,
        layout=f"Label Studio, {path.name}",
        notes=[
            *walked.notes(),
            *boxes_note(boxes),
            *unread_note(unread, bare),
            *[f"{len(missing)} images of {path.name} are missing, {missing[0]!r} for one" for _ in missing[:1]],
        ],
    )


def _is_tasks(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(
        isinstance(task, dict) and ("data" in task or {"image", "annotation_id"} <= task.keys()) for task in content
    )  # fmt: skip


def _address(task: dict) -> str:
    """Where a task says that its image is: what ends as an image does, else as any file."""
    said = [str(value) for value in task["data"].values()]
    images = (value for value in said if value.partition("?")[0].lower().endswith(IMAGE_SUFFIXES))
    return next(images, next((value for value in said if re.search(r"\.\w{3,4}(\?.*)?$", value)), ""))


def _shapes(
    results: list[dict], path: Path, image: Path
) -> tuple[tuple[int, int], list[tuple[str, Outline, bool]], Counter[str]]:
    """Size of an image; label, outline and whether it is only a box, of each region; the kinds of other results."""
    shapes: list[tuple[str, Outline, bool]] = []
    others = Counter[str]()
    size = (0, 0)
    try:
        apart = {one["id"]: one["value"]["labels"] for one in results if one["type"] == "labels"}
        for result in results:
            kind = result["type"].removesuffix("labels")
            labels = kind in KINDS and (result["value"].get(f"{kind}labels") or apart.get(result.get("id")))
            if not labels:
                others[result["type"]] += result["type"] not in ("labels", "relation")
                continue
            if len(labels) > 1:
                raise DataError(
                    f"{path} has a region that is {' and '.join(map(str, labels))}; label each as one thing"
                )
            value = result["value"]
            size = int(result["original_width"]), int(result["original_height"])
            share = size[0] / 100, size[1] / 100
            match kind:
                case "polygon":
                    outline = polygon([(x * share[0], y * share[1]) for x, y in value["points"]])
                case "ellipse":
                    x, y = value["x"] * share[0], value["y"] * share[1]
                    outline = ellipse(x, y, value["radiusX"] * share[0], value["radiusY"] * share[1])
                    outline = turned(outline, value.get("rotation") or 0, x, y)
                case "rectangle":
                    left, top = value["x"] * share[0], value["y"] * share[1]
                    outline = box(left, top, left + value["width"] * share[0], top + value["height"] * share[1])
                    outline = turned(outline, value.get("rotation") or 0, left, top)
                case _:
                    outline = run_lengths(_brush(value["rle"], size) > 0)
            shapes.append((str(labels[0]).strip(), outline, kind == "rectangle"))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} has a region that is broken ({type(error).__name__}: {error}); export again"
        ) from error
    if size == (0, 0):
        from PIL import Image

        with Image.open(image) as opened:
            size = opened.size
    return size, shapes, +others


def _brush(packed: list[int], size: tuple[int, int]) -> np.ndarray:
    """Opacity uint8 (H, W) of a brush stroke: RGBA values packed bit by bit as runs and single values."""
    bits = np.unpackbits(np.array(packed, dtype=np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int("".join(map(str, bits[place - count : place])) or "0", 2)

    total, width = take(32), take(5) + 1
    image_size(size[1], size[0])
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"a brush stroke of {total} values for an image of {size[0]}×{size[1]}")
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        is_run = take(1)
        end = done + 1 + take(lengths[take(2)])
        if is_run:
            values[done:end] = take(width)
        else:
            for i in range(done, min(end, total)):
                values[i] = take(width)
        done = end
    return values.reshape(size[1], size[0], 4)[..., 3]
