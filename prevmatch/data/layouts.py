"""Folders that people and labelling tools make: which reader understands one, and what to say where none does."""

from pathlib import Path

from prevmatch.data.found import Found
from prevmatch.data.readers import coco, folders
from prevmatch.errors import DataError

HELP = (
    "put all photos into images/ and, for some of them, masks of the same name into masks/; or export from labelme "
    "(JPEGImages, SegmentationClass, class_names.txt), CVAT (`Segmentation mask`, images included) or as COCO JSON"
)


def find(folder: Path) -> Found:
    """Recognise the layout of a folder and list its images and masks.

    Raises DataError, with what the folder should look like, if it is none of the known ones.
    """
    if not folder.is_dir():
        raise DataError(f"data_dir {folder} does not exist; {HELP}")
    for read in (folders.read, coco.read):
        if found := read(folder):
            return found
    if any(folder.glob("SegmentationClass*/*.png")):
        raise DataError(f"{folder} has masks but no JPEGImages; export again with the images included")
    missing = [name for name in ("images", "masks") if not (folder / name).is_dir()]
    raise DataError(f"{folder} lacks {' and '.join(f'{name}/' for name in missing)}: {HELP}")
