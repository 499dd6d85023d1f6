"""Any picture as upright 8-bit RGB, and the picture files of a folder."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from prevmatch.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
EXIF_ORIENTATION = 0x0112


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The image files below a folder, sorted; hidden ones left out. Raises DataError if there is none."""
    files = sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}); check the folder")
    return files


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says."""
    # exif_transpose copies every image; nearly all need no turn.
    return ImageOps.exif_transpose(image) if image.getexif().get(EXIF_ORIENTATION, 1) != 1 else image


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB; transparency is dropped.

    Values of 16 bits are divided by 257. Whole numbers of 32 bits count as 8 or 16 bits, whichever hold them, and
    fractions also as [0, 1]; anything beyond is stretched from its smallest to its largest value.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    values, kind = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0), values.dtype.kind
    low, high = float(values.min()), float(values.max())
    tops = {"u": (65535,), "i": (255, 65535), "f": (1, 255, 65535)}[kind]
    fitting = [top for top in tops if low >= 0 and high <= top]
    scaled = values * (255 / fitting[0]) if fitting else (values - low) * (255 / ((high - low) or 1))
    return (scaled + 0.5).astype(np.uint8)
