import numpy as np
import pytest

from prevmatch.data.colours import named_palette, palette_colours, read_colours
from prevmatch.errors import DataError

LABELMAP = """# label:color_rgb:parts:actions
background:0,0,0::
traffic light:250,50,83::
"""


def test_cvats_labelmap_and_plain_lines_are_read(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text(LABELMAP)
    assert read_colours(path) == {"background": (0, 0, 0), "traffic light": (250, 50, 83)}
    path.write_text("leaf: 1, 2, 3\n\nstem :4,5,6\n")
    assert read_colours(path) == {"leaf": (1, 2, 3), "stem": (4, 5, 6)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leaf 1 2 3", "line 1: .* is not `name: r, g, b`"),
        ("leaf: 1, 2, 300", "is not `name: r, g, b` with values up to 255"),
        ("a: 1,2,3\nb: 1,2,3", "line 2: .* there twice"),
        ("a: 1,2,3\na: 1,2,4", "line 2: .* there twice"),
        ("# nothing", "names no class"),
    ],
)
def test_lines_that_say_nothing_are_named(tmp_path, text, message):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_colours(tmp_path / "c.txt")


def test_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"c\.txt cannot be read"):
        read_colours(tmp_path / "c.txt")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfa")
    with pytest.raises(DataError, match="cannot be read"):
        read_colours(tmp_path / "c.txt")


def test_palettes_are_recognised_by_their_colours():
    assert named_palette(np.array([(0, 0, 0), (128, 0, 0), (224, 224, 192)])) == "voc"
    assert named_palette(np.array([(0, 0, 0), (244, 35, 232)])) == "cityscapes"
    assert named_palette(np.array([(1, 2, 3)])) is None


def test_border_and_black_are_ignored():
    assert palette_colours("voc")[(224, 224, 192)] == 255
    assert palette_colours("cityscapes")[(0, 0, 0)] == 255
    assert palette_colours("cityscapes")[(128, 64, 128)] == 0
