"""What pycocotools would believe is checked, and what is right is read as pycocotools reads it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prevmatch.data.coco_numbers import (
    check_file_name,
    check_names,
    check_polygons,
    draw_runs,
    image_size,
    run_lengths,
)

HUGE = 10**5000


def label(value):
    try:
        return repr(value)[:40]
    except ValueError:  # more digits than Python writes
        return "huge"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_are_read_as_pycocotools_wrote_them(height, width, seed, share):
    mask = pytest.importorskip("pycocotools.mask", reason="the extra `coco` is not installed")
    there = np.random.default_rng(seed).random((height, width)) < share
    rle = mask.encode(np.asfortranarray(there.astype(np.uint8)))
    for counts in (rle["counts"], rle["counts"].decode()):
        lengths = run_lengths({"size": [height, width], "counts": counts}, height, width)
        assert np.array_equal(draw_runs(lengths, height, width), there)
    plain = {"size": [height, width], "counts": lengths.tolist()}
    assert np.array_equal(run_lengths(plain, height, width), lengths)


def test_long_runs_are_read():
    mask = pytest.importorskip("pycocotools.mask", reason="the extra `coco` is not installed")
    there = np.zeros((3000, 4000), dtype=np.uint8, order="F")
    there[10:2900, 5:3000] = 1
    rle = mask.encode(there)
    assert np.array_equal(draw_runs(run_lengths(rle, 3000, 4000), 3000, 4000), there == 1)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (0, 5),
        (5, -1),
        (True, 5),
        (5.0, 5),
        ("5", 5),
        (None, 5),
        ([5], 5),
        (10**9, 10**9),
        (1, HUGE),
        (float("inf"), 1),
    ],
    ids=label,
)
def test_impossible_sizes_are_refused(height, width):
    with pytest.raises(ValueError, match="an image of"):
        image_size(height, width)


@pytest.mark.parametrize(
    "rle",
    [
        None, [], "PPYo0", {}, {"size": [4, 5]}, {"counts": [20]}, {"size": [5, 4], "counts": [20]},
        {"size": [10**9, 10**9], "counts": [10**18]}, {"size": [4, 5], "counts": [19]},
        {"size": [4, 5], "counts": [21]}, {"size": [4, 5], "counts": [30, -10]}, {"size": [4, 5], "counts": [HUGE]},
        {"size": [4, 5], "counts": [2**63, 2**63, 20]}, {"size": [4, 5], "counts": [20.0]},
        {"size": [4, 5], "counts": [True, 19]}, {"size": [4, 5], "counts": ["20"]}, {"size": [4, 5], "counts": ""},
        {"size": [4, 5], "counts": "ooooooooooooooooo0"}, {"size": [4, 5], "counts": "o"},
        {"size": [4, 5], "counts": "é\ud800"}, {"size": [4, 5], "counts": b"\xff\xff"},
        {"size": [4, 5], "counts": "PPYo0" * 9}, {"size": [4, 5], "counts": None}, {"size": [4, 5], "counts": {}},
        {"size": [4, 5], "counts": "kkkkkkkkkk0"}, {"size": [4, 5], "counts": "\n"},
    ],
    ids=label,
)  # fmt: skip
def test_run_lengths_that_lie_are_refused(rle):
    with pytest.raises(ValueError, match="run lengths"):
        run_lengths(rle, 4, 5)


@pytest.mark.parametrize(
    "polygons",
    [
        None, "abc", {}, [None], [["a", "b"]], [[1, 2, None, 4]], [[1, 2, [3], 4]], [[1, 2, 3]], [[True, 1]],
        [[float("nan"), 1.0]], [[1.0, float("inf")]], [[-float("inf"), 1.0]], [[10**9, 1]], [[1, -(10**9)]],
        [[HUGE, 1]], [[1.0, 2.0]] * 500_001,
    ],
    ids=label,
)  # fmt: skip
def test_outlines_that_lie_are_refused(polygons):
    with pytest.raises(ValueError, match="an outline"):
        check_polygons(polygons, 40, 50)


def test_outlines_about_the_image_are_taken():
    check_polygons([[0, 0, 50.0, 0, 50, 40], [-3.5, 4, 60, 4, 9, 9]], 40, 50)
    check_polygons([], 40, 50)
    assert image_size(3000, 4000) == (3000, 4000)


@pytest.mark.parametrize("names", [None, {}, [None], [3], [["a"]], [""], [" "], ["a\ud800"], ["a"] * 255])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="categor"):
        check_names(names)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "", ".", "C:\\a.jpg", "\\\\host\\a.jpg", "a\\..\\..\\b",
     None, 3, ["a.jpg"], "a\0.jpg"],
)  # fmt: skip
def test_files_outside_the_data_folder_are_refused(name):
    with pytest.raises(ValueError, match="leaves the data folder"):
        check_file_name(name)


def test_usual_names_are_taken():
    check_names(["person", "Straße", "写真"])
    for name in ("a.jpg", "sub/a.jpg", "sub\\a.jpg", "a..b.jpg"):
        check_file_name(name)
