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
    count, values = np.zeros((), dtype=np.uint16), {0}
    for path in paths:  # one at a time: a photo may have hundreds
        mask = stored_mask({"id": path.stem, "mask": file_cell(path)}).numbers()
        if mask is None or count.shape not in ((), mask.shape):
            return None
        values.update(np.unique(mask).tolist())
        count = count + (mask > 0)
    if len(values) > 2 or (count > 1).sum() > OVERLAP * (count > 0).sum():
        return None
    file = io.BytesIO()
    Image.fromarray(((count > 0) * max(values)).astype(np.uint8)).save(file, format="PNG")
    return {"path": None, "bytes": file.getvalue()}
