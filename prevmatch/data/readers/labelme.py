"""labelme's JSON files beside the photos, as labelme saves them."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.coco_numbers import image_size
from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.outlines import Outline, box, cell, class_ids, ellipse, polygon, run_lengths
from prevmatch.data.palettes import voc_colours
from prevmatch.data.texts import find_class_list, read_class_names, read_json
from prevmatch.data.walking import Walk, walk
from prevmatch.errors import DataError

Shapes = list[tuple[str, Outline]]


def read(folder: Path) -> Found | None:
    """Read every x.json of labelme below `folder`; a photo without one is unlabelled, without a shape background."""
    files = {path: content for path in walk(folder, suffixes=(".json",)).files if (content := _content(path))}
    if not files:
        return None
    walked = walk(folder)
    images: dict[str, Path | dict] = dict(named(folder, walked.files))
    drawn: dict[str, tuple[tuple[int, int], Shapes]] = {}
    lines = 0
    for path, content in files.items():
        name = _image_of(path, content, folder, images, walked)
        if name in drawn:
            raise DataError(f"{path} is a second labelme file for the photo {name!r}; keep one")
        shapes, other = _shapes(content, path)
        lines += other
        drawn[name] = (content["imageWidth"], content["imageHeight"]), shapes
    listed = find_class_list(folder)
    used = sorted({label for _, shapes in drawn.values() for label, _ in shapes})
    names, ids = class_ids(read_class_names(listed) if listed else used)
    if strange := [label for label in used if label not in ids]:
        raise DataError(f"{listed} does not name the label {strange[0]!r}; add it, or remove the list")
    bare = sum(not shapes for _, shapes in drawn.values())
    masks = {
        name: cell(size, [(ids[label], shape) for label, shape in shapes], folder)
        for name, (size, shapes) in drawn.items()
    }
    return Found(
        parts=in_parts(images, masks),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"{len(files)} JSON files of labelme",
        notes=[
            *walked.notes(),
            *[f"{lines} lines and points have no area and are left out"] * bool(lines),
            *[f"{bare} of {len(files)} JSON files have no shape: their photos are background throughout"] * bool(bare),
        ],
    )


def _content(path: Path) -> dict | None:
    content = read_json(path, what="JSON file")
    return content if isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys() else None


def _image_of(path: Path, content: dict, folder: Path, images: dict[str, Path | dict], walked: Walk) -> str:
    """The id of the photo that a file describes: the one it names, the one of its name, or the one inside it."""
    meant = path.parent / str(content["imagePath"]).replace("\\", "/")
    beside = path.parent / meant.name
    for name, image in images.items():
        if image in (meant, beside) or (isinstance(image, Path) and image.with_suffix("") == path.with_suffix("")):
            return name
    if content.get("imageData"):
        name = path.relative_to(folder).with_suffix("").as_posix()
        images[name] = {"bytes": base64.b64decode(content["imageData"]), "path": None}
        return name
    raise DataError(f"{path} describes the photo {meant.name}, which is not there; put it beside the JSON file")


def _shapes(content: dict, path: Path) -> tuple[Shapes, int]:
    """Labels and outlines, and how many shapes have no area."""
    shapes: Shapes = []
    try:
        image_size(content["imageHeight"], content["imageWidth"])
        for shape in content["shapes"]:
            points = [(float(x), float(y)) for x, y in shape["points"]]
            match shape.get("shape_type") or "polygon":
                case "polygon":
                    outline = polygon(points) if len(points) > 2 else None
                case "rectangle":
                    (a, b), (c, d) = points[0], points[-1 if len(points) == 2 else 2]
                    outline = box(min(a, c), min(b, d), max(a, c), max(b, d))
                case "circle":
                    (x, y), (u, v) = points
                    outline = ellipse(x, y, np.hypot(u - x, v - y), np.hypot(u - x, v - y))
                case "mask":
                    outline = _pasted(shape, points[0], content)
                case _:
                    outline = None
            if outline is not None:
                shapes.append((str(shape["label"]), outline))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is no labelme file ({type(error).__name__}: {error}); save it again") from error
    return shapes, len(content["shapes"]) - len(shapes)


def _pasted(shape: dict, corner: tuple[float, float], content: dict) -> Outline:
    """The mask of a shape, which is a PNG in base64, at its place in the photo."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
    whole = np.zeros((int(content["imageHeight"]), int(content["imageWidth"])), dtype=bool)
    left, top = int(corner[0]), int(corner[1])
    place = whole[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    place[...] = pixels[: place.shape[0], : place.shape[1]]
    return run_lengths(whole)
