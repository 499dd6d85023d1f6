"""What is decided once for all photos: how they lie over their masks, and how many bits they use."""

import numpy as np
import pytest
from PIL import Image

from data.raw_layouts import photo
from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import Source, file_cell, table
from prevmatch.data.survey import orientation, photo_bits
from prevmatch.errors import DataError

IDS = np.repeat(np.arange(4, dtype=np.uint8), 30).reshape(4, 30)[:, :16]


def rows(folder, photos):
    """Rows of photos (size stored, EXIF orientation) with masks (ids, EXIF orientation)."""
    cells = []
    for i, (size, turn, ids, own_turn) in enumerate(photos):
        photo(folder / f"p{i}.jpg", size, exif_orientation=turn, seed=i)
        exif = Image.Exif()
        exif[0x0112] = own_turn or 1
        Image.fromarray(np.ascontiguousarray(ids)).save(folder / f"m{i}.png", exif=exif)
        cells.append((f"p{i}", file_cell(folder / f"p{i}.jpg"), file_cell(folder / f"m{i}.png")))
    return table(*map(list, zip(*cells, strict=True)))


STORED, UPRIGHT = (16, 4), (4, 16)
TURNED = np.rot90(IDS, -1)


@pytest.mark.parametrize(
    ("photos", "expected", "told"),
    [
        (
            [(STORED, 6, IDS, None), (STORED, 3, IDS, None)],
            "stored",
            "all are read stored, the sizes of 1 masks prove",
        ),
        ([(STORED, 6, TURNED, None), (STORED, 3, IDS, None)], "upright", "all are read upright, the sizes of 1 masks"),
        ([(STORED, 6, IDS, 6), (STORED, 3, IDS, 3)], "upright", "all are read upright, the sizes of 1 masks"),
        ([(STORED, 3, IDS, None)], "upright", "all are read upright, no size proves otherwise"),
        ([(STORED, None, IDS, None)], "upright", None),
    ],
)
def test_orientation_is_decided_once_by_the_sizes_that_prove_it(tmp_path, photos, expected, told):
    made = rows(tmp_path, photos)
    how, notes = orientation(made)
    assert how == expected
    assert told is None if not notes else told in notes[0]
    source = Source(train=made, val=made, class_names=tuple("abcd"), palette=((0, 0, 0),) * 4, orientation=how)
    for row, (_, turn, _, _) in zip(made, photos, strict=True):
        image, mask = read_pair(row, source)
        plain = Image.open(row["image"]["path"])
        turns = {None: 0, 3: 2, 6: -1}[turn] if how == "upright" else 0
        assert np.array_equal(np.asarray(image), np.rot90(np.asarray(plain), turns))
        assert image.size == mask.size


def test_photos_that_prove_opposite_things_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"p1\.jpg.* fits the upright photo.*p0\.jpg.* the stored one"):
        orientation(rows(tmp_path, [(STORED, 6, IDS, None), (STORED, 6, TURNED, None)]))


@pytest.mark.parametrize(("largest", "bits"), [(1000, 10), (1904, 12), (4095, 12), (9000, 14), (65535, 16)])
def test_photos_are_stretched_by_the_bits_that_the_data_set_uses(tmp_path, largest, bits):
    cells = []
    for i, top in enumerate((largest // 3, largest)):
        pixels = np.linspace(0, top, 16 * 12).astype(np.uint16).reshape(12, 16)
        Image.fromarray(pixels).save(tmp_path / f"p{i}.png")
        cells.append(file_cell(tmp_path / f"p{i}.png"))
    made = table(["p0", "p1"], cells, [None, None])
    found, notes = photo_bits(made)
    assert found == bits
    assert f"use {bits} bits" in notes[0]
    tops = [np.asarray(read_image(row, bits=found)).max() for row in made]
    assert tops[1] == round(largest * 255 / (2**bits - 1))
    assert tops[0] == pytest.approx(tops[1] / 3, abs=1)  # both by the same factor


def test_photos_of_eight_bits_have_nothing_to_tell(tmp_path):
    photo(tmp_path / "p.png", (8, 6))
    assert photo_bits(table(["p"], [file_cell(tmp_path / "p.png")], [None])) == (None, [])
