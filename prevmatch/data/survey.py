"""Looking through all masks once: what each file holds, which classes occur where, and how many pixels they have."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import datasets
import numpy as np

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.cells import open_cell, where
from prevmatch.data.colours import rgb_codes
from prevmatch.data.images import EXIF_ORIENTATION, bits_of, upright
from prevmatch.data.instances import is_annotation, size_of
from prevmatch.data.masks import stored_mask
from prevmatch.data.reading import read_mask, values_of
from prevmatch.data.sources import RGB, Source
from prevmatch.errors import DataError
from prevmatch.progress import progress

Value = TypeVar("Value")
MOST_COLOURS = 100


@dataclass(frozen=True)
class Look:
    """What one mask file holds."""

    name: str
    counts: np.ndarray
    """How often each value occurs, int64 (256,), nodata aside."""
    void: int
    """Pixels that the file itself calls nodata, or NaN."""
    palette: dict[int, RGB]
    """The colour of each value that occurs, in a palette image."""
    white: int
    """The value that is shown as white."""

    @property
    def values(self) -> set[int]:
        """The values that occur."""
        return set(np.flatnonzero(self.counts).tolist())


def looks(rows: datasets.Dataset) -> list[Look]:
    """What each mask file holds; DataError for the first that is a picture in colours."""
    return list(_through(rows, _look))


def _look(row: dict) -> Look:
    stored = stored_mask(row)
    values = values_of(stored, row)
    counted = values if stored.void is None else values[~stored.void]
    counts = np.bincount(counted.ravel(), minlength=256)
    shown = {} if stored.palette is None else {int(i): _rgb(stored.palette[i]) for i in np.flatnonzero(counts)}
    return Look(row["id"], counts, values.size - counted.size, shown, stored.white)


def pixel_counts(rows: datasets.Dataset, source: Source) -> np.ndarray:
    """Pixels of each class in each mask, int64 (N, C + 1); the last column has the ignored ones."""

    def count(row: dict) -> np.ndarray:
        counts = np.bincount(np.asarray(read_mask(row, source)).ravel(), minlength=256)
        return np.append(counts[: source.num_classes], counts[IGNORE_INDEX])

    return np.array(list(_through(rows, count)), dtype=np.int64).reshape(-1, source.num_classes + 1)


def class_pixels(rows: datasets.Dataset, source: Source) -> np.ndarray:
    """Pixels of each class in all of these masks, int64 (C,)."""
    if source.pixels is not None:
        counts = np.stack([source.pixels[name] for name in rows["id"]])
    else:
        counts = pixel_counts(rows, source)
    return counts[:, :-1].sum(axis=0)


def colours_in(rows: datasets.Dataset) -> dict[str, RGB]:
    """The colours in mask files, named after themselves; DataError where there are more than classes could be."""
    found = np.unique(np.concatenate([*_through(rows, lambda row: np.unique(rgb_codes(stored_mask(row).colours())))]))
    if len(found) > MOST_COLOURS:
        raise DataError(
            f"the masks hold {len(found)} colours, more than classes are; if they are blurred, name the true ones in "
            "a file and add --mask_colours FILE --mask_tolerance 40"
        )
    colours = [(code >> 16, code >> 8 & 255, code & 255) for code in found.tolist()]
    return {"rgb_{}_{}_{}".format(*colour): colour for colour in colours}


def presence(rows: datasets.Dataset, source: Source) -> np.ndarray:
    """Whether each class occurs in each mask, bool (N, C); prepared data has it in a column, else masks are read."""
    if source.pixels is not None:
        return np.stack([source.pixels[name][:-1] > 0 for name in rows["id"]])
    if "classes" in rows.column_names:
        there = np.zeros((len(rows), source.num_classes), dtype=bool)
        for i, classes in enumerate(rows["classes"]):
            there[i, classes] = True
        return there
    return pixel_counts(rows, source)[:, :-1] > 0


def grey_rows(rows: datasets.Dataset) -> datasets.Dataset:
    """The rows whose mask files have no colours."""
    modes = _through(rows, lambda row: open_cell(row, "mask", header_only=True).mode)
    return rows.select([i for i, mode in enumerate(modes) if mode in ("1", "L", "LA") or mode[0] in "IF"])


def orientation(rows: datasets.Dataset) -> tuple[Literal["upright", "stored"], list[str]]:
    """How the photos of rows with masks lie over them, decided once for all, and what to tell.

    A photo whose EXIF turns it by 90 degrees proves it by its mask's size. Raises DataError if two prove opposite
    things, or a mask has another size than its photo.
    """
    unlike: list[str] = []
    proofs: dict[str, list[str]] = {"upright": [], "stored": []}
    turned: Counter[int] = Counter()
    for row in _through(rows, lambda row: row, "image"):
        photo = open_cell(row, "image", header_only=True)
        turn = photo.getexif().get(EXIF_ORIENTATION, 1)
        size = _size(row)
        if turn == 1 or photo.format == "TIFF":  # which Pillow turns by itself
            if size != photo.size and (turn == 1 or size != photo.size[::-1]):
                said = f"{where(row, 'mask')} is {size[0]}×{size[1]}, its photo {photo.width}×{photo.height}"
                unlike.append(said)
            continue
        turned[turn] += 1
        sizes = {"stored": photo.size, "upright": photo.size[::-1] if turn >= 5 else photo.size}
        if sizes["stored"] != sizes["upright"] and size in sizes.values():
            proofs["stored" if size == sizes["stored"] else "upright"].append(where(row, "image"))
    if unlike:
        raise DataError(
            f"{len(unlike)} of {len(rows)} masks have another size than their photos ({unlike[0]}); resize them, "
            "masks by the nearest neighbour"
        )
    if not turned:
        return "upright", []
    if proofs["stored"] and proofs["upright"]:
        raise DataError(
            f"photos with an EXIF orientation contradict each other: the mask of {proofs['upright'][0]} fits the "
            f"upright photo, that of {proofs['stored'][0]} the stored one; rotate the photos and save them without "
            "EXIF"
        )
    how: Literal["upright", "stored"] = "stored" if proofs["stored"] else "upright"
    why = f"the sizes of {len(proofs[how])} masks prove it" if proofs[how] else "no size proves otherwise"
    return how, [f"{turned.total()} labelled photos have an EXIF orientation; all are read {how}, {why}"]


def _size(row: dict) -> tuple[int, int]:
    """Width and height of a mask as it is read."""
    if is_annotation(row["mask"]["bytes"]):
        return size_of(row["mask"]["bytes"])
    mask = open_cell(row, "mask", header_only=True)
    return mask.size if mask.getexif().get(EXIF_ORIENTATION, 1) == 1 else upright(open_cell(row, "mask")).size


def photo_bits(rows: datasets.Dataset, most: int = 64) -> tuple[int | None, list[str]]:
    """Bits that the photos in 16-bit files use, judged by at most so many of them, and what to tell; else None."""
    chosen = rows.select(np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)))
    largest = 0
    for row in chosen.select_columns(["id", "image"]):
        if open_cell(row, "image", header_only=True).mode.startswith("I;16"):
            largest = max(largest, int(np.asarray(open_cell(row, "image")).max()))
    if not largest:
        return None, []
    bits = bits_of(largest)
    return bits, [f"photos in 16-bit files use {bits} bits (values up to {largest}); they are stretched from those"]


def _through(rows: datasets.Dataset, read: Callable[[dict], Value], *more: str) -> Iterator[Value]:
    masks = rows.select_columns(["id", "mask", *more])  # else the images stay on the disk
    bar = progress(masks, desc="read masks", unit="mask", leave=False, delay=2)
    return (read(row) for row in bar)


def _rgb(colour: np.ndarray) -> RGB:
    r, g, b = colour.tolist()
    return r, g, b
