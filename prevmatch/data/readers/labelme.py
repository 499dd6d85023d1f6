"""labelme's JSON files beside the photos, as labelme saves them."""

import base64
import io
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.coco_numbers import image_size
from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.images import upright_size
from prevmatch.data.instances import rectangles_note
from prevmatch.data.lists import first_five
from prevmatch.data.outlines import Outline, box, cell, class_ids, ellipse, polygon, run_lengths, unread_note
from prevmatch.data.palettes import voc_colours
from prevmatch.data.photos import Name, find_photos
from prevmatch.data.texts import find_class_list, read_class_names, read_json
from prevmatch.data.walking import walk
from prevmatch.errors import DataError

Shapes = list[tuple[str, Outline]]


def read(folder: Path) -> Found | None:
    """Read every x.json of labelme below `folder`; a photo without one is unlabelled, without a shape background.

    The photo beside a file that bears its name is its photo; else the one it names is, or the one inside it.
    """
    files = {path: content for path in walk(folder, suffixes=(".json",)).files if (content := _content(path))}
    if not files:
        return None
    made = {path.parent.resolve() for path in walk(folder).files if path.name == "label_viz.png"}
    walked = walk(folder, without=made)
    photos = named(folder, walked.files)
    images: dict[str, Path | dict] = dict(photos)
    wanted = _wanted(files, walked.files, folder)
    photo_of = find_photos(wanted.values(), photos, folder, folder)
    there = set(walked.files)
    stale = [
        path.name for path, content in files.items()
        if wanted[path].name != (said := str(content["imagePath"])) and path.parent / said in there
    ]  # fmt: skip
    drawn: dict[str, Path] = {}
    shapes_of: dict[Path, Shapes] = {}
    unread, bare = Counter[str](), 0
    for path, content in files.items():
        name = photo_of.get(wanted[path])
        if name is None and not content.get("imageData"):
            raise DataError(
                f"{path} describes the photo {wanted[path].name}, which is not there; put it beside the JSON file"
            )
        if name is None:
            name = path.relative_to(folder).with_suffix("").as_posix()
            images[name] = {"bytes": base64.b64decode(content["imageData"]), "path": None}
        if name in drawn:
            raise DataError(f"{path} is a second labelme file for the photo {name!r}; keep one")
        drawn[name] = path
        if not {"imageHeight", "imageWidth"} <= content.keys():  # as old versions save it
            image = images[name]
            size = upright_size(io.BytesIO(image["bytes"]) if isinstance(image, dict) else image)
            content["imageWidth"], content["imageHeight"] = size
        shapes_of[path], others = _shapes(content, path)
        unread += others
        bare += bool(others) and not shapes_of[path]
    listed = find_class_list(folder)
    used = sorted({label for shapes in shapes_of.values() for label, _ in shapes})
    names, ids = class_ids(read_class_names(listed) if listed else used)
    if strange := [label for label in used if label not in ids]:
        raise DataError(f"{listed} does not name the label {strange[0]!r}; add it, or remove the list")
    empty = sum(not content["shapes"] for content in files.values())
    masks = {
        name: cell(
            (files[path]["imageWidth"], files[path]["imageHeight"]),
            [(ids[label], shape) for label, shape in shapes_of[path]],
            path,
        )
        for name, path in drawn.items()
        if shapes_of[path] or not files[path]["shapes"]
    }
    return Found(
        parts=in_parts(images, masks),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"{len(files)} JSON files of labelme",
        notes=[
            *walked.notes(),
            *[f"{len(made)} folders of labelme_json_to_dataset are left out"] * bool(made),
            *[f"{len(stale)} files name another photo than that of their own name, which counts: {first_five(stale)}"]
            * bool(stale),
            *unread_note(unread, bare),
            *rectangles_note([outline for shapes in shapes_of.values() for _, outline in shapes]),
            *[f"{empty} of {len(files)} JSON files have no shape: their photos are background throughout"]
            * bool(empty),
        ],
    )


def _content(path: Path) -> dict | None:
    content = read_json(path, what="JSON file")
    return content if isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys() else None


def _wanted(files: dict[Path, dict], photos: list[Path], folder: Path) -> dict[Path, Name]:
    """What each file calls its photo: as that beside it of its own name, or as it says."""
    own = defaultdict(list)
    for photo in photos:
        own[_composed(photo.with_suffix(""))].append(photo.name)
    wanted = {}
    for path, content in files.items():
        said = str(content["imagePath"])
        beside = own.get(_composed(path.with_suffix("")), [said])
        name = next((name for name in beside if _composed(name) == _composed(Path(said).name)), beside[0])
        wanted[path] = Name(name, path.parent.relative_to(folder).as_posix())
    return wanted


def _composed(path: Path | str) -> str:
    return unicodedata.normalize("NFC", str(path))


def _shapes(content: dict, path: Path) -> tuple[Shapes, Counter[str]]:
    """Labels and outlines, and the kinds of the shapes that have no area."""
    shapes: Shapes = []
    others = Counter[str]()
    try:
        image_size(content["imageHeight"], content["imageWidth"])
        for shape in content["shapes"]:
            points = [(float(x), float(y)) for x, y in shape["points"]]
            match kind := shape.get("shape_type") or "polygon":
                case "polygon" | "rotation":  # of X-AnyLabeling: a rectangle, turned, by its corners
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
            if outline is None:
                others[kind] += 1
            else:
                shapes.append((str(shape["label"]).strip(), outline))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is no labelme file ({type(error).__name__}: {error}); save it again") from error
    return shapes, others


def _pasted(shape: dict, corner: tuple[float, float], content: dict) -> Outline:
    """The mask of a shape, which is a PNG in base64, at its place in the photo."""
    try:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
    except OSError:
        raise ValueError(f"a mask of {shape.get('label')!r} that is no PNG") from None
    whole = np.zeros((int(content["imageHeight"]), int(content["imageWidth"])), dtype=bool)
    left, top = int(corner[0]), int(corner[1])
    place = whole[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    place[...] = pixels[: place.shape[0], : place.shape[1]]
    return run_lengths(whole)
