"""Maps of classes as polygons that people can edit: few corners, and drawn in their order they give the map back."""

from typing import NamedTuple

import contourpy
import numpy as np

TOLERANCE = 1.0
"""Pixels by which a simplified outline differs at most from the outline of the map."""
SMALLEST = 16
"""Pixels of the smallest piece that gets an outline."""


class Piece(NamedTuple):
    """One connected piece of a class, holes filled."""

    label: int
    corners: np.ndarray
    """float64 (K, 2): x and y in pixels; the first pixel reaches from 0 to 1."""
    area: float
    """Pixels within."""
    inside: bool
    """Whether it keeps away from the border of the image, as what fills a hole does."""


def pieces_of(ids: np.ndarray, *, tolerance: float = TOLERANCE, smallest: int = SMALLEST) -> list[Piece]:
    """The outlines of all pieces in a map of class ids uint8 (H, W), largest first.

    A piece within a hole of another is smaller than that one, so whoever draws them in this order, or puts the smaller
    in front, sees the map again: up to `tolerance` pixels at the outlines, and pieces of fewer than `smallest` pixels.
    """
    found = []
    for label in np.unique(ids):
        padded = np.pad((ids == label).astype(np.float64), 1)
        for traced in contourpy.contour_generator(z=padded).lines(0.5):
            line: np.ndarray = np.asarray(traced)
            area = _area(line)
            if area < smallest:  # negative for a hole
                continue
            corners = _simplified(line[:-1], tolerance) - 0.5
            height, width = ids.shape
            inside = bool((line > 1).all() and (line[:, 0] < width).all() and (line[:, 1] < height).all())
            found.append(Piece(int(label), corners.clip(0, (width, height)), area, inside))
    return sorted(found, key=lambda piece: -piece.area)


def _area(line: np.ndarray) -> float:
    """The signed area within a closed line (K, 2)."""
    x, y = line[:-1].T
    following = line[1:].T
    return float((x * following[1] - y * following[0]).sum() / 2)


def _simplified(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The corners of a closed line (K, 2) that Douglas and Peucker keep: no other point is farther than `tolerance`
    from the line through them."""
    far = int(((points - points[0]) ** 2).sum(1).argmax())
    keep = np.zeros(len(points) + 1, dtype=bool)
    keep[[0, far, len(points)]] = True
    closed = np.vstack([points, points[:1]])
    open_ends = [(0, far), (far, len(points))]
    while open_ends:
        first, last = open_ends.pop()
        if last - first < 2:
            continue
        start, way = closed[first], closed[last] - closed[first]
        between = closed[first + 1 : last] - start
        length = float(np.hypot(*way))
        across = np.hypot(*between.T) if length == 0 else np.abs(between @ np.array([-way[1], way[0]])) / length
        place = int(across.argmax())
        if across[place] > tolerance:
            middle = first + 1 + place
            keep[middle] = True
            open_ends += [(first, middle), (middle, last)]
    return points[keep[:-1]]
