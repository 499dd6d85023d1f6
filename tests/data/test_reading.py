"""What can be wrong with files, and what the user is told."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.reading import read_image, read_mask, read_pair
from prevmatch.data.sources import Source, table
from prevmatch.errors import DataError


@pytest.fixture
def files(tmp_path):
    """A readable image of 8×6 with a mask of classes 0..2 and 255."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    ids = rng.integers(0, 3, (6, 8), dtype=np.uint8)
    ids[0, 0] = 255
    Image.fromarray(ids).save(tmp_path / "a.png")
    return tmp_path


@pytest.fixture
def source():
    empty = table([], [], [])
    return Source(train=empty, val=empty, class_names=("x", "y", "z"), palette=((0, 0, 0),) * 3)


def row(folder, image="a.jpg", mask="a.png"):
    cell = {"path": str(folder / mask), "bytes": None} if mask else None
    return {"id": "a", "image": {"path": str(folder / image), "bytes": None}, "mask": cell}


def test_pair_is_read_as_rgb_and_ids(files, source):
    image, mask = read_pair(row(files), source)
    assert (image.mode, image.size, mask.size) == ("RGB", (8, 6), (8, 6))
    assert set(np.unique(mask)) <= {0, 1, 2, 255}


def test_palette_masks_give_their_indices_not_their_colours(files, source):
    ids = np.asarray(Image.open(files / "a.png"))
    coloured = Image.fromarray(ids)
    coloured.putpalette([200, 10, 10] * 256)
    coloured.save(files / "p.png")
    assert np.array_equal(read_mask(row(files, mask="p.png"), source), ids)


def test_label_map_renames_ids(files, source):
    mapped = dataclasses.replace(source, label_map=(255, 0, 1, *(255 for _ in range(253))))
    ids = np.asarray(read_mask(row(files), source))
    expected = np.where(ids == 255, 255, ids.astype(int) - 1) % 256
    assert np.array_equal(read_mask(row(files), mapped), expected.astype(np.uint8))


def test_image_size_is_the_long_side(files, source):
    image, mask = read_pair(row(files), source, image_size=4)
    assert image.size == mask.size == (4, 3)


def refused(message, *call):
    with pytest.raises(DataError, match=message) as caught:
        call[0](*call[1:])
    assert "\n" not in str(caught.value)


def test_missing_image_is_named(files):
    refused(r"b\.jpg \(id 'a'\) is missing", read_image, row(files, image="b.jpg"))


def test_unreadable_image_is_named(files):
    (files / "b.jpg").write_bytes((files / "a.jpg").read_bytes()[:200])
    refused(r"b\.jpg \(id 'a'\) cannot be read", read_image, row(files, image="b.jpg"))
    (files / "c.jpg").write_text("not an image")
    refused(r"c\.jpg \(id 'a'\) cannot be read", read_image, row(files, image="c.jpg"))


def test_missing_mask_is_named(files, source):
    refused(r"b\.png \(id 'a'\) is missing", read_pair, row(files, mask="b.png"), source)
    refused("'a' has no mask, but it is listed as labelled", read_pair, row(files, mask=None), source)


def test_class_ids_beyond_the_class_count_are_named_with_their_file(files, source):
    two = dataclasses.replace(source, class_names=("x", "y"), palette=((0, 0, 0),) * 2)
    refused(r"a\.png \(id 'a'\) holds class id 2, but there are 2 classes", read_pair, row(files), two)


def test_colour_masks_are_refused(files, source):
    Image.open(files / "a.jpg").save(files / "colours.png")
    refused(r"colours\.png .* picture in colours .* no palette known here: add --mask_colours FILE", read_mask,
            row(files, mask="colours.png"), source)  # fmt: skip
    refused(r"a\.jpg .* is a JPEG that was compressed with losses.*--mask_threshold 128", read_mask,
            row(files, mask="a.jpg"), source)  # fmt: skip


def test_16_bit_masks_are_read_if_their_ids_fit(files, source):
    Image.fromarray(np.full((6, 8), 2, dtype=np.uint16)).save(files / "w.png")
    assert np.unique(read_mask(row(files, mask="w.png"), source)).tolist() == [2]
    Image.fromarray(np.full((6, 8), 700, dtype=np.uint16)).save(files / "w.png")
    refused("holds the value 700", read_mask, row(files, mask="w.png"), source)


def test_sizes_that_differ_are_named(files, source):
    Image.new("L", (8, 7)).save(files / "b.png")
    refused(r"b\.png .* is 8×7 but its image .*a\.jpg .* is 8×6", read_pair, row(files, mask="b.png"), source)
