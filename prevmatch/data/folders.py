"""Finding images and their masks in folders."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets

from prevmatch.data.sources import table
from prevmatch.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def require(folder: Path, parts: Sequence[str], *, name: str, get: str) -> None:
    """Raise DataError, naming the missing sub-folders and how to get them, unless `folder` has all `parts`."""
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        there = "" if folder.is_dir() else "; the folder itself does not exist"
        raise DataError(f"{folder} is no {name} folder: it lacks {', '.join(missing)}{there}. {get}")


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The image files below a folder, sorted; hidden ones left out. Raises DataError if there is none."""
    files = sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise DataError(f"{folder} holds no images; check --data_dir")
    return files


def paired(ids: Iterable[str], images: Iterable[Path], masks: Iterable[Path]) -> datasets.Dataset:
    """Table of image files with mask files; an image whose mask is not there is unlabelled."""
    return table(
        list(ids),
        [{"path": str(image), "bytes": None} for image in images],
        [{"path": str(mask), "bytes": None} if mask.is_file() else None for mask in masks],
    )
