"""Checking raw folders, and pairing their images with masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets

from prevmatch.data.sources import table
from prevmatch.errors import DataError


def require(folder: Path, parts: Sequence[str], *, name: str, get: str) -> None:
    """Raise DataError, naming the missing sub-folders and how to get them, unless `folder` has all `parts`."""
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        there = "" if folder.is_dir() else "; the folder itself does not exist"
        raise DataError(f"{folder} is no {name} folder: it lacks {', '.join(missing)}{there}. {get}")


def paired(ids: Iterable[str], images: Iterable[Path], masks: Iterable[Path]) -> datasets.Dataset:
    """Table of image files with mask files; an image whose mask is not there is unlabelled."""
    return table(
        list(ids),
        [{"path": str(image), "bytes": None} for image in images],
        [{"path": str(mask), "bytes": None} if mask.is_file() else None for mask in masks],
    )
