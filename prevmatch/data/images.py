"""Any picture as upright 8-bit RGB."""

from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, features

from prevmatch.errors import DataError

EXIF_ORIENTATION = 0x0112
AVIF, HEIF = ((".avif",) if features.check("avif") else ()), ((".heic", ".heif") if find_spec("pillow_heif") else ())
"""Suffixes that this installation of Pillow reads beyond the usual ones."""

if HEIF:  # the extra `heic`
    import pillow_heif

    pillow_heif.register_heif_opener()


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says."""
    # exif_transpose copies every image; nearly all need no turn.
    return ImageOps.exif_transpose(image) if image.getexif().get(EXIF_ORIENTATION, 1) != 1 else image


def as_rgb(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Convert a picture of any mode to RGB; transparency is dropped.

    Values in files of 16 bits use `bits` of them: 10, 12, 14 or 16; None takes as few as hold the largest one. Whole
    numbers of 32 bits count as 8 or 16 bits, whichever hold them, and fractions also as [0, 1]; anything beyond is
    stretched from its smallest to its largest value.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), bits))
    return image.convert("RGB")


def bits_of(largest: float) -> int:
    """The bits that cameras and scanners use to store values up to `largest`: 10, 12, 14 or 16."""
    return next((bits for bits in (10, 12, 14) if largest < 2**bits), 16)


def _eight_bits(values: np.ndarray, bits: int | None) -> np.ndarray:
    values, kind = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0), values.dtype.kind
    low, high = float(values.min()), float(values.max())
    tops = {"u": (2 ** (bits or bits_of(high)) - 1,), "i": (255, 65535), "f": (1, 255, 65535)}[kind]
    fitting = [top for top in tops if low >= 0 and high <= top]
    scaled = values * (255 / fitting[0]) if fitting else (values - low) * (255 / ((high - low) or 1))
    return (scaled + 0.5).clip(0, 255).astype(np.uint8)


def upright_size(file: Path | BinaryIO) -> tuple[int, int]:
    """Width and height of an image file as it is seen, turned as its EXIF says; DataError if it is none."""
    try:
        with Image.open(file) as image:
            turned = image.format != "TIFF" and image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except OSError as error:
        name = file if isinstance(file, Path) else "the image in a file"
        raise DataError(f"{name} cannot be read as an image ({type(error).__name__}); replace the file") from None
