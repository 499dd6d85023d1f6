"""Outlines: drawn one after the other, by the rules of labelling tools, they give the map back."""

import numpy as np
import pytest
from matplotlib.path import Path
from PIL import Image, ImageDraw

from prevmatch.share.tracing import pieces_of


def drawn(found, shape, background=0):
    """As labelme draws polygons: pixels are points, the outline itself counts."""
    picture = Image.new("L", (shape[1], shape[0]), background)
    for piece in found:
        ImageDraw.Draw(picture).polygon([tuple(p - 0.5) for p in piece.corners], fill=piece.label)
    return np.array(picture)


def blobs(seed, shape=(90, 120), classes=4):
    """A map of a few large areas, discs in them and holes in these."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    ids = np.where(y + 10 * np.sin(x / 15) > shape[0] * 0.6, 1, 0)
    for _ in range(6):
        cx, cy, radius = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(8, 25)
        away = np.hypot(x - cx, y - cy)
        label = rng.integers(classes)
        ids = np.where(away < radius, label, ids)
        ids = np.where(away < radius / 2, rng.integers(classes), ids)
    return ids.astype(np.uint8)


def near_an_edge(ids, reach):
    """Pixels with another class, or the image's end, at most `reach` pixels away."""
    padded = np.pad(ids, reach, constant_values=254)
    height, width = ids.shape
    views = [padded[i : i + height, j : j + width] for i in range(2 * reach + 1) for j in range(2 * reach + 1)]
    return np.any([view != ids for view in views], axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_map_comes_back_but_for_a_pixel_or_two_at_the_edges(seed):
    ids = blobs(seed)
    found = pieces_of(ids, smallest=1)
    back = drawn(found, ids.shape)
    wrong = back != ids
    assert not (wrong & ~near_an_edge(ids, 3)).any()
    assert wrong.mean() < 0.06
    assert sum(len(piece.corners) for piece in found) < 40 * len(found)


def test_without_tolerance_the_map_comes_back_whole():
    ids = np.zeros((40, 50), dtype=np.uint8)
    ids[5:30, 5:40] = 1
    ids[10:25, 10:30] = 0
    ids[14:20, 14:22] = 2
    found = pieces_of(ids, tolerance=0, smallest=1)
    assert [(piece.label, piece.inside) for piece in found] == [(0, False), (1, True), (0, True), (2, True)]
    centres = np.stack(np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5), axis=-1).reshape(-1, 2)
    back = np.zeros_like(ids)
    for piece in found:
        back[Path(piece.corners).contains_points(centres).reshape(ids.shape)] = piece.label
    assert np.array_equal(back, ids)


def test_specks_get_no_outline():
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[10:13, 10:13] = 1
    assert [piece.label for piece in pieces_of(ids)] == [0]
    assert pieces_of(ids, smallest=4)[1].label == 1


def test_corners_stay_in_the_image():
    for piece in pieces_of(blobs(3)):
        assert (piece.corners >= 0).all()
        assert (piece.corners <= (120, 90)).all()
