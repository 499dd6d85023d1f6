"""Outlines that people drew, of any tool, as mask cells: one form that `data.instances` draws."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.coco_numbers import image_size
from prevmatch.data.instances import BACKGROUND, BACKGROUNDS, check_outline
from prevmatch.data.texts import NOT_A_CLASS
from prevmatch.errors import DataError

Point = tuple[float, float]
Outline = list[list[float]] | dict[str, Any]
"""Polygons, x and y in turns, or run lengths."""


def cell(size: tuple[int, int], shapes: Sequence[tuple[int, Outline]], file: Path) -> dict:
    """Mask cell of an image (width, height) with (class id, outline) pairs; later ones lie over earlier ones.

    Raises DataError, naming the `file` that they are from, for numbers that cannot be.
    """
    try:
        height, width = image_size(size[1], size[0])
        for _, outline in shapes:
            check_outline(outline, (height, width))
    except ValueError as error:
        raise DataError(f"{file} has {error}; export it again") from error
    objects = [[label, len(shapes) - place, outline] for place, (label, outline) in enumerate(shapes)]
    return {"bytes": json.dumps({"size": [height, width], "objects": objects}).encode(), "path": None}


def class_ids(names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names, background first, and the id of each name that a tool uses; what it calls ignored is 255."""
    plain = {name: name.strip() for name in names}
    kinds = [name for name in dict.fromkeys(plain.values()) if name.lower() not in (*BACKGROUNDS, *NOT_A_CLASS)]
    ids = {name: 1 + kinds.index(bare) if bare in kinds else 0 for name, bare in plain.items()}
    return (BACKGROUND, *kinds), ids | dict.fromkeys(NOT_A_CLASS, IGNORE_INDEX)


def polygon(points: Sequence[Sequence[float]]) -> Outline:
    """A polygon through points."""
    return [[float(value) for point in points for value in point[:2]]]


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def turned(outline: Outline, degrees: float, x: float, y: float) -> Outline:
    """A polygon turned clockwise, as tools have it, about a point."""
    assert isinstance(outline, list)
    angle = np.deg2rad(degrees)
    points = np.reshape(outline, (-1, 2)) - (x, y)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return polygon((points @ turn + (x, y)).tolist())


def ellipse(x: float, y: float, width: float, height: float) -> Outline:
    """An ellipse with its centre and its two radii."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return polygon(np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1).tolist())


def run_lengths(mask: np.ndarray) -> Outline:
    """The pixels of a mask, bool (H, W), as run lengths down its columns, the first one of what is not set."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"counts": np.diff([0, *ends, mask.size]).tolist(), "size": list(mask.shape)}


def require_outlines(file: Path, boxes: int, shapes: int) -> None:
    """Raise DataError if all shapes that a file has are boxes."""
    if boxes and boxes == shapes:
        raise DataError(
            f"{file} has boxes without outlines only ({boxes}), which say too little for segmentation; export "
            "polygons or masks"
        )


def boxes_note(count: int) -> list[str]:
    """What to tell about objects that are boxes only."""
    return [f"{count} objects are boxes without an outline; their pixels are ignored"] * bool(count)


def unread_note(kinds: Counter[str], photos: int) -> list[str]:
    """What to tell about annotations without area or label, by their kinds, and about photos with no others."""
    what = f"{kinds.total()} annotations have no area or no label and are left out ({', '.join(sorted(kinds))})"
    return [what + f"; {photos} photos have no others and count as unlabelled" * bool(photos)] * bool(kinds)
