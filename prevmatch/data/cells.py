"""Cells of a table opened as pictures; what cannot be opened is named by its file and id."""

import io
import os
import warnings
from pathlib import Path

from PIL import Image

from prevmatch.data.images import EXIF_ORIENTATION
from prevmatch.errors import DataError


def limit_pixels(most: int) -> None:
    """Refuse to decode images of more than `most` pixels, in this process from now on."""
    Image.MAX_IMAGE_PIXELS = most // 2  # Pillow warns from here on and refuses from twice as many on
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def where(row: dict, column: str) -> str:
    """The file and id of a row's image or mask, for a message."""
    path = row[column]["path"]
    return f"{Path(path)} (id {row['id']!r})" if path else f"the {column} of id {row['id']!r}"


def open_cell(row: dict, column: str, *, header_only: bool = False, small: int | None = None) -> Image.Image:
    """Decode a row's image or mask as it is stored; DataError, naming file and id, if that cannot be done.

    Of a JPEG `small` decodes quickly a smaller picture with sides of at least so many pixels. `info["raw_mode"]` tells
    how the file holds its pixels, which Pillow forgets once they are decoded.
    """
    cell = row[column]
    if cell is None:
        raise DataError(f"image {row['id']!r} has no {column}, but it is listed as labelled")
    path = cell["path"] if cell["bytes"] is None else None
    if path and not os.path.isfile(path) and os.path.exists(path):
        raise DataError(f"{where(row, column)} is no file but a folder, pipe or device; remove it from the lists")
    try:
        image = Image.open(cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))
        arguments = image.tile[0][3] if image.tile else ()
        raw_mode = arguments if isinstance(arguments, str) else next(iter(arguments or ()), "")
        if small is not None:
            image.draft(None, (small, small))
        if image.format == "PPM" and isinstance(arguments, tuple) and arguments[1] not in (255, 65535):
            raw_mode = f"{raw_mode};stretched"  # from the largest value that the file names
        raw_mode, scrambled = str(raw_mode), _is_scrambled(image)
        if not header_only:  # which tells size and mode
            image.load()
        image.info["raw_mode"] = raw_mode
    except FileNotFoundError:
        raise DataError(f"{where(row, column)} is missing; restore it or remove it from the lists") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{where(row, column)} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels and is taken for a "
            "decompression bomb; if it is yours, raise --max_image_pixels"
        ) from None
    except Exception as error:
        raise DataError(
            f"{where(row, column)} cannot be read as an image ({type(error).__name__}); replace the file"
        ) from None
    if scrambled:
        raise DataError(
            f"{where(row, column)} is an uncompressed TIFF with an orientation, which Pillow scrambles; save it as "
            "PNG, or turned and without an orientation"
        )
    return image


def _is_scrambled(image: Image.Image) -> bool:
    """Whether Pillow decodes a picture into rows of another length than it has; seen in its versions up to 13.0."""
    turned = image.format == "TIFF" and image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    return turned and getattr(image, "tile")[0][0] == "raw"  # noqa: B009, an attribute of files only
