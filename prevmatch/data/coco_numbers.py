"""Numbers and names of COCO files, checked before anything allocates by them or hands them to C, which believes it."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np

MOST_PIXELS = 178_956_970
"""Of an image, as Pillow has it."""
MOST_COORDINATES = 1_000_000
"""Of an object's outline."""
MOST_CLASSES = 254
"""Besides the background."""


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """Height and width of an image, if they can be; raises ValueError."""
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise ValueError(f"an image of height {_shown(height)} and width {_shown(width)}")
    if height * width > MOST_PIXELS:
        raise ValueError(f"an image of {_shown(height)} × {_shown(width)} pixels, more than {MOST_PIXELS}")
    return height, width


def check_polygons(polygons: Any, height: int, width: int) -> None:
    """Raise ValueError unless these are lists of coordinates that lie in or about an image of that size."""
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError(f"an outline {_shown(polygons)} that is no list of polygons")
    numbers = [number for polygon in polygons for number in polygon]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError(f"an outline {_shown(polygons)} that is not made of numbers")
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError(f"an outline {_shown(polygons)} with an x that has no y")
    furthest = 10 * max(height, width)  # pixels along an edge are stored one by one
    if len(numbers) > MOST_COORDINATES or not all(-furthest <= number <= furthest for number in numbers):  # NaN too
        raise ValueError(f"an outline {_shown(polygons)} far beyond its image of {height} × {width}")


def run_lengths(rle: Any, height: int, width: int) -> np.ndarray:
    """The run lengths int64 of an object, background first, column by column; they add up to the image.

    `rle` is {"size": [height, width], "counts": a list or COCO's compressed text}. Raises ValueError for any other.
    """
    if not isinstance(rle, dict) or rle.get("size") != [height, width]:
        raise ValueError(f"run lengths {_shown(rle)} that are not of an image of {height} × {width}")
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        lengths = _decompressed(counts)
    elif isinstance(counts, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in counts):
        if any(not 0 <= n <= height * width for n in counts):
            raise ValueError(f"run lengths {_shown(rle)} that are longer than the image, or negative")
        lengths = np.array(counts, dtype=np.int64)
    else:
        raise ValueError(f"run lengths {_shown(rle)} that are neither numbers nor COCO's compressed text")
    if (lengths < 0).any() or (lengths > height * width).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths {_shown(rle)} that do not add up to {height} × {width} pixels")
    return lengths


def draw_runs(lengths: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where an object is, bool (H, W), by its run lengths."""
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def check_names(names: Any) -> None:
    """Raise ValueError unless these can be the names of classes."""
    if not isinstance(names, list) or len(names) > MOST_CLASSES:
        raise ValueError(
            f"{len(names) if isinstance(names, list) else 'no'} categories; 1 to {MOST_CLASSES} can be told"
        )
    for name in names:
        if not isinstance(name, str) or not name.strip() or any("\ud800" <= c <= "\udfff" for c in name):
            raise ValueError(f"a category called {_shown(name)}")


def check_file_name(name: Any) -> None:
    """Raise ValueError unless this names a file in or below the folder of the data set."""
    path = PurePosixPath(name.replace("\\", "/")) if isinstance(name, str) else PurePosixPath("/")
    if path.is_absolute() or ".." in path.parts or not path.name or ":" in path.parts[0] or "\0" in str(name):
        raise ValueError(f"a file_name {_shown(name)} that leaves the data folder")


def _decompressed(counts: str | bytes) -> np.ndarray:
    """COCO's text of run lengths: digits of 5 bits, low ones first, a sixth bit where more follow; from the third
    on each is the difference to the one before the last."""
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        text = b"\0"
    digits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    last = (digits & 32) == 0
    if not len(digits) or (digits < 0).any() or (digits > 63).any() or not last[-1]:
        raise ValueError(f"run lengths {_shown(counts)} that are not COCO's compressed text")
    number = np.cumsum(last) - last  # which number a digit belongs to
    starts = np.flatnonzero(np.r_[True, last[:-1]])
    place = np.arange(len(digits)) - starts[number]
    if place.max() > 10:
        raise ValueError(f"run lengths {_shown(counts)} that are too large")
    values = np.zeros(number[-1] + 1, dtype=np.int64)
    np.add.at(values, number, (digits & 31) << 5 * place)
    negative = (digits & 16 != 0) & last
    values[number[negative]] -= np.int64(1) << 5 * (place[negative] + 1)
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"
