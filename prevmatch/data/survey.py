"""Looking through all masks once: which classes occur where, and how many pixels they have."""

from collections.abc import Callable

import datasets
import numpy as np

from prevmatch.data.reading import read_mask, stored_mask
from prevmatch.data.sources import Source
from prevmatch.progress import progress


def pixel_counts(rows: datasets.Dataset, source: Source) -> np.ndarray:
    """Pixels of each class in each mask, int64 (N, C); ignored pixels do not count."""
    return _counts(rows, lambda row: np.asarray(read_mask(row, source)))[:, : source.num_classes]


def presence(rows: datasets.Dataset, source: Source) -> np.ndarray:
    """Whether each class occurs in each mask, bool (N, C); prepared data has it in a column, else masks are read."""
    if "classes" in rows.column_names:
        there = np.zeros((len(rows), source.num_classes), dtype=bool)
        for i, classes in enumerate(rows["classes"]):
            there[i, classes] = True
        return there
    return pixel_counts(rows, source) > 0


def value_counts(rows: datasets.Dataset) -> np.ndarray:
    """How often each of the 256 values occurs in each mask file, int64 (N, 256)."""
    return _counts(rows, stored_mask)


def _counts(rows: datasets.Dataset, read: Callable[[dict], np.ndarray]) -> np.ndarray:
    masks = rows.select_columns(["id", "mask"])  # the images stay on the disk
    bar = progress(masks, desc="read masks", unit="mask", leave=False, delay=2)
    return np.array([np.bincount(read(row).ravel(), minlength=256) for row in bar], dtype=np.int64).reshape(-1, 256)
