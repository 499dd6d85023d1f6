"""PASCAL VOC 2012 with SBD's masks: 21 classes, 10,582 training and 1,449 validation images."""

from pathlib import Path

import datasets

from prevmatch.data.lists import first_five, read_list
from prevmatch.data.pairs import paired, require
from prevmatch.data.palettes import voc_colours
from prevmatch.data.sources import Source
from prevmatch.errors import DataError

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
PALETTE = voc_colours(len(CLASSES))

GET = (
    "It is VOCdevkit/VOC2012 with the 12,031 masks of VOC and SBD in SegmentationClass "
    "(ground_truth_pascal.zip in the release `preliminary` of github.com/wooseok-shin/PrevMatch)"
)


def load_pascal(folder: Path, splits_dir: str | None) -> Source:
    """Read JPEGImages/ and SegmentationClass/; which images train and which validate is in published lists.

    Raises DataError if a folder is missing, or images that the lists name.
    """
    require(folder, ("JPEGImages", "SegmentationClass"), name="Pascal", get=GET)
    train, val = (_listed(folder, read_list(f"pascal/{name}.txt", splits_dir)) for name in ("train_aug", "val"))
    return Source(train=train, val=val, class_names=CLASSES, palette=PALETTE)


def _listed(folder: Path, ids: list[str]) -> datasets.Dataset:
    images = [folder / "JPEGImages" / f"{name}.jpg" for name in ids]
    masks = [folder / "SegmentationClass" / f"{name}.png" for name in ids]
    for files in (images, masks):
        there = {path.name for path in files[0].parent.iterdir()}
        missing = [path.name for path in files if path.name not in there]
        if missing:
            raise DataError(
                f"{files[0].parent} lacks {len(missing)} of the {len(ids)} listed files: {first_five(missing)}. {GET}"
            )
    return paired(ids, images, masks)
