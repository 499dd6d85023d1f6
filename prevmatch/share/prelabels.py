"""Photos with labels to correct instead of to draw, for labelme, CVAT and whoever reads COCO."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.instances import BACKGROUNDS
from prevmatch.data.palettes import voc_colours
from prevmatch.share.pictures import colour_mask
from prevmatch.share.tracing import Piece, pieces_of
from prevmatch.writing import replace_folder

LABELME_VERSION = "5.5.0"
"""Of the program whose files these are; it opens those of older ones."""


@dataclass(frozen=True)
class Prelabelled:
    """A photo and what a model says of it."""

    name: str
    """The id of its row: a path without suffix."""
    photo: dict
    """The cell of its file: {"bytes", "path"}."""
    ids: np.ndarray
    """Class ids uint8 (H, W) of the upright photo."""


def write_prelabels(
    folder: Path, items: Iterable[Prelabelled], names: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> None:
    """Replace `folder` by the photos in images/, a labelme file beside each, coco.json and cvat.zip.

    labelme opens the folder images/; CVAT imports cvat.zip as "Segmentation mask 1.1" and coco.json as "COCO 1.0",
    both for a task with the same photos.
    """
    palette = palette or voc_colours(len(names))
    coco = _Coco(names)
    with replace_folder(folder) as aside, zipfile.ZipFile(aside / "cvat.zip", "w", zipfile.ZIP_DEFLATED) as cvat:
        listed = []
        for item in items:
            photo = _copy_photo(item, aside / "images")
            drawn = [o for o in pieces_of(item.ids) if o.inside or names[o.label].lower() not in BACKGROUNDS]
            content = labelme(photo.name, item.ids.shape, drawn, names)
            photo.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
            coco.add(photo.relative_to(aside / "images").as_posix(), item.ids.shape, drawn)
            picture = io.BytesIO()
            colour_mask(item.ids, palette).save(picture, "PNG")
            cvat.writestr(f"SegmentationClass/{item.name}.png", picture.getvalue())
            listed.append(item.name)
        cvat.writestr("labelmap.txt", labelmap(names, palette))
        cvat.writestr("ImageSets/Segmentation/default.txt", "".join(f"{name}\n" for name in listed))
        (aside / "coco.json").write_text(json.dumps(coco.content) + "\n")


def labelme(photo: str, shape: tuple[int, ...], drawn: Sequence[Piece], names: Sequence[str]) -> dict:
    """The content of a labelme file; it draws its polygons in their order, so the smaller ones come last."""
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [
            {
                "label": names[piece.label],
                "points": _rounded(piece.corners).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for piece in drawn
        ],
        "imagePath": photo,
        "imageData": None,
        "imageHeight": shape[0],
        "imageWidth": shape[1],
    }


def labelmap(names: Sequence[str], palette: Sequence[tuple[int, int, int]]) -> str:
    """CVAT's list of classes and their colours."""
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(names, palette, strict=True)]
    return "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"


class _Coco:
    def __init__(self, names: Sequence[str]):
        categories = [{"id": label + 1, "name": name, "supercategory": ""} for label, name in enumerate(names)]
        self.content: dict[str, list] = {"images": [], "annotations": [], "categories": categories}

    def add(self, file_name: str, shape: tuple[int, ...], drawn: Sequence[Piece]) -> None:
        images, annotations = self.content["images"], self.content["annotations"]
        images.append({"id": len(images) + 1, "file_name": file_name, "height": shape[0], "width": shape[1]})
        for piece in drawn:
            corners = _rounded(piece.corners)
            low, high = corners.min(0), corners.max(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": piece.label + 1,
                    "segmentation": [corners.ravel().tolist()],
                    "area": piece.area,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "iscrowd": 0,
                }
            )


def _rounded(corners: np.ndarray) -> np.ndarray:
    return corners.round(1)


def _copy_photo(item: Prelabelled, images: Path) -> Path:
    """Copy the photo's file as it is, under its name and suffix."""
    content, path = item.photo["bytes"], item.photo["path"]
    if content is None:
        suffix = Path(path).suffix
    else:
        suffix = "." + {"jpeg": "jpg"}.get(kind := (Image.open(io.BytesIO(content)).format or "png").lower(), kind)
    # Not with_suffix: an id may hold dots.
    target = images / f"{item.name.lstrip('/')}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        shutil.copyfile(path, target)
    else:
        target.write_bytes(content)
    return target
