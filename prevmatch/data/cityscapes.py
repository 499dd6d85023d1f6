"""Cityscapes: 19 classes of driving scenes, 2,975 training and 500 validation images of 2048×1024."""

from pathlib import Path

import datasets

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.lists import image_id
from prevmatch.data.pairs import paired, require
from prevmatch.data.palettes import CITYSCAPES_PALETTE as PALETTE
from prevmatch.data.sources import Source
from prevmatch.data.walking import image_files

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""What the raw `labelIds` masks call the 19 classes; all other values are ignored."""

GET = "It holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of www.cityscapes-dataset.com, unpacked"


def load_cityscapes(folder: Path) -> Source:
    """Read leftImg8bit/ with gtFine/; `labelTrainIds` masks where every image has one, else the raw `labelIds`.

    Raises DataError if a folder is missing.
    """
    require(folder, [f"{kind}/{part}" for kind in ("leftImg8bit", "gtFine") for part in ("train", "val")],
            name="Cityscapes", get=GET)  # fmt: skip
    prepared = _part(folder, "train", "labelTrainIds"), _part(folder, "val", "labelTrainIds")
    if all(mask is not None for part in prepared for mask in part["mask"]):
        (train, val), label_map = prepared, None
    else:
        train, val = _part(folder, "train", "labelIds"), _part(folder, "val", "labelIds")
        label_map = tuple(LABEL_IDS.index(value) if value in LABEL_IDS else IGNORE_INDEX for value in range(256))
    return Source(train=train, val=val, class_names=CLASSES, palette=PALETTE, label_map=label_map)


def _part(folder: Path, part: str, kind: str) -> datasets.Dataset:
    images = image_files(folder / "leftImg8bit" / part, "*/*_leftImg8bit.png")
    ids = [image_id(path) for path in images]
    masks = [folder / "gtFine" / part / path.parent.name / f"{name}_gtFine_{kind}.png"
             for path, name in zip(images, ids, strict=True)]  # fmt: skip
    return paired(ids, images, masks)
