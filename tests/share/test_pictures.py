import numpy as np
from PIL import Image

from prevmatch.share.pictures import colour_mask, grid, legend, overlay, painted, stacked


def test_ids_get_their_colours_and_ignored_pixels_become_white():
    ids = np.array([[0, 1], [255, 7]], dtype=np.uint8)
    assert np.asarray(colour_mask(ids, [(1, 2, 3), (4, 5, 6)])).tolist() == [
        [[1, 2, 3], [4, 5, 6]],
        [[255, 255, 255], [255, 255, 255]],
    ]


def test_without_a_palette_classes_still_differ():
    picture = np.asarray(colour_mask(np.arange(21, dtype=np.uint8)[None]))
    assert len({tuple(colour) for colour in picture[0]}) == 21


def test_over_a_photo_black_classes_are_clear_and_ignored_pixels_are_white():
    photo = Image.new("RGB", (3, 1), (100, 100, 100))
    ids = np.array([[0, 1, 255]], dtype=np.uint8)
    assert np.asarray(painted(photo, ids, [(0, 0, 0), (200, 0, 0)])).tolist() == [
        [[100, 100, 100], [150, 50, 50], [177, 177, 177]]
    ]


def test_the_legend_of_an_overlay_has_an_empty_square_for_a_clear_class():
    photo = Image.new("RGB", (400, 10), (100, 100, 100))
    drawn = np.asarray(overlay(photo, np.zeros((10, 400), dtype=np.uint8), ["background", "cat"]))
    assert (drawn[:10] == 100).all()
    assert drawn[10 + 6 + 7, 6 + 7].tolist() == [255, 255, 255]  # the middle of the first square


def test_grid_holds_every_picture_at_its_place():
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    sheet = np.asarray(grid([[red, blue], [blue, red]], ["a", "b"], width=40))
    middle = [(x, y) for y in (28 + 10, 28 + 26 + 10) for x in (6 + 20, 52 + 20)]
    assert [tuple(sheet[y, x]) for x, y in middle] == [(255, 0, 0), (0, 0, 255), (0, 0, 255), (255, 0, 0)]


def test_legend_wraps_within_its_width():
    names = [f"class number {i}" for i in range(12)]
    strip = legend(names, [(i, i, i) for i in range(12)], width=300)
    assert strip.width == 300
    assert strip.height > 4 * 22
    assert stacked(strip, strip).height == 2 * strip.height
