"""Photos with labels to correct instead of to draw, for labelme, CVAT and whoever reads COCO."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.instances import BACKGROUNDS
from prevmatch.data.palettes import voc_colours
from prevmatch.ownership import OwnFiles
from prevmatch.share.pictures import colour_mask
from prevmatch.share.tracing import Piece, pieces_of

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

    @property
    def file(self) -> str:
        """The name of the photo's file: its id, which may hold dots, with its suffix."""
        content, path = self.photo["bytes"], self.photo["path"]
        if content is None:
            suffix = Path(path).suffix
        else:
            suffix = "." + {"jpeg": "jpg"}.get(kind := (Image.open(io.BytesIO(content)).format or "png").lower(), kind)
        return f"{self.name.lstrip('/')}{suffix}"


def write_prelabels(
    own: OwnFiles, items: Sequence[Prelabelled], names: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> None:
    """Write the photos into images/, a labelme file beside each, coco.json and cvat.zip; what `own` had, and is not of
    these, is removed.

    labelme opens the folder images/; CVAT imports cvat.zip as "Segmentation mask 1.1" and coco.json as "COCO 1.0",
    both for a task with the same photos. Raises ConfigError where a file is the user's.
    """
    photos = [own.folder / "images" / item.file for item in items]
    written = [own.folder / "cvat.zip", own.folder / "coco.json", *photos, *(p.with_suffix(".json") for p in photos)]
    own.require(written)
    own.clear(keep=written)
    palette = palette or voc_colours(len(names))
    coco, packed = _Coco(names), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as cvat:
        for item, photo in zip(items, photos, strict=True):
            content = item.photo["bytes"]
            own.write(photo, Path(item.photo["path"]).read_bytes() if content is None else content)
            drawn = [o for o in pieces_of(item.ids) if o.inside or names[o.label].lower() not in BACKGROUNDS]
            told = labelme(photo.name, item.ids.shape, drawn, names)
            own.write(photo.with_suffix(".json"), (json.dumps(told, indent=1) + "\n").encode())
            coco.add(item.file, item.ids.shape, drawn)
            picture = io.BytesIO()
            colour_mask(item.ids, palette).save(picture, "PNG")
            cvat.writestr(f"SegmentationClass/{item.name}.png", picture.getvalue())
        cvat.writestr("labelmap.txt", labelmap(names, palette))
        cvat.writestr("ImageSets/Segmentation/default.txt", "".join(f"{item.name}\n" for item in items))
    own.write(own.folder / "cvat.zip", packed.getvalue())
    own.write(own.folder / "coco.json", (json.dumps(coco.content) + "\n").encode())


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
