"""Text files of YOLO segmentation: images/ and labels/, whole or in parts, as Ultralytics and Roboflow have them."""

from pathlib import Path

from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.images import EXIF_ORIENTATION
from prevmatch.data.outlines import Outline, box, boxes_note, cell, class_ids, polygon
from prevmatch.data.palettes import voc_colours
from prevmatch.data.texts import find_class_list, read_class_names, read_text
from prevmatch.data.walking import walk
from prevmatch.errors import DataError


def read(folder: Path) -> Found | None:
    """Read labels/x.txt for images/x.jpg; an empty text says that there is no object, none that it is unlabelled."""
    walked = walk(folder)
    texts = {path: _text_of(path) for path in walked.files if "images" in [part.lower() for part in path.parts]}
    texts = {path: text for path, text in texts.items() if text.is_file()}
    if not texts:
        return None
    listed = find_class_list(folder)
    lines = {path: _lines(text) for path, text in texts.items()}
    most = max((label for shapes in lines.values() for label, _, _ in shapes), default=-1)
    given = read_class_names(listed) if listed else tuple(f"class_{i}" for i in range(most + 1))
    if most >= len(given):
        raise DataError(f"{folder} has objects of class {most}, but {listed} names {len(given)} classes; complete it")
    names, ids = class_ids(given)
    boxes = sum(is_box for shapes in lines.values() for _, _, is_box in shapes)
    if boxes and boxes == sum(map(len, lines.values())):
        raise DataError(
            f"{folder} has YOLO boxes without outlines only ({boxes}), which say too little for segmentation; export "
            "polygons (YOLO segmentation)"
        )
    images = named(folder, walked.files)
    masks = {}
    for name, path in images.items():
        if path in lines:
            size = _upright_size(path)
            shapes = sorted(lines[path], key=lambda shape: not shape[2])  # what is ignored lies below
            masks[name] = cell(
                size,
                [(IGNORE_INDEX if b else ids[given[label]], _scaled(o, size)) for label, o, b in shapes],
                texts[path],
            )
    return Found(
        parts=in_parts(images, masks),
        class_names=names,
        palette=voc_colours(len(names)),
        annotated=True,
        layout=f"YOLO segmentation, {len(texts)} text files" + (f", {listed.name}" if listed else ""),
        notes=walked.notes() + boxes_note(boxes),
    )


def _text_of(image: Path) -> Path:
    """The text of an image: as its path, but below labels/ instead of the last images/."""
    parts = list(image.with_suffix(".txt").parts)
    last = max(i for i, part in enumerate(parts) if part.lower() == "images")
    other = {"Images": "Labels", "IMAGES": "LABELS"}.get(parts[last], "labels")
    return Path(*parts[:last], other, *parts[last + 1 :])


def _lines(path: Path) -> list[tuple[int, Outline, bool]]:
    """Class, outline in shares of the image's sides, and whether it is only a box, of each line."""
    shapes = []
    for number, line in enumerate(read_text(path, what="YOLO label").splitlines(), 1):
        try:
            label, *values = line.split() or ["", ""]
            if not label:
                continue
            shares = [float(value) for value in values]
            if len(shares) == 4:
                x, y, width, height = shares
                shapes.append((int(label), box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), True))
                continue
            if len(shares) < 6 or len(shares) % 2 or int(label) < 0:
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is not a class and the corners of a polygon (YOLO segmentation)"
            ) from None
        shapes.append((int(label), polygon(list(zip(shares[::2], shares[1::2], strict=True))), False))
    return shapes


def _scaled(outline: Outline, size: tuple[int, int]) -> Outline:
    assert isinstance(outline, list)
    return [[value * size[i % 2] for i, value in enumerate(part)] for part in outline]


def _upright_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            turned = image.format != "TIFF" and image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image ({type(error).__name__}); replace the file") from None
