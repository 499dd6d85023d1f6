"""COCO 2017 in 81 classes (background and 80 kinds of things): 118,287 training and 5,000 validation images."""

from pathlib import Path

import datasets

from prevmatch.data.instances import BACKGROUND, blank, read_annotations
from prevmatch.data.pairs import paired, require
from prevmatch.data.palettes import voc_colours
from prevmatch.data.sources import Source, table
from prevmatch.data.walking import image_files
from prevmatch.errors import DataError

CLASSES = (
    BACKGROUND, "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
PALETTE = voc_colours(len(CLASSES))

GET = (
    "It holds train2017.zip and val2017.zip of cocodataset.org, unpacked, and either masks/ (ground_truth_coco.zip in "
    "the release `preliminary` of github.com/wooseok-shin/PrevMatch) or annotations/ with instances_*2017.json"
)


def load_coco(folder: Path) -> Source:
    """Read train2017/ and val2017/ with masks/, or else with the official annotations (instances or panoptic).

    Masks drawn from annotations call pixels without an object background; an image without any is all background.
    Raises DataError if a folder or file is missing.
    """
    require(folder, ("train2017", "val2017"), name="COCO", get=GET)
    if (folder / "masks").is_dir():
        parts = []
        for part in ("train2017", "val2017"):
            images = image_files(folder / part, "*")
            masks = [folder / "masks" / f"{path.stem}.png" for path in images]
            parts.append(paired((path.stem for path in images), images, masks))
        return Source(train=parts[0], val=parts[1], class_names=CLASSES, palette=PALETTE)
    train, val = (_annotated(folder, part) for part in ("train2017", "val2017"))
    note = "masks are drawn from annotations; they need not equal the published ones pixel by pixel"
    return Source(train=train, val=val, class_names=CLASSES, palette=PALETTE, notes=(note,))


def _annotated(folder: Path, part: str) -> datasets.Dataset:
    files = [folder / "annotations" / f"{kind}_{part}.json" for kind in ("instances", "panoptic")]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        require(folder, ("masks",), name="COCO", get=GET)
        raise AssertionError
    names, cells, _ = read_annotations(path)
    if names != CLASSES:
        raise DataError(
            f"{path} has {len(names) - 1} classes of things instead of COCO's 80; it is another data set's"
        )
    images = image_files(folder / part, "*")
    masks = [cells.get(image.name) or blank(image) for image in images]
    return table([path.stem for path in images], [{"path": str(path), "bytes": None} for path in images], masks)
