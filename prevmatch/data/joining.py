"""One mask made of those of single objects in a photo, a file each."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.masks import stored_mask
from prevmatch.data.sources import file_cell

OVERLAP = 0.01
"""Masks of several objects share hardly a pixel; those that two people drew of one do."""


def joined(paths: Sequence[Path]) -> dict | None:
    """The cell of a mask with all of these objects.

    None where the masks are not of single objects: they hold other values than 0 and a second one, differ in size, or
    overlap. Raises DataError for a file that is no mask.
    """
    masks = [stored_mask({"id": path.stem, "mask": file_cell(path)}).numbers() for path in paths]
    numbers = [mask for mask in masks if mask is not None]
    if len({mask.shape for mask in numbers}) != 1 or len(numbers) < len(masks):
        return None
    values = {value for mask in numbers for value in np.unique(mask).tolist()}
    inside = np.sum([mask > 0 for mask in numbers], axis=0)
    if len(values - {0}) > 1 or (inside > 1).sum() > OVERLAP * (inside > 0).sum():
        return None
    file = io.BytesIO()
    Image.fromarray(((inside > 0) * max(values)).astype(np.uint8)).save(file, format="PNG")
    return {"path": None, "bytes": file.getvalue()}
