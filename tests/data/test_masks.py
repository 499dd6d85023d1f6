"""Mask files of every mode: values exactly as stored, or a refusal that names the file."""

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.masks import stored_mask
from prevmatch.data.sources import file_cell
from prevmatch.errors import DataError

IDS = np.array([[0, 1, 2, 1], [2, 2, 0, 3]], dtype=np.uint8)


def read(path, **options):
    return stored_mask({"id": "a", "image": None, "mask": file_cell(path)}, **options)


def save(path, image, **options):
    image.save(path, **options)
    return path


def palette_image(ids, *, bits=8):
    image = Image.fromarray(ids)
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [7] * (3 * (2**bits - 4)))
    return image


def png16(path, channels, values):
    """A PNG of 16 bits per channel, which Pillow cannot write for several channels."""
    import struct
    import zlib

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


READABLE = {
    "grey.png": lambda path: save(path, Image.fromarray(IDS)),
    "grey.bmp": lambda path: save(path, Image.fromarray(IDS)),
    "grey.tif": lambda path: save(path, Image.fromarray(IDS), compression="tiff_lzw"),
    "grey.gif": lambda path: save(path, palette_image(IDS)),
    "palette.png": lambda path: save(path, palette_image(IDS)),
    "palette2bits.png": lambda path: save(path, palette_image(IDS), bits=2),
    "transparent_palette.png": lambda path: save(path, palette_image(IDS), transparency=b"\0\xff\x80\xff"),
    "grey16.png": lambda path: save(path, Image.fromarray(IDS.astype(np.uint16))),
    "grey16.tif": lambda path: save(path, Image.fromarray(IDS.astype(np.uint16))),
    "int32.tif": lambda path: save(path, Image.fromarray(IDS.astype(np.int32))),
    "float.tif": lambda path: save(path, Image.fromarray(IDS.astype(np.float32))),
    "rgb.png": lambda path: save(path, Image.fromarray(np.repeat(IDS[..., None], 3, axis=2))),
    "opaque.png": lambda path: save(
        path, Image.fromarray(np.concatenate([np.repeat(IDS[..., None], 3, 2), np.full((2, 4, 1), 255, np.uint8)], 2))
    ),
    "grey_and_alpha.png": lambda path: save(path, Image.fromarray(np.stack([IDS, np.full((2, 4), 255, np.uint8)], 2))),
    "lossless.webp": lambda path: save(
        path, Image.fromarray(np.repeat(IDS[..., None], 3, axis=2)), lossless=True, exact=True
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_values_are_read_as_they_are_stored(tmp_path, name):
    stored = read(READABLE[name](tmp_path / name))
    assert stored.numbers() is not None
    assert stored.numbers().tolist() == IDS.tolist()
    assert stored.void is None


@pytest.mark.parametrize(("bits", "raw"), [(1, [[0, 1, 1, 0]]), (2, [[0, 1, 2, 3]]), (4, [[0, 1, 2, 15]])])
def test_grey_of_few_bits_keeps_its_ids(tmp_path, bits, raw):
    import struct
    import zlib

    packed = 0
    for value in raw[0]:
        packed = packed << bits | value
    row = b"\0" + packed.to_bytes(2 if bits == 4 else 1, "big") if bits != 1 else b"\0" + bytes([packed << 4])

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0))
    path = tmp_path / "few.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    stored = read(path)
    assert stored.values.tolist() == raw
    assert stored.colours()[..., 0].tolist() == [[value * 255 // (2**bits - 1) for value in raw[0]]]


def floats(value):
    pixels = IDS.astype(np.float32)
    pixels[0, 0] = value
    return Image.fromarray(pixels)


ALPHA = np.zeros((2, 4, 4), np.uint8)
ALPHA[..., 3] = IDS * 80
REFUSED = {
    "half.tif": (lambda path: save(path, floats(0.5)), "holds the value 0.5, but fractions are none"),
    "nodata.tif": (lambda path: save(path, floats(-9999)), "holds the value -9999, but class ids lie in"),
    "large.tif": (lambda path: save(path, floats(300)), "holds the value 300, but class ids lie in"),
    "infinite.tif": (lambda path: save(path, floats(np.inf)), "holds the value inf, but class ids lie in"),
    "large16.png": (lambda path: save(path, Image.fromarray(IDS.astype(np.uint16) * 257)), "holds the value 257"),
    "negative.tif": (lambda path: save(path, Image.fromarray(IDS.astype(np.int32) - 1)), "holds the value -1"),
    "rgb16.png": (lambda path: png16(path, 3, np.repeat(IDS[..., None], 3, 2)), "has 16 bits per channel"),
    "la16.png": (
        lambda path: png16(path, 2, np.stack([IDS.astype(np.uint16), np.full(IDS.shape, 65535, np.uint16)], 2)),
        "has 16 bits per channel",
    ),
    "rgba16.png": (lambda path: png16(path, 4, np.repeat(IDS[..., None], 4, 2)), "has 16 bits per channel"),
    "alpha.png": (lambda path: save(path, Image.fromarray(ALPHA)), "picture is in its alpha channel"),
    "grey_alpha.png": (
        lambda path: save(path, Image.fromarray(np.ascontiguousarray(ALPHA[..., 2:]))),
        "picture is in its alpha channel",
    ),
    "photo.jpg": (lambda path: save(path, Image.fromarray(IDS)), "compressed with losses"),
    "photo.webp": (lambda path: save(path, Image.fromarray(IDS).convert("RGB"), quality=50), "compressed with losses"),
    "jpeg_in.tif": (
        lambda path: save(path, Image.fromarray(IDS).convert("RGB"), compression="jpeg"),
        "compressed with losses",
    ),
    "cmyk.tif": (lambda path: save(path, Image.fromarray(IDS).convert("CMYK")), "picture of mode CMYK"),
    "lab.tif": (lambda path: save(path, Image.new("LAB", (4, 2))), "picture of mode LAB"),
    "pages.tif": (
        lambda path: save(path, Image.fromarray(IDS), save_all=True, append_images=[Image.fromarray(IDS)]),
        "has 2 pages",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_by_name(tmp_path, name):
    make, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        read(make(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, -9999.0])
def test_nodata_is_ignored_where_the_file_says_what_it_is(tmp_path, value):
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    if value == value:
        tags[42113] = f"{value:g}"
        tags.tagtype[42113] = 2
    stored = read(save(tmp_path / "nodata.tif", floats(value), tiffinfo=tags))
    assert stored.void.tolist() == [[True, False, False, False], [False] * 4]
    assert stored.values.tolist() == IDS.tolist()


def test_blurred_files_are_read_where_the_settings_say_what_they_mean(tmp_path):
    path = save(tmp_path / "soft.jpg", Image.fromarray(np.kron(IDS > 0, np.ones((16, 16))).astype(np.uint8) * 255))
    assert ((read(path, blurred=True).values >= 128) == np.kron(IDS > 0, np.ones((16, 16)))).all()


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("tif", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_mask_is_turned_by_its_own_orientation(tmp_path, suffix, options, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = read(save(tmp_path / f"turned.{suffix}", Image.fromarray(IDS), exif=exif, **options))
    assert stored.values.tolist() == np.rot90(IDS, {1: 0, 3: 2, 6: -1, 8: 1}[orientation]).tolist()


def test_turned_tiff_that_pillow_would_scramble_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    with pytest.raises(DataError, match=r"turned\.tif .* is an uncompressed TIFF with an orientation"):
        read(save(tmp_path / "turned.tif", Image.fromarray(IDS), exif=exif))


def test_pyramid_of_smaller_copies_is_one_mask(tmp_path):
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[254] = 1
    small = Image.fromarray(IDS[:1, :2].copy())
    small.encoderinfo = {"tiffinfo": tags}
    path = save(tmp_path / "pyramid.tif", Image.fromarray(IDS), save_all=True, append_images=[small])
    assert read(path).values.tolist() == IDS.tolist()


@pytest.mark.parametrize("content", [b"P5 4 2 255\n", b"P2 4 2 255\n", b"P5 4 2 65535\n"])
def test_pgm_keeps_its_ids(tmp_path, content):
    values = IDS.astype(">u2").tobytes() if b"65535" in content else IDS.tobytes()
    (tmp_path / "a.pgm").write_bytes(content + (" ".join(map(str, IDS.flat)).encode() if b"P2" in content else values))
    assert np.array_equal(read(tmp_path / "a.pgm").values, IDS)


@pytest.mark.parametrize("content", [b"P5 4 2 3\n" + IDS.tobytes(), b"P2 4 2 3\n0 1 2 1 2 2 0 3\n"])
def test_pgm_whose_values_would_be_stretched_is_refused(tmp_path, content):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.pgm.*another largest value than 255, from which its values are stretched"
    ):
        read(tmp_path / "a.pgm")
