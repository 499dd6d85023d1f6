"""CVAT's own XML, `CVAT for images`: annotations.xml, or one file of that form and another name, and the images."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.coco_numbers import image_size
from prevmatch.data.colours import RGB
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
from prevmatch.data.parts import part_in, role_of
from prevmatch.data.photos import Name, find_photos
from prevmatch.data.walking import walk
from prevmatch.errors import DataError

WITHOUT_AREA = ("skeleton", "points", "polyline", "tag", "cuboid")
"""Types of labels whose shapes have no area."""


def read(folder: Path) -> Found | None:
    """Read annotations.xml; an image without a shape that has an area is unlabelled, subsets are parts."""
    files = [path for path in sorted(folder.glob("*.xml")) if _is_cvat(path)]
    if not files:
        return None
    if len(files) > 1:
        raise DataError(
            f"{folder} has {len(files)} XML files of CVAT, {files[0].name} and {files[1].name} for two; keep one"
        )
    path = files[0]
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is no XML ({error}); export it again") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise DataError(
            f"{path} is not of `CVAT for images`; export from CVAT as `CVAT for images 1.1` or `Segmentation mask "
            "1.1`, with the images"
        )
    walked = walk(folder)
    images = named(folder, walked.files)
    entries = {_name(entry): entry for entry in root.iter("image")}
    if len(entries) < len(list(root.iter("image"))):
        raise DataError(f"{path} has two images of one name; export again")
    photo_of = find_photos(entries, images, folder, path)
    missing = [entry.name for entry in entries if entry not in photo_of]
    if not photo_of:
        raise DataError(f"no image of {path} is there, {(missing or ['none'])[0]!r} for one; export with the images")
    labels = [
        label.findtext("name", "") for label in root.iter("label")
        if label.find("parent") is None and label.findtext("type") not in WITHOUT_AREA
    ]  # fmt: skip
    names, ids = class_ids(labels or sorted({shape.get("label", "") for image in entries.values() for shape in image}))
    masks, boxes, outlines, subsets = {}, 0, 0, {}
    unread, bare = Counter[str](), 0
    for name, photo in photo_of.items():
        entry = entries[name]
        if photo in subsets:
            raise DataError(f"{path} has two images that are {photo!r}, {name.name!r} for one; keep one")
        subsets[photo] = name.part
        try:
            size = int(float(entry.get("width", 0))), int(float(entry.get("height", 0)))
            inside = sorted(entry, key=lambda shape: (shape.tag != "box", int(shape.get("z_order", 0))))
        except ValueError as error:
            raise DataError(f"{path} has a broken image {name.name!r} ({error}); export again") from error
        shapes: list[tuple[int, Outline]] = []
        for shape in inside:
            outline = _outline(shape, size, path)
            if outline is None:
                unread[shape.tag] += 1
                continue
            if shape.get("label") not in ids:
                raise DataError(f"{path} has a shape of {shape.get('label')!r}, which is not among its labels")
            boxes += shape.tag == "box"
            shapes.append((IGNORE_INDEX if shape.tag == "box" else ids[shape.get("label", "")], outline))
        outlines += len(shapes)
        bare += bool(inside) and not shapes
        if shapes:
            masks[photo] = cell(size, shapes, path)
    require_outlines(path, boxes, outlines)
    return Found(
        parts=in_parts(images, masks, lambda name: _part(subsets.get(name, ""), part_in(name))),
        class_names=names,
        palette=_palette(root, names),
        annotated=True,
        layout=f"CVAT for images ({path.name})",
        notes=[
            *walked.notes(),
            *boxes_note(boxes),
            *unread_note(unread, bare),
            *[f"{len(missing)} images of {path.name} are missing, {missing[0]!r} for one" for _ in missing[:1]],
        ],
    )


def _name(entry: ElementTree.Element) -> Name:
    subset = entry.get("subset", "")
    return Name(entry.get("name", ""), f"images/{subset}", subset)


def _is_cvat(path: Path) -> bool:
    if not path.is_file():  # a pipe would be waited for
        return False
    with path.open("rb") as file:
        return path.name == "annotations.xml" or b"<annotations>" in file.read(200)


def _outline(shape: ElementTree.Element, size: tuple[int, int], path: Path) -> Outline | None:
    """The outline of a shape; None for what has no area."""

    def number(name: str) -> float:
        return float(shape.attrib[name])

    def rotated(outline: Outline, x: float, y: float) -> Outline:
        return turned(outline, float(shape.get("rotation", 0)), x, y)

    try:
        match shape.tag:
            case "polygon":
                return polygon([[float(x) for x in point.split(",")] for point in shape.attrib["points"].split(";")])
            case "box":
                left, top, right, bottom = map(number, ("xtl", "ytl", "xbr", "ybr"))
                return rotated(box(left, top, right, bottom), (left + right) / 2, (top + bottom) / 2)
            case "ellipse":
                x, y = number("cx"), number("cy")
                return rotated(ellipse(x, y, number("rx"), number("ry")), x, y)
            case "mask":
                return _mask(shape, size)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path} has a broken {shape.tag} ({type(error).__name__}: {error}); export again") from error
    return None


def _mask(shape: ElementTree.Element, size: tuple[int, int]) -> Outline:
    """Run lengths along the rows of a box, as those of the whole image."""
    image_size(size[1], size[0])
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
    lengths = [int(value) for value in shape.attrib["rle"].split(",")]
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    whole = np.zeros((size[1], size[0]), dtype=bool)
    whole[top : top + height, left : left + width] = pixels.reshape(height, width)
    return run_lengths(whole)


def _palette(root: ElementTree.Element, names: tuple[str, ...]) -> tuple[RGB, ...]:
    """The labels' colours where all have one, else those of VOC."""
    colours = {label.findtext("name", ""): (label.findtext("color") or "").lstrip("#") for label in root.iter("label")}
    found = [colours.get(name, "000000" if i == 0 else "") for i, name in enumerate(names)]
    if not all(len(colour) == 6 for colour in found):
        return voc_colours(len(names))
    return tuple((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in found)


def _part(subset: str, folder: str) -> str:
    """The part that a subset says, or else a folder: CVAT calls a subset `default` where nobody named one."""
    return subset if role_of(subset) or not folder else folder
